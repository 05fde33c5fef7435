// The list of incidents, and one incident opened: its rounds, and how fast they came.

import { backLink, incidentLink } from "./address.js";
import { ask } from "./api.js";
import { element, reconcile, setText } from "./dom.js";
import { showEvents } from "./event-items.js";
import { facts, linkButton } from "./facts.js";
import { eventOf, reviewOf } from "./features.js";
import { ago, count, localDateTime, localTime, place, span, unit, utcDateTime, zoneName } from "./format.js";
import { IncidentStrip, pauseText } from "./incident-strip.js";
import { listTabs, zoneNote } from "./list-head.js";

// One round alone is an event like any other.
const FEWEST_ROUNDS = 2;
const PAGE = 100;

export class IncidentListView {
  constructor(refresh) {
    this.refresh = refresh;
    this.older = new Map();
    this.next = "";
    this.more = element("button", { type: "button", class: "more", onclick: () => this._load() }, "Older incidents");
  }

  show(panel, { picture, nowMs }) {
    panel.build(["incidents"], () => [
      element("h2", { tabindex: -1 }, "Incidents"),
      listTabs("incidents"),
      element("p", { class: "empty" }),
      element("ol", { class: "list incidents" }),
      this.more,
      zoneNote(nowMs),
    ]);
    const all = new Map([...this.older, ...picture.incidents]);
    const incidents = [...all.values()]
      .filter((incident) => incident.rounds >= FEWEST_ROUNDS)
      .sort((one, other) => other.start_time_ns - one.start_time_ns);
    panel.setEmpty(incidents.length === 0, "No rounds that belong together are known here.");
    this.more.hidden = this.next === null;
    reconcile(panel.find("ol.list"), incidents, (incident) => incident.id, makeItem, (item, incident) =>
      updateItem(item, incident, nowMs),
    );
  }

  async _load() {
    const query = new URLSearchParams({ limit: PAGE, ...(this.next && { cursor: this.next }) });
    const page = await ask("incidents", query).catch(() => ({ features: [], next: null }));
    for (const feature of page.features) this.older.set(feature.id, incidentOf(feature));
    this.next = page.next;
    this.refresh();
  }
}

export class IncidentView {
  constructor(picture, refresh) {
    this.picture = picture;
    this.refresh = refresh;
    this.strip = new IncidentStrip();
    this.id = "";
    this.fetched = null;
    this.problem = null;
    this.shown = [];
  }

  show(panel, { selection, nowMs }) {
    if (selection.id !== this.id) this._open(selection.id);
    const incident = this._incident();
    this.shown = incident ? this._events(incident) : [];
    if (!incident) {
      panel.build(["incident", this.id, this.problem], () => [
        backLink(),
        element("h2", { tabindex: -1 }, "Incident"),
        element("p", { class: "empty", role: "status" }, this.problem ?? "Looking for this incident…"),
      ]);
      return;
    }
    const rounds = [...this.shown].reverse();
    const revisions = rounds.map((event) => `${event.id}/${event.revision}`).join();
    panel.build(["incident", this.id, incident, revisions], () => this._elements(incident, rounds));
    this.strip.show(rounds);
    const list = panel.find("ol.list");
    showEvents(list, rounds, { reviews: this.picture.reviews, nowMs });
    rounds.forEach((event, index) => setText(list.children[index].querySelector(".item-age"), pause(rounds, index)));
  }

  events() {
    return this.shown;
  }

  receive(kind, message) {
    if (kind === "snapshot" || (kind === "incident" && message.id === this.id)) this._fetch();
  }

  leave() {
    this.id = "";
  }

  _open(id) {
    Object.assign(this, { id, fetched: null, problem: null });
    this._fetch();
  }

  async _fetch() {
    const id = this.id;
    if (id === "") return;
    try {
      const fetched = await ask(`incidents/${encodeURIComponent(id)}`);
      if (id !== this.id) return;
      this.fetched = fetched;
      for (const feature of fetched.events) this.picture.recall(eventOf(feature), reviewOf(feature));
    } catch (problem) {
      if (id === this.id) this.problem = problem.message;
    }
    this.refresh();
  }

