// What the page knows now: the browser's copy of the server's picture, and the events from before it.

import { distanceM } from "./geodesy.js";

// A day of the busiest night, and still a map that moves at once.
const MAX_EVENTS = 5000;
const MAX_OTHERS = 1000;
const MAX_REFUSALS = 50;
// A node reports every 30 s: three reports missing is no accident.
const STALE_AFTER_MS = 90_000;
// A simulated shot and an event this close in time are one and the same.
const SAME_SHOT_NS = 0.5e9;

export class Picture {
  constructor() {
    this.replace({ nodes: [], events: [], refusals: [], incidents: [], shots: [], figures: null, centre: null });
    this.isKnown = false;
  }

  replace(snapshot) {
    this.nodes = new Map(snapshot.nodes.map((node) => [node.node, node]));
    this.events = new Map(snapshot.events.map((event) => [event.id, event]));
    this.reviews = new Map(Object.entries(snapshot.reviews ?? {}));
    this.incidents = new Map(snapshot.incidents.map((incident) => [incident.id, incident]));
    this.refusals = new Map(snapshot.refusals.map((refusal) => [refusal.id, refusal]));
    this.shots = new Map(snapshot.shots.map((shot) => [shot.id, shot]));
    this.figures = snapshot.figures;
    this.centre = snapshot.centre;
    this.sorted = null;
    // Whether the past can be asked for.
    this.keeps = snapshot.keeps === true;
    this.isKnown = true;
  }

  apply(kind, message) {
    if (kind === "status") this.nodes.set(message.node, lastHeard(message, this.nodes.get(message.node)));
    else if (kind === "event") this._holdEvent(message);
    else if (kind === "review") this._holdReview(message.event, message);
    else if (kind === "refusal") hold(this.refusals, message, "time_ns", MAX_REFUSALS);
    else if (kind === "incident") hold(this.incidents, message, "end_time_ns", MAX_OTHERS);
    else if (kind === "shot") hold(this.shots, message, "time_ns", MAX_OTHERS);
    else if (kind === "figures") this.figures = message;
    else if (kind === "centre") this.centre = message;
  }

  // Takes in an event of the past; returns false where there is no room for it.
  recall(event, review) {
    const known = this.events.get(event.id);
    if (!known && this.events.size >= MAX_EVENTS) return false;
    if (!known || known.revision < event.revision) {
      this.events.set(event.id, event);
      this.sorted = null;
    }
    if (review.verdict) this._holdReview(event.id, review);
    return true;
  }

  // All events, newest first; the same array until something changes.
  newestEvents() {
    this.sorted ??= [...this.events.values()].sort((one, other) => other.time_ns - one.time_ns);
    return this.sorted;
  }

  newestRefusals(limit) {
    return newest(this.refusals, limit);
  }

  newestIncidents() {
    return [...this.incidents.values()].sort((one, other) => other.start_time_ns - one.start_time_ns);
  }

  // Returns what the middle has found to be wrong with a node, as sentences.
  faultsOf(name) {
    return (this.centre?.faults ?? []).filter((fault) => fault.node === name).map((fault) => fault.text);
  }

  newestShots(limit) {
    return newest(this.shots, limit);
  }

  incidentOf(event) {
    return [...this.incidents.values()].find((incident) => incident.events.includes(event.id));
  }

  shotOf(event) {
    const near = [...this.shots.values()].filter((shot) => Math.abs(shot.time_ns - event.time_ns) < SAME_SHOT_NS);
    return near.sort((one, other) => distanceM(one, event) - distanceM(other, event))[0];
  }

  nodesByName() {
    return [...this.nodes.values()].sort((one, other) => one.node.localeCompare(other.node, "en", { numeric: true }));
  }

  // Returns how many events there were since then, as text: "12", or "4980+" where more may have been than are kept.
  countSince(timeNs) {
    const events = this.newestEvents();
    const older = events.findIndex((event) => event.time_ns < timeNs);
    const since = older < 0 ? events : events.slice(0, older);
    const number = since.filter((event) => event.status !== "retracted").length;
    return since.length < MAX_EVENTS ? `${number}` : `${number}+`;
  }

  _holdEvent(event) {
    this.events.set(event.id, event);
    this.sorted = null;
    if (this.events.size <= MAX_EVENTS) return;
    const oldest = this.newestEvents().at(-1).id;
    this.events.delete(oldest);
    this.reviews.delete(oldest);
    this.sorted = null;
  }

  _holdReview(id, review) {
    if (!this.events.has(id)) return;
    if (review.verdict) this.reviews.set(id, review);
    else this.reviews.delete(id);
  }
}

export function health(node, nowMs) {
  if (!node.online) return "offline";
  return nowMs - node.time_ns / 1e6 < STALE_AFTER_MS ? "online" : "stale";
}

// A last will is dated when its node connected.
function lastHeard(status, known) {
  if (status.online || !known || known.time_ns <= status.time_ns) return status;
  return { ...status, time_ns: known.time_ns };
}

function hold(held, message, time, most) {
  held.set(message.id, message);
  if (held.size <= most) return;
  const oldest = [...held.values()].reduce((one, other) => (other[time] < one[time] ? other : one));
  held.delete(oldest.id);
}

function newest(held, limit) {
  return [...held.values()].sort((one, other) => other.time_ns - one.time_ns).slice(0, limit);
}
