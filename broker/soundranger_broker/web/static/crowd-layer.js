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
    const isSame = events === this._events && chosen === this._chosen && nowMs - this._drawnMs < FADE_MS;
    if (isSame) return;
    const wasEmpty = this._places.length === 0;
    Object.assign(this, { _events: events, _first: first, _chosen: chosen, _drawnMs: nowMs });
    if (!wasEmpty || events.length > first) this.redraw();
  },

  redraw() {
    const map = this._map;
    const size = map.getSize();
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [size.x + 2 * MARGIN_PX, size.y + 2 * MARGIN_PX];
    this._canvas.width = width * ratio;
    this._canvas.height = height * ratio;
    this._canvas.style.width = `${width}px`;
    this._canvas.style.height = `${height}px`;
    L.DomUtil.setPosition(this._canvas, map.containerPointToLayerPoint([-MARGIN_PX, -MARGIN_PX]));
    const pen = this._canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, MARGIN_PX * ratio, MARGIN_PX * ratio);
    this._places = this._project(width, height);
    this._draw(pen);
  },

  // Returns the events in sight, the oldest first, and where they are on the map in pixels.
  _project(width, height) {
    const map = this._map;
    const places = [];
    for (let index = this._events.length - 1; index >= this._first; index -= 1) {
      const event = this._events[index];
      if (event.status === "retracted" || event.id === this._chosen?.id) continue;
      const { x, y } = map.latLngToContainerPoint([event.lat, event.lon]);
      if (x > -MARGIN_PX && y > -MARGIN_PX && x < width && y < height) places.push({ event, x, y });
    }
    return places;
  },

  _draw(pen) {
    const style = getComputedStyle(this._canvas);
    const colours = Object.fromEntries(["high", "middle", "low"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
    const edge = style.getPropertyValue("--surface");
    const pxPerM = this._pxPerM();
    for (const { event, x, y } of this._places) {
      const colour = colours[sureness(event.probability)];
      const weight = faded(event.time_ns, this._drawnMs) * (this._chosen ? 0.5 : 1);
      drawEllipse(pen, { event, x, y, pxPerM, colour, weight });
      pen.globalAlpha = weight;
      pen.beginPath();
      pen.arc(x, y, DOT_PX, 0, 2 * Math.PI);
      pen.fillStyle = colour;
      pen.fill();
      pen.lineWidth = 1;
      pen.strokeStyle = edge;
      pen.stroke();
    }
  },

  _pxPerM() {
    const middle = this._map.getCenter();
    const degreePx = this._map.project([middle.lat, 1]).x - this._map.project([middle.lat, 0]).x;
    return degreePx / metresPerDegree(middle.lat).lon;
  },

  _at(point) {
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
