// Finds events again: by time, place, certainty and review. The address holds what is asked, so that it can be shared.

import { backLink, searchLink } from "./address.js";
import { address, ask } from "./api.js";
import { element, setText } from "./dom.js";
import { showEvents } from "./event-items.js";
import { eventOf, reviewOf } from "./features.js";
import { count } from "./format.js";
import { zoneNote } from "./list-head.js";
import { SearchForm } from "./search-form.js";

const PAGE = 100;
const EXPORTS = { csv: "CSV", kml: "KML", geojson: "GeoJSON" };

export class SearchView {
  constructor(map, refresh) {
    this.map = map;
    this.refresh = refresh;
    this.form = new SearchForm(() => map.box(), (query) => this._search(query));
    this.more = element("button", { type: "button", class: "more", onclick: () => this._load() }, "Show more");
    this.state = element("p", { class: "empty", role: "status" });
    this.exports = Object.keys(EXPORTS).map((kind) => element("a", { class: "button", download: "" }, EXPORTS[kind]));
    this.query = null;
    this.submitted = null;
    this._clear();
  }

  show(panel, { selection, nowMs }) {
    if (selection.query !== this.query) this._open(selection.query);
    panel.build(["search"], () => [
      backLink(),
      element("h2", { tabindex: -1 }, "Search"),
      this.form.element,
      this.state,
      element("ol", { class: "list events" }),
      this.more,
      element("div", { class: "buttons" }, element("span", { class: "label" }, "Export all of them"), ...this.exports),
      zoneNote(nowMs),
    ]);
    setText(this.state, this._stateText());
    this.more.hidden = !this.next;
    showEvents(panel.find("ol.list"), this.found, { reviews: this.reviews, nowMs, age: "date" });
  }

  events() {
    return this.found;
  }

  receive(kind, message) {
    if (kind === "review" && this.found.some((event) => event.id === message.event)) {
      this.reviews.set(message.event, message);
    }
  }

  _search(query) {
    this.submitted = query;
    if (query === this.query) this._open(query);
    else location.hash = searchLink(query);
  }

  _open(query) {
    this.query = query;
    this.form.show(query);
    this._clear();
    const box = new URLSearchParams(query).get("bbox")?.split(",").map(Number);
    // Who searched in the map sees what it showed; who was sent the link does not yet.
    if (box?.length === 4 && box.every(Number.isFinite) && query !== this.submitted) this.map.fitBox(box);
    this._load();
    Object.keys(EXPORTS).forEach((kind, index) => {
      this.exports[index].href = address(`export/events.${kind}`, query);
    });
  }

  _clear() {
    Object.assign(this, { found: [], reviews: new Map(), next: "", problem: null, loading: false });
  }

  async _load() {
    if (this.loading) return;
    this.loading = true;
    const query = this.query;
    const asked = new URLSearchParams(query);
    asked.set("limit", PAGE);
    if (this.next) asked.set("cursor", this.next);
    try {
      const page = await ask("events", asked);
      if (query !== this.query) return;
      this.found = [...this.found, ...page.features.map(eventOf)];
      for (const feature of page.features) this.reviews.set(feature.id, reviewOf(feature));
      this.next = page.next;
    } catch (problem) {
      if (query === this.query) this.problem = problem.message;
    }
    this.loading = false;
    this.refresh();
  }

  _stateText() {
    if (this.problem) return this.problem;
    if (this.loading) return "Searching…";
    if (this.found.length === 0) return "No event is like that.";
    return this.next ? `The newest ${count(this.found.length, "event")}` : count(this.found.length, "event");
  }
}
