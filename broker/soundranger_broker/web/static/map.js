// The map: its base (tiles or a metric grid), its controls, what it shows at first, and the layers on it.

import { element } from "./dom.js";
import { CrowdLayer } from "./crowd-layer.js";
import { EventLayer } from "./event-layer.js";
import { metres } from "./format.js";
import { gridIntervalM, MetricGrid } from "./grid.js";
import { Links } from "./links.js";
import { NodeLayer } from "./node-layer.js";
import { Ranges } from "./ranges.js";
import { ShotLayer } from "./shot-layer.js";
import { MAX_ZOOM, Tiles } from "./tiles.js";

// Kept free around the nodes and around a chosen event, in pixels: room for the labels, which stand on the right.
const MARGINS = { paddingTopLeft: [40, 40], paddingBottomRight: [96, 60] };
// The same on a map that is low, above a tall sheet on a phone.
const LOW_MARGINS = { paddingTopLeft: [24, 20], paddingBottomRight: [72, 24] };
const LOW_PX = 280;
const CLOSEST_ZOOM = 18;
// A chosen event is zoomed to until this much around it is in sight, and never less than its ellipse.
const AROUND_M = 40;
// From the bottom up; Leaflet's own panes for tiles and paths are at 200 and 400.
const PANES = { grid: 150, crowd: 390, links: 410, shots: 590, nodes: 600, events: 610 };
// The newest events are drawn one by one, so that they can pulse and change; the many older ones together.
const ONE_BY_ONE = 150;
const SHOTS = 300;
// Above so many nodes in sight, their names would hide each other.
const MOST_NAMES = 40;
const MOST_NAMES_ON_LOW = 5;

// Leaflet would give each of hundreds of signs a layer of its own in the browser's graphics, which without a graphics
// card costs more than all else. Flat transforms do not; the map as a whole gets one in the style sheet.
L.Browser.ie3d = true;

export class EventMap {
  constructor(container, onSelect) {
    this.map = L.map(container, {
      zoomControl: false,
      attributionControl: false,
      zoomSnap: 0.25,
      minZoom: 3,
      maxZoom: MAX_ZOOM,
      worldCopyJump: true,
    }).setView([0, 0], 3);
    for (const [name, height] of Object.entries(PANES)) this.map.createPane(name).style.zIndex = height;
    this.grid = new MetricGrid().addTo(this.map);
    this.nodes = new NodeLayer(this.map, (name) => onSelect("node", name));
    this.events = new EventLayer(this.map, (id) => onSelect("event", id));
    this.crowd = new CrowdLayer((id) => onSelect("event", id)).addTo(this.map);
    this.ranges = new Ranges(this.map);
    this.shots = new ShotLayer(this.map);
    this.links = new Links(this.map);
    this.places = [];
    this.focus = null;
    this.moving = false;
    this.zooming = false;
    this.movedByHand = false;
    this._addControls();
    this._follow(container);
  }

  // Shows the nodes and `events`, newest first, and what is chosen: an event or a node.
  // The true places of simulated shots are shown along with all events only.
  show(picture, { events, isFiltered, event, node }, nowMs) {
    const nodes = [...picture.nodes.values()];
    this.nodes.show(nodes, event, node, nowMs);
    this.events.show(events.slice(0, ONE_BY_ONE), event, nowMs);
    this.crowd.show(events, ONE_BY_ONE, event, nowMs);
    this.shots.show(isFiltered ? [] : picture.newestShots(SHOTS), nowMs);
    this.links.show(event, picture.nodes);
    this.ranges.show(event, picture.nodes);
    this._fitNewNodes(nodes);
    this._bringIntoView(event ?? node ?? null);
  }

  // Returns west, south, east and north of what is in sight, degrees.
  box() {
    const bounds = this.map.getBounds();
    const isWholeWorld = bounds.getEast() - bounds.getWest() >= 360;
    const [west, east] = isWholeWorld ? [-180, 180] : [bounds.getWest(), bounds.getEast()].map(wrapped);
    return [west, Math.max(-90, bounds.getSouth()), east, Math.min(90, bounds.getNorth())];
  }

  fitBox([west, south, east, north]) {
    const corners = [[south, west], [north, east < west ? east + 360 : east]];
    this._afterZoom(() => this.map.fitBounds(corners, { animate: false }));
  }

