// All that the server keeps of the event that is open, asked for again whenever something new of it comes in.

import { ask } from "./api.js";

// Clips come in a dozen at a time.
const GATHER_MS = 250;
// What is told live may be stored a moment later.
const AGAIN_MS = 1000;
const ATTEMPTS = 5;

export class Details {
  constructor(picture, onChange) {
    this.picture = picture;
    this.onChange = onChange;
    this._forget("");
  }

  // Returns { detail, problem } of an event: both null while it is on its way; `revision` is the one known to be told.
  of(id, revision = 0) {
    if (id !== this.id) {
      this._forget(id);
      if (this.picture.keeps) this._fetch();
      else this.held.problem = "This event is not among the latest that are kept here.";
    }
    this.revision = Math.max(this.revision, revision);
    return this.held;
  }

  receive(kind, message) {
    const concerns =
      kind === "snapshot" ||
      (kind === "event" && message.id === this.id) ||
      (kind === "review" && message.event === this.id) ||
      (kind === "clip" && message.events.includes(this.id));
    if (concerns && this.id && this.picture.keeps) this._fetchSoon(GATHER_MS);
  }

  // Takes over what this page has just had stored.
  reviewed(id, review) {
    if (id !== this.id || !this.held.detail) return;
    this.held = { detail: { ...this.held.detail, review }, problem: null };
    this.onChange();
  }

  _forget(id) {
    clearTimeout(this.due);
    this.id = id;
    this.revision = 0;
    this.attempts = 0;
    this.held = { detail: null, problem: null };
  }

  _fetchSoon(waitMs) {
    clearTimeout(this.due);
    this.due = setTimeout(() => this._fetch(), waitMs);
  }

  async _fetch() {
    const id = this.id;
    const held = await ask(`events/${encodeURIComponent(id)}`).then(
      (detail) => ({ detail, problem: null }),
      (problem) => ({ detail: null, problem: problem.message }),
    );
    if (id !== this.id) return;
    // What is there stays where a later question fails.
    if (held.detail || !this.held.detail) this.held = held;
    this.attempts += 1;
    const isBehind = (held.detail?.event.revision ?? -1) < this.revision;
    if (isBehind && this.attempts < ATTEMPTS) this._fetchSoon(AGAIN_MS);
    else this.attempts = 0;
    this.onChange();
  }
}
