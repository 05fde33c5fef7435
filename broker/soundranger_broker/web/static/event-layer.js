// The events on the map: a dot, the 95 % ellipse, and a pulse when one is new. The keyboard opens them from the list.

import { element } from "./dom.js";
import { ellipseOutline } from "./ellipse.js";
import { addSign, faded, keep } from "./marker.js";
import { eventSign, markEvent } from "./signs.js";

// A retracted event stays this long, struck through, so that people see it go.
const FAREWELL_MS = 6000;

export class EventLayer {
  constructor(map, onSelect) {
    this.map = map;
    this.onSelect = onSelect;
    this.drawings = new Map();
    this.announced = new Set();
    this.retracted = new Map();
  }

  // Notes that an event just came or changed, so that it pulses or takes its leave.
  notice(event, isNew) {
    if (isNew) this.announced.add(event.id);
    if (event.status === "retracted") this.retracted.set(event.id, Date.now() + FAREWELL_MS);
  }

  show(events, chosen, nowMs) {
    const isLeaving = (event) => this.retracted.get(event.id) > Date.now();
    for (const [id, until] of this.retracted) if (until <= Date.now()) this.retracted.delete(id);
    const shown = events.filter((event) => event.status !== "retracted" || event.id === chosen?.id || isLeaving(event));
    const index = shown.findIndex((event) => event.id === chosen?.id);
    if (index >= 0) shown[index] = chosen;
    else if (chosen) shown.push(chosen);
    keep(
      this.drawings,
      shown,
      (event) => event.id,
      (event) => this._draw(event),
      (drawing, event) => this._update(drawing, event, chosen, nowMs),
      (drawing) => {
        drawing.marker.remove();
        drawing.ellipse.remove();
      },
    );
    this.announced.clear();
  }

  _draw(event) {
    const sign = eventSign(event);
    const hit = element("div", { class: "event hit" }, sign);
    hit.dataset.event = event.id;
    if (this.announced.delete(event.id)) hit.classList.add("is-new");
    L.DomEvent.disableClickPropagation(hit);
    hit.addEventListener("click", () => this.onSelect(event.id));
    const ellipse = L.polygon([], { className: "ellipse", smoothFactor: 0, bubblingMouseEvents: false }).addTo(this.map);
    ellipse.on("click", () => this.onSelect(event.id));
    return { marker: addSign(this.map, "events", event, hit, { interactive: true }), hit, sign, ellipse, event: null };
  }

  _update(drawing, event, chosen, nowMs) {
    const outline = drawing.ellipse.getElement();
    if (drawing.event !== event) {
      drawing.event = event;
      drawing.marker.setLatLng([event.lat, event.lon]);
      drawing.marker.setZIndexOffset(Math.round((event.time_ns / 1e9) % 1e6));
      drawing.ellipse.setLatLngs(ellipseOutline(event.lat, event.lon, event.ellipse95));
      markEvent(drawing.sign, event);
      markEvent(outline, event);
    }
    const weight = event.id === chosen?.id ? 1 : faded(event.time_ns, nowMs) * (chosen ? 0.5 : 1);
    drawing.sign.style.opacity = weight;
    outline.style.opacity = weight;
    drawing.hit.dataset.chosen = event.id === chosen?.id;
    outline.dataset.chosen = event.id === chosen?.id;
  }
}