  // The grid takes its colours from the style sheet.
  recolour() {
    this.grid.redraw();
    this.crowd.redraw();
    this.tiles.recolour();
  }

  fit() {
    this.movedByHand = false;
    if (this.places.length === 0) return;
    this._quietly(() => this.map.fitBounds(this.places, { ...this._margins(), maxZoom: CLOSEST_ZOOM, animate: false }));
  }

  zoomTo(message) {
    const around = Math.max(AROUND_M, message.ellipse95?.semi_major_m ?? 0);
    this._afterZoom(() => {
      this.map.fitBounds(L.latLng(message.lat, message.lon).toBounds(2 * around), { animate: false });
    });
  }

  _fitNewNodes(nodes) {
    const places = nodes.map((node) => [node.lat, node.lon]);
    if (JSON.stringify(places) === JSON.stringify(this.places)) return;
    this.places = places;
    if (places.length > 0) {
      const middle = L.latLngBounds(places).getCenter();
      this.grid.setOrigin({ lat: middle.lat, lon: middle.lng });
    }
    if (!this.movedByHand) this.fit();
    this._measure();
    this._thinNames();
  }

  _bringIntoView(chosen) {
    const isNew = chosen !== null && (chosen.id ?? chosen.node) !== (this.focus?.id ?? this.focus?.node);
    this.focus = chosen;
    if (isNew) this._panToFocus();
  }

  _panToFocus() {
    this._quietly(() => this.map.panInside([this.focus.lat, this.focus.lon], { ...this._margins(), animate: false }));
  }

  _margins() {
    return this.map.getSize().y < LOW_PX ? LOW_MARGINS : MARGINS;
  }

  // Moves the map without taking it for a move by hand.
  _quietly(move) {
    this._afterZoom(() => {
      this.moving = true;
      move();
      this.moving = false;
    });
  }

  // The end of Leaflet's zoom animation would undo whatever moved the map during it.
  _afterZoom(move) {
    if (this.zooming) this.map.once("zoomend", move);
    else move();
  }

  _follow(container) {
    this.map.on("movestart zoomstart", () => {
      if (!this.moving) this.movedByHand = true;
    });
    this.map.on("zoomanim", () => {
      this.zooming = true;
    });
    this.map.on("zoomend", () => {
      this.zooming = false;
      this._measure();
    });
    this.map.on("moveend", () => this._thinNames());
    new ResizeObserver(() => {
      this._quietly(() => this.map.invalidateSize({ animate: false }));
      if (!this.movedByHand) this.fit();
      if (this.focus) this._panToFocus();
    }).observe(container);
  }

  _measure() {
    const interval = gridIntervalM(this.grid.origin.lat, Math.round(this.map.getZoom()));
    this.gridLabel.textContent = `grid ${metres(interval)}`;
  }

  _thinNames() {
    const bounds = this.map.getBounds();
    const inSight = this.places.filter((place) => bounds.contains(place)).length;
    const most = this.map.getSize().y < LOW_PX ? MOST_NAMES_ON_LOW : MOST_NAMES;
    this.map.getContainer().classList.toggle("is-crowded", inSight > most);
  }

  _addControls() {
    L.control.zoom({ position: "topright", zoomInTitle: "Closer", zoomOutTitle: "Farther" }).addTo(this.map);
    const fit = element(
      "button",
      { type: "button", class: "fit", title: "Show all nodes", "aria-label": "Show all nodes", onclick: () => this.fit() },
      "⤢",
    );
    this._addControl("topright", fit);
    this.gridLabel = element("div", { class: "grid-label" });
    this._addControl("bottomleft", this.gridLabel);
    L.control.scale({ position: "bottomleft", imperial: false, maxWidth: 140 }).addTo(this.map);
    const attribution = element("div", { class: "attribution" });
    this._addControl("bottomright", attribution);
    this.tiles = new Tiles(this.map, attribution);
    this._measure();
  }

  _addControl(position, content) {
    const control = L.control({ position });
    control.onAdd = () => {
      L.DomEvent.disableClickPropagation(content);
      return content;
    };
    control.addTo(this.map);
  }
}

const wrapped = (lon) => L.Util.wrapNum(lon, [-180, 180], true);