  // Told live, or as stored: whichever is newer.
  _incident() {
    const live = this.picture.incidents.get(this.id);
    const stored = this.fetched?.incident;
    return (live?.revision ?? -1) >= (stored?.revision ?? -1) ? (live ?? stored) : stored;
  }

  _events(incident) {
    const stored = new Map((this.fetched?.events ?? []).map((feature) => [feature.id, eventOf(feature)]));
    return incident.events
      .map((id) => this.picture.events.get(id) ?? stored.get(id))
      .filter((event) => event && event.status !== "retracted")
      .sort((one, other) => other.time_ns - one.time_ns);
  }

  _elements(incident, rounds) {
    return [
      backLink(),
      element("h2", { tabindex: -1 }, `${count(incident.rounds, "round")} at ${localTime(incident.start_time_ns, 0)}`),
      this.strip.element,
      facts([
        [`Local (${zoneName(incident.start_time_ns)})`, localDateTime(incident.start_time_ns)],
        ["UTC", utcDateTime(incident.start_time_ns)],
        ["Position", element("span", { class: "position" }, place(incident.lat, incident.lon))],
        ...cadence(rounds),
      ]),
      element("div", { class: "buttons" }, linkButton(incidentLink(incident.id))),
      element("h3", {}, "Rounds"),
      element("ol", { class: "list events rounds" }),
      element("p", { class: "fine-print" }, `Incident ${incident.id}, revision ${incident.revision}`),
    ];
  }
}

// Returns how fast rounds came, as facts.
export function cadence(rounds) {
  if (rounds.length < FEWEST_ROUNDS) return [];
  const times = rounds.map((event) => event.time_ns / 1e9);
  const pauses = times.slice(1).map((time, index) => time - times[index]);
  const lengthS = times.at(-1) - times[0];
  const sorted = [...pauses].sort((one, other) => one - other);
  const middle = sorted[Math.floor(sorted.length / 2)];
  return [
    ["Lasted", lengthS < 60 ? unit(lengthS, 2, "s") : span(lengthS)],
    ["Between rounds", `${pauseText(sorted[0])} to ${pauseText(sorted.at(-1))}\u00a0s, mostly about ${pauseText(middle)}\u00a0s`],
    ["Rounds a minute", lengthS > 0 ? String(Math.round((60 * pauses.length) / lengthS)) : "at once"],
  ];
}

function pause(rounds, index) {
  return index === 0 ? "first" : `${pauseText((rounds[index].time_ns - rounds[index - 1].time_ns) / 1e9)}\u00a0s later`;
}

function incidentOf({ id, geometry, properties }) {
  const { revision, start_ns, end_ns, rounds, events } = properties;
  const [lon, lat] = geometry.coordinates;
  return { id, lat, lon, revision, rounds, events, start_time_ns: start_ns, end_time_ns: end_ns };
}

function makeItem(incident) {
  return element(
    "li",
    {},
    element(
      "a",
      { href: incidentLink(incident.id) },
      element("span", { class: "item-rounds" }),
      element("span", { class: "item-title" }, localTime(incident.start_time_ns)),
      element("span", { class: "item-size" }),
      element("span", { class: "item-more" }),
      element("span", { class: "item-age" }),
    ),
  );
}

function updateItem(item, incident, nowMs) {
  const lengthS = (incident.end_time_ns - incident.start_time_ns) / 1e9;
  setText(item.querySelector(".item-rounds"), String(incident.rounds));
  setText(item.querySelector(".item-size"), count(incident.rounds, "round"));
  setText(item.querySelector(".item-more"), `${localDateTime(incident.start_time_ns).slice(0, 10)}, within ${unit(lengthS, 1, "s")}`);
  setText(item.querySelector(".item-age"), ago(incident.end_time_ns, nowMs));
}
