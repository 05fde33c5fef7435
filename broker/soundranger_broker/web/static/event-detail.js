// One event, opened: all that is known of it, and what it rests on.

import { backLink, eventLink, nodeLink } from "./address.js";
import { element } from "./dom.js";
import { facts, placeButtons, positionFact } from "./facts.js";
import { bearing, count, localDateTime, localTime, metres, percent, place, seconds } from "./format.js";
import { sentenceALine, signedMs, unit, utcDateTime, wind, zoneName } from "./format.js";
import { distanceM } from "./geodesy.js";
import { eventSign } from "./signs.js";

const STATUS = {
  preliminary: "Preliminary: it may still move or be withdrawn.",
  final: "Final",
  retracted: "Retracted: this was not an event.",
};

export function eventDetail(event, incident, shot, picture, onZoom) {
  return [
    backLink(),
    element(
      "h2",
      { tabindex: -1, class: "detail-title", "data-status": event.status },
      eventSign(event),
      element("span", {}, `${event.label ?? "Impulse"} at ${localTime(event.time_ns)}`),
    ),
    element("p", { class: "status", "data-status": event.status }, STATUS[event.status]),
    event.reason ? element("p", { class: "reason" }, sentenceALine(event.reason)) : null,
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
    placeButtons(event, onZoom),
    element("h3", {}, "Arrivals"),
    arrivalTable(event.arrivals, picture),
    event.silent.length > 0 ? element("h3", {}, "Silent, though near enough to hear it") : null,
    event.silent.length > 0 ? nodeNames(event.silent, picture) : null,
    ...(incident ? incidentPart(incident, event, picture) : []),
    element("p", { class: "fine-print" }, `Event ${event.id}, revision ${event.revision}`),
  ].filter(Boolean);
}

function ellipseText(ellipse) {
  return `${metres(ellipse.semi_major_m)} × ${metres(ellipse.semi_minor_m)}, bearing ${bearing(ellipse.bearing_deg)}`;
}

function arrivalTable(arrivals, picture) {
  const nearest = [...arrivals].sort((one, other) => one.distance_m - other.distance_m);
  const head = ["Node", "Distance", "Late by, ms", "Used"].map((text) => element("th", { scope: "col" }, text));
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...nearest.map((arrival) => arrivalRow(arrival, picture))),
  );
}

function arrivalRow(arrival, picture) {
  return element(
    "tr",
    { class: arrival.used ? null : "is-unused" },
    element("th", { scope: "row" }, nodeName(arrival.node, picture)),
    element("td", {}, metres(arrival.distance_m)),
    element("td", {}, signedMs(arrival.residual_s)),
    element("td", {}, arrival.used ? "yes" : "no"),
  );
}

function nodeNames(names, picture) {
  return element("ul", { class: "names" }, ...names.map((name) => element("li", {}, nodeName(name, picture))));
}

// A node that never reported has no page to go to.
function nodeName(name, picture) {
  return picture.nodes.has(name) ? element("a", { href: nodeLink(name) }, name) : name;
}

function incidentPart(incident, event, picture) {
  const siblings = incident.events
    .filter((id) => id !== event.id && picture.events.has(id))
    .map((id) => picture.events.get(id))
    .sort((one, other) => one.time_ns - other.time_ns);
  const from = localTime(incident.start_time_ns);
  const to = localTime(incident.end_time_ns);
  return [
    element("h3", {}, "Incident"),
    element("p", {}, `${count(incident.rounds, "round")} from ${from} to ${to}`),
    element(
      "ul",
      { class: "names" },
      ...siblings.map((other) =>
        element("li", {}, element("a", { href: eventLink(other.id) }, localTime(other.time_ns, 2))),
      ),
    ),
  ];
}
