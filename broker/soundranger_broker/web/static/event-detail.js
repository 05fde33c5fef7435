// One event, opened: all that is known of it, and what it rests on.

import { address } from "./api.js";
import { eventLink, incidentLink, nodeLink } from "./address.js";
import { element } from "./dom.js";
import { facts, linkButton, placeButtons, positionFact } from "./facts.js";
import { bearing, count, localDateTime, localTime, metres, percent, place, seconds } from "./format.js";
import { sentenceALine, signedMs, unit, utcDateTime, wind, zoneName } from "./format.js";
import { distanceM } from "./geodesy.js";
import { revisionList } from "./revisions.js";
import { eventSign } from "./signs.js";

const STATUS = {
  preliminary: "Preliminary: it may still move or be withdrawn.",
  final: "Final",
  retracted: "Retracted: this was not an event.",
};
const EXPORTS = { csv: "CSV", kml: "KML", geojson: "GeoJSON" };

export function eventHead(event) {
  return [
    element(
      "h2",
      { tabindex: -1, class: "detail-title", "data-status": event.status },
      eventSign(event),
      element("span", {}, `${event.label ?? "Impulse"} at ${localTime(event.time_ns)}`),
    ),
    element("p", { class: "status", "data-status": event.status }, STATUS[event.status]),
    event.reason ? element("p", { class: "reason" }, sentenceALine(event.reason)) : null,
  ].filter(Boolean);
}

export function eventFacts(event, shot, actions) {
  return [
    facts([
      [`Local (${zoneName(event.time_ns)})`, localDateTime(event.time_ns)],
      ["UTC", utcDateTime(event.time_ns)],
      positionFact(event),
      ["95 % ellipse", ellipseText(event.ellipse95)],
      ...(event.alternatives ?? []).map((other) => [
        "Or perhaps at",
        `${place(other.lat, other.lon)}, ${metres(distanceM(event, other))} from here: ${percent(other.probability)}`,
      ]),
      ["Time, 1 σ", `± ${seconds(event.time_sigma_s)}`],
      ["Probability", percent(event.probability)],
      ["Speed of sound", unit(event.speed_of_sound_mps, 1, "m/s")],
      ["Wind", event.wind_mps ? wind(...event.wind_mps) : "not known"],
      shot ? ["Simulated shot", `${metres(distanceM(shot, event))} from here`] : null,
    ]),
    placeButtons(event, actions.zoom, linkButton(eventLink(event.id))),
  ];
}

export function arrivalPart(event, traces, actions) {
  return [
    element("h3", {}, "Arrivals"),
    arrivalTable(traces, actions),
    ...(event.silent.length > 0
      ? [element("h3", {}, "Silent, though near enough to hear it"), nodeNames(event.silent, actions.picture)]
      : []),
  ];
}

export function incidentPart(incident, event, picture) {
  const siblings = incident.events
    .filter((id) => id !== event.id && picture.events.has(id))
    .map((id) => picture.events.get(id))
    .sort((one, other) => one.time_ns - other.time_ns);
  const from = localTime(incident.start_time_ns);
  const to = localTime(incident.end_time_ns);
  const text = `${count(incident.rounds, "round")} from ${from} to ${to}`;
  return [
    element("h3", {}, "Incident"),
    element("p", {}, element("a", { class: "tap", href: incidentLink(incident.id) }, text)),
    element(
      "ul",
      { class: "names" },
      ...siblings.map((other) =>
        element("li", {}, element("a", { href: eventLink(other.id) }, localTime(other.time_ns, 2))),
      ),
    ),
  ];
}

export function recordPart(event, detail) {
  return [
    element("h3", {}, "Revisions"),
    revisionList(detail.revisions),
    element("h3", {}, "Evidence and export"),
    element("ul", { class: "downloads" }, ...downloads(event).map(([href, text]) => element("li", {}, download(href, text)))),
  ];
}

export const finePrint = (event) => element("p", { class: "fine-print" }, `Event ${event.id}, revision ${event.revision}`);

const download = (href, text) => element("a", { class: "button", href, download: "" }, text);

// Exports go by filters: the millisecond of the event holds nothing else.
function downloads(event) {
  const millisecond = Math.floor(event.time_ns / 1e6);
  const [since, until] = [millisecond, millisecond + 1].map((time) => new Date(time).toISOString());
  const query = new URLSearchParams({ since, until });
  return [
    [address(`events/${encodeURIComponent(event.id)}/bundle`), "Evidence bundle (ZIP)"],
    ...Object.entries(EXPORTS).map(([kind, text]) => [address(`export/events.${kind}`, query), text]),
  ];
}

function ellipseText(ellipse) {
  return `${metres(ellipse.semi_major_m)} × ${metres(ellipse.semi_minor_m)}, bearing ${bearing(ellipse.bearing_deg)}`;
}

function arrivalTable(traces, actions) {
  const heard = traces.filter((trace) => trace.arrivedS !== null);
  const hasSound = heard.some((trace) => trace.sound);
  const names = ["Node", "Distance", "Late by, ms", "Used", ...(hasSound ? ["Sound"] : [])];
  const head = names.map((text) => element("th", { scope: "col" }, text));
  return element(
    "table",
    { class: "arrivals" },
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...heard.map((trace) => arrivalRow(trace, actions, hasSound))),
  );
}

function arrivalRow(trace, { picture, listen }, hasSound) {
  const button = () =>
    element(
      "button",
      { type: "button", class: "listen", "aria-label": `Play ${trace.node}`, onclick: () => listen(trace.detection) },
      "▶",
    );
  return element(
    "tr",
    { class: trace.used ? null : "is-unused" },
    element("th", { scope: "row" }, nodeName(trace.node, picture)),
    element("td", {}, metres(trace.distanceM)),
    element("td", {}, signedMs(trace.residualS)),
    element("td", {}, trace.used ? "yes" : "no"),
    hasSound ? element("td", {}, trace.sound ? button() : "–") : null,
  );
}

function nodeNames(names, picture) {
  return element("ul", { class: "names" }, ...names.map((name) => element("li", {}, nodeName(name, picture))));
}

// A node that never reported has no page to go to.
function nodeName(name, picture) {
  return picture.nodes.has(name) ? element("a", { href: nodeLink(name) }, name) : name;
}
