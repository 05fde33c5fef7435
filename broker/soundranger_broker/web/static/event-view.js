// The view of one event: its facts, the record section, its sound, what it rests on, and its review.

import { backLink } from "./address.js";
import { arrivalPart, eventFacts, eventHead, finePrint, incidentPart, recordPart } from "./event-detail.js";
import { element } from "./dom.js";
import { Player } from "./player.js";
import { RecordSection } from "./record-section.js";
import { ReviewForm } from "./review-form.js";
import { tracesOf } from "./traces.js";

export class EventView {
  // `tools`: picture, details, clips, map, zoom (shows a place), refresh (draws the page again).
  constructor(tools) {
    this.tools = tools;
    this.listening = null;
    this.id = "";
    this.form = new ReviewForm((event, review) => this._judged(event, review));
    this.record = new RecordSection((detection) => this._choose(detection));
    this.player = new Player((detection) => this._choose(detection));
    this.circles = element("button", { type: "button", onclick: () => this._toggleCircles() }, "Circles on the map");
    // Told what was judged on this page.
    this.onJudged = () => undefined;
  }

  // The event of this id, as far as it is known: told live, or as stored; undefined where it is neither.
  event(id) {
    const live = this.tools.picture.events.get(id);
    const { detail } = this.tools.details.of(id, live?.revision);
    const isNewer = live?.arrivals && live.revision >= (detail?.event.revision ?? -1);
    return isNewer ? live : detail?.event;
  }

  show(panel, { selection }) {
    const { key, make } = this.contents(selection.id);
    panel.build(["event", selection.id, ...key], () => [backLink(), ...make()]);
  }

  chosen({ selection }) {
    return { event: this.event(selection.id) };
  }

  // Returns what is shown of an event: a key of all that it depends on, and what makes the elements.
  contents(id, { isReview = false } = {}) {
    const { picture, details, clips } = this.tools;
    const event = this.event(id);
    const { detail, problem } = details.of(id);
    if (!event) return { key: [problem], make: () => missing(problem) };
    const traces = tracesOf(event, detail, clips.of(detail?.clips ?? []), picture.nodes);
    this._showSound(id, traces, detail);
    this.form.show(id, detail?.review ?? null);
    const incident = picture.incidentOf(event);
    const shot = picture.shotOf(event);
    const places = traces.map((trace) => trace.expectedS).join();
    return {
      key: [event, detail, incident, shot, places],
      make: () => this._elements(event, detail, { incident, shot, traces, isReview }),
    };
  }

  toggleSound() {
    this.player.toggle();
  }

  leave() {
    this.player.stop();
  }

  // Who reviews wants to judge, see and hear first, and to read the rest then.
  _elements(event, detail, { incident, shot, traces, isReview }) {
    const actions = { picture: this.tools.picture, zoom: this.tools.zoom, listen: (detection) => this._listen(detection) };
    this.circles.setAttribute("aria-pressed", this.tools.map.ranges.shown);
    const review = detail ? this.form.elements : [];
    const seen = [
      element("h3", {}, "Record section"),
      this.record.element,
      element("div", { class: "buttons" }, this.circles),
      ...(detail ? [element("h3", {}, "Sound"), this.player.element] : []),
    ];
    const known = eventFacts(event, shot, actions);
    return [
      ...eventHead(event),
      ...(isReview ? [...review, ...seen, ...known] : [...known, ...seen]),
      ...arrivalPart(event, traces, actions),
      ...(incident ? incidentPart(incident, event, this.tools.picture) : []),
      ...(detail ? recordPart(event, detail) : []),
      ...(isReview || !detail ? [] : [element("h3", {}, "Review"), ...review]),
      finePrint(event),
    ];
  }

  _showSound(id, traces, detail) {
    if (id !== this.id) {
      this.id = id;
      this.listening = null;
      this.player.stop();
    }
    const heard = traces.filter((trace) => trace.sound);
    if (!heard.some((trace) => trace.detection === this.listening)) this.listening = heard[0]?.detection ?? null;
    this.record.show(traces, this.listening);
    this.player.show(traces, this.listening, detail ? silence(detail.event) : "");
  }

  _choose(detection) {
    this.listening = detection;
    this.tools.refresh();
  }

  _listen(detection) {
    const isOther = detection !== this.listening;
    this.listening = detection;
    this.contents(this.id);
    if (isOther) this.player.stop();
    this.player.toggle();
  }

  _toggleCircles() {
    this.circles.setAttribute("aria-pressed", this.tools.map.ranges.toggle());
    this.tools.refresh();
  }

  _judged(event, review) {
    this.tools.picture.apply("review", { event, ...review });
    this.tools.details.reviewed(event, review);
    this.onJudged(event, review);
  }
}

function silence(event) {
  if (event.status === "final") return "No sound has come in yet. Nodes that still have it will send it.";
  return "Nodes are asked for their sound once the event is final.";
}

function missing(problem) {
  const text = problem ?? "Looking for this event…";
  return [element("h2", { tabindex: -1 }, "Event"), element("p", { class: "empty", role: "status" }, text)];
}
