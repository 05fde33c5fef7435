// Brings in the events from before those of the snapshot, page by page, until the picture is full.

import { ask } from "./api.js";
import { eventOf, reviewOf } from "./features.js";

const PAGE = 1000;

export class History {
  constructor(picture, onChange) {
    this.picture = picture;
    this.onChange = onChange;
    this.running = 0;
  }

  // Starts anew: what an earlier start still waits for is dropped.
  async load() {
    this.running += 1;
    const run = this.running;
    let cursor = this.picture.keeps ? "" : null;
    while (cursor !== null) {
      const query = new URLSearchParams({ limit: PAGE, ...(cursor && { cursor }) });
      const page = await ask("events", query).catch(() => null);
      if (page === null || run !== this.running) return;
      const hasRoom = page.features.map((feature) => this.picture.recall(eventOf(feature), reviewOf(feature)));
      this.onChange();
      cursor = hasRoom.every(Boolean) ? page.next : null;
    }
  }
}
