// The queue of final events that nobody has reviewed, newest first, and one of them to judge.

import { backLink, reviewLink } from "./address.js";
import { ask } from "./api.js";
import { element, setText } from "./dom.js";
import { eventOf, reviewOf } from "./features.js";
import { count, localTime } from "./format.js";
import { VERDICTS } from "./review-form.js";

const PAGE = 100;

export class ReviewView {
  // `say` tells a sentence to who cannot see the page.
  constructor(eventView, { refresh, say, help }) {
    this.eventView = eventView;
    this.refresh = refresh;
    this.say = say;
    this.next = "";
    // Lines of the queue: { event, review }; those judged stay, so that one can go back to them.
    this.queue = [];
    this.loading = false;
    this.problem = null;
    this.isOpen = false;
    this.id = "";
    this.left = element("span", { class: "queue-left", role: "status" });
    this.bar = element(
      "div",
      { class: "queue-bar" },
      this.left,
      element("button", { type: "button", "aria-keyshortcuts": "k", onclick: () => this.step(-1) }, "‹ Previous"),
      element("button", { type: "button", "aria-keyshortcuts": "j", onclick: () => this.step(1) }, "Next ›"),
      element("button", { type: "button", "aria-keyshortcuts": "?", "aria-label": "Keys", onclick: help }, "?"),
    );
  }

  show(panel, { selection }) {
    if (!this.isOpen) this._open();
    this.id = selection.id || this._waiting()[0]?.event.id || "";
    setText(this.left, this._leftText());
    if (this.id === "") {
      panel.build(["review", "", this.loading, this.problem], () => [
        backLink(),
        element("h2", { tabindex: -1 }, "Review"),
        element("p", { class: "empty", role: "status" }, this._emptyText()),
      ]);
      return;
    }
    // What is looked at must not change because a newer event came in.
    if (!selection.id) location.replace(reviewLink(this.id));
    const { key, make } = this.eventView.contents(this.id, { isReview: true });
    panel.build(["review", this.id, ...key], () => [this.bar, ...make()]);
  }

  chosen() {
    return { event: this.id ? this.eventView.event(this.id) : undefined };
  }

  receive(kind, message) {
    if (kind === "snapshot" && this.isOpen) this._open();
    if (kind === "review") this._mark(message.event, message);
    if (kind === "event" && this.isOpen && message.status === "final") this._add([{ event: message, review: null }]);
  }

  leave() {
    this.isOpen = false;
    this.eventView.leave();
  }

  judge(verdict) {
    if (this.id) this.eventView.form.judge(verdict);
  }

  // What was judged, by this page: on to the next that waits.
  judged(event, review) {
    this._mark(event, review);
    const said = review.verdict ? `judged ${VERDICTS[review.verdict].toLowerCase()}` : "open again";
    const line = this.queue.find((one) => one.event.id === event);
    const at = line ? ` of ${localTime(line.event.time_ns)}` : "";
    this.say(`Event${at} ${said}. ${this._leftText()}`);
    if (this.isOpen && review.verdict && event === this.id) this._onward(event);
  }

  step(by) {
    const index = this.queue.findIndex((line) => line.event.id === this.id);
    const line = this.queue[index < 0 ? 0 : index + by];
    if (line) location.replace(reviewLink(line.event.id));
    if (index + by >= this.queue.length - 1) this._load();
  }

  // To the next one that waits below; from the last, to the first that was left out.
  _onward(event) {
    const index = this.queue.findIndex((line) => line.event.id === event);
    const waits = (line) => !line.review?.verdict;
    const line = this.queue.slice(index + 1).find(waits) ?? this.queue.find(waits);
    if (line) location.replace(reviewLink(line.event.id));
    if (this._waiting().length < PAGE / 2) this._load();
  }

  _waiting() {
    return this.queue.filter((line) => !line.review?.verdict);
  }

  _open() {
    Object.assign(this, { isOpen: true, queue: [], next: "", problem: null });
    this._load();
  }

  async _load() {
    if (this.loading || this.next === null) return;
    this.loading = true;
    const asked = new URLSearchParams({ status: "final", verdict: "none", limit: PAGE });
    if (this.next) asked.set("cursor", this.next);
    try {
      const page = await ask("events", asked);
      this._add(page.features.map((feature) => ({ event: eventOf(feature), review: reviewOf(feature) })));
      this.next = page.next;
    } catch (problem) {
      this.problem = problem.message;
    }
    this.loading = false;
    this.refresh();
  }

  _add(lines) {
    const known = new Set(this.queue.map((line) => line.event.id));
    this.queue.push(...lines.filter((line) => !known.has(line.event.id)));
    this.queue.sort((one, other) => other.event.time_ns - one.event.time_ns);
  }

  _mark(event, review) {
    const line = this.queue.find((one) => one.event.id === event);
    if (line) line.review = review;
  }

  _leftText() {
    const number = this._waiting().length;
    if (this.loading && number === 0) return "Looking…";
    return this.next ? `More than ${number} to review` : `${count(number, "event")} to review`;
  }

  _emptyText() {
    if (this.problem) return this.problem;
    return this.loading ? "Looking for events to review…" : "Nothing waits for a review.";
  }
}
