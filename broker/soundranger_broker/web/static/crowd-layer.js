// The older events on the map, thousands of them: drawn together on one canvas, and opened by a click like the others.

import { faded } from "./marker.js";
import { metresPerDegree } from "./geodesy.js";
import { sureness } from "./signs.js";

// Drawn beyond the edge, so that dragging the map does not show one at once.
const MARGIN_PX = 120;
const DOT_PX = 4.5;
const REACH_PX = 12;
// An ellipse wider than this would cover the map and say nothing.
const WIDEST_PX = 2000;
// How often fading is looked at.
const FADE_MS = 60_000;

const COLOURS = ["high", "middle", "low", "surface"];

export const CrowdLayer = L.Layer.extend({
  options: { pane: "crowd" },

  initialize(onSelect) {
    this._onSelect = onSelect;
    this._events = [];
    this._first = 0;
    this._places = [];
    this._drawnMs = 0;
  },

  onAdd(map) {
    this._canvas = L.DomUtil.create("canvas", "crowd leaflet-zoom-hide", this.getPane());
    map.on("moveend zoomend resize", this.redraw, this);
    map.on("click", this._click, this);
    map.on("mousemove", this._point, this);
  },

  // Shows the events from the `first` on, but for the chosen one, which is drawn by itself.
  show(events, first, chosen, nowMs) {
    const isDue = nowMs - this._drawnMs >= FADE_MS;
    if (events === this._events && chosen?.id === this._chosenId && !isDue) return;
    const joined = isDue || chosen?.id !== this._chosenId ? -1 : this._joined(events, first);
    Object.assign(this, { _events: events, _first: first, _chosenId: chosen?.id });
    if (joined >= 0) {
      this._add(joined);
      return;
    }
    this._drawnMs = nowMs;
    this.redraw();
  },

  // How many events came in front of those that are drawn; -1 where anything else changed. The oldest may be gone: they
  // stay until all is drawn again.
  _joined(events, first) {
    const joined = events.indexOf(this._events[this._first], first) - first;
    if (joined < 0) return -1;
    const number = Math.min(this._events.length - this._first, events.length - first - joined);
    for (let index = 0; index < number; index += 1) {
      if (events[first + joined + index] !== this._events[this._first + index]) return -1;
    }
    return events.length - first - joined <= this._events.length - this._first ? joined : -1;
  },

  // Draws the newest on top of what is there.
  _add(number) {
    const places = this._project(this._first, this._first + number);
    this._places.push(...places);
    this._draw(places);
  },

  redraw() {
    const map = this._map;
    const size = map.getSize();
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [size.x + 2 * MARGIN_PX, size.y + 2 * MARGIN_PX];
    this._size = { width, height };
    this._canvas.width = width * ratio;
    this._canvas.height = height * ratio;
    this._canvas.style.width = `${width}px`;
    this._canvas.style.height = `${height}px`;
    L.DomUtil.setPosition(this._canvas, map.containerPointToLayerPoint([-MARGIN_PX, -MARGIN_PX]));
    const style = getComputedStyle(this._canvas);
    this._colours = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`)]));
    this._canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    this._places = this._project(this._first, this._events.length);
    this._draw(this._places);
  },

  // Returns those of some events that are in sight, the oldest first, and where they are on the canvas in pixels.
  _project(first, end) {
    const map = this._map;
    const corner = L.DomUtil.getPosition(this._canvas);
    const { width, height } = this._size;
    const places = [];
    for (let index = end - 1; index >= first; index -= 1) {
      const event = this._events[index];
      if (event.status === "retracted" || event.id === this._chosenId) continue;
      const { x, y } = map.latLngToLayerPoint([event.lat, event.lon]).subtract(corner);
      if (x > 0 && y > 0 && x < width && y < height) places.push({ event, x, y });
    }
    return places;
  },

  _draw(places) {
    const pen = this._canvas.getContext("2d");
    const colours = this._colours;
    const pxPerM = this._pxPerM();
    for (const { event, x, y } of places) {
      const colour = colours[sureness(event.probability)];
      const weight = faded(event.time_ns, this._drawnMs) * (this._chosenId ? 0.5 : 1);
      drawEllipse(pen, { event, x, y, pxPerM, colour, weight });
      pen.globalAlpha = weight;
      pen.beginPath();
      pen.arc(x, y, DOT_PX, 0, 2 * Math.PI);
      pen.fillStyle = colour;
      pen.fill();
      pen.lineWidth = 1;
      pen.strokeStyle = colours.surface;
      pen.stroke();
    }
  },

  _pxPerM() {
    const middle = this._map.getCenter();
    const degreePx = this._map.project([middle.lat, 1]).x - this._map.project([middle.lat, 0]).x;
    return degreePx / metresPerDegree(middle.lat).lon;
  },

  _at(containerPoint) {
    const corner = L.DomUtil.getPosition(this._canvas);
    const point = this._map.containerPointToLayerPoint(containerPoint).subtract(corner);
    const near = this._places.filter((place) => Math.hypot(place.x - point.x, place.y - point.y) < REACH_PX);
    return near.sort((one, other) => distance(one, point) - distance(other, point))[0]?.event;
  },

  _click({ containerPoint }) {
    const event = this._at(containerPoint);
    if (event) this._onSelect(event.id);
  },

  _point({ containerPoint }) {
    this._map.getContainer().classList.toggle("is-over-event", this._at(containerPoint) !== undefined);
  },
});

const distance = (place, point) => Math.hypot(place.x - point.x, place.y - point.y);

function drawEllipse(pen, { event, x, y, pxPerM, colour, weight }) {
  const major = event.ellipse95.semi_major_m * pxPerM;
  const minor = event.ellipse95.semi_minor_m * pxPerM;
  if (major < DOT_PX || major > WIDEST_PX) return;
  pen.beginPath();
  pen.ellipse(x, y, major, minor, ((event.ellipse95.bearing_deg - 90) * Math.PI) / 180, 0, 2 * Math.PI);
  pen.globalAlpha = 0.1 * weight;
  pen.fillStyle = colour;
  pen.fill();
  pen.globalAlpha = weight;
  pen.lineWidth = 1;
  pen.strokeStyle = colour;
  pen.stroke();
}
