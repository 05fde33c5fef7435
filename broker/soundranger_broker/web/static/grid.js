// The plain map: lines of a metric grid, for places without map tiles.

import { metresPerDegree } from "./geodesy.js";

const EQUATOR_M = 40_075_016.686;
const TILE_PX = 256;
const FEWEST_PX = 56;
const SMALLEST_M = 10;
// Every fifth line is drawn stronger.
const STRONG = 5;

// The distance between lines in metres: 10, 20, 50, 100... whichever is first at least 56 pixels wide.
export function gridIntervalM(lat, zoom) {
  const metresPerPixel = (EQUATOR_M * Math.cos((lat * Math.PI) / 180)) / (TILE_PX * 2 ** zoom);
  for (let decade = SMALLEST_M; ; decade *= 10) {
    for (const step of [1, 2, 5]) {
      if (step * decade >= FEWEST_PX * metresPerPixel) return step * decade;
    }
  }
}

export const MetricGrid = L.GridLayer.extend({
  options: { pane: "grid", className: "grid", minZoom: 0, maxZoom: 24 },

  initialize(options) {
    L.setOptions(this, options);
    this.origin = { lat: 0, lon: 0 };
  },

  setOrigin(origin) {
    if (origin.lat === this.origin.lat && origin.lon === this.origin.lon) return;
    this.origin = origin;
    this.redraw();
  },

  createTile(coords) {
    const tile = document.createElement("canvas");
    const ratio = window.devicePixelRatio || 1;
    tile.width = TILE_PX * ratio;
    tile.height = TILE_PX * ratio;
    const pen = tile.getContext("2d");
    pen.scale(ratio, ratio);
    this._draw(pen, coords);
    return tile;
  },

  _draw(pen, coords) {
    const corner = coords.scaleBy(L.point(TILE_PX, TILE_PX));
    const northWest = this._map.unproject(corner, coords.z);
    const southEast = this._map.unproject(corner.add([TILE_PX, TILE_PX]), coords.z);
    const interval = gridIntervalM(this.origin.lat, coords.z);
    const scale = metresPerDegree(this.origin.lat);
    const style = getComputedStyle(this.getContainer());
    const colours = { weak: style.getPropertyValue("--grid"), strong: style.getPropertyValue("--grid-strong") };

    const stepLon = interval / scale.lon;
    for (const line of between(northWest.lng, southEast.lng, this.origin.lon, stepLon)) {
      const x = this._map.project([northWest.lat, this.origin.lon + line * stepLon], coords.z).x - corner.x;
      rule(pen, colours, line, x, 0, x, TILE_PX);
    }
    const stepLat = interval / scale.lat;
    for (const line of between(southEast.lat, northWest.lat, this.origin.lat, stepLat)) {
      const y = this._map.project([this.origin.lat + line * stepLat, northWest.lng], coords.z).y - corner.y;
      rule(pen, colours, line, 0, y, TILE_PX, y);
    }
  },
});

function* between(low, high, origin, step) {
  const last = Math.floor((high - origin) / step);
  for (let line = Math.ceil((low - origin) / step); line <= last; line += 1) yield line;
}

function rule(pen, colours, line, fromX, fromY, toX, toY) {
  const sharp = (position) => Math.floor(position) + 0.5;
  pen.strokeStyle = line % STRONG === 0 ? colours.strong : colours.weak;
  pen.beginPath();
  pen.moveTo(fromX === toX ? sharp(fromX) : fromX, fromY === toY ? sharp(fromY) : fromY);
  pen.lineTo(fromX === toX ? sharp(toX) : toX, fromY === toY ? sharp(toY) : toY);
  pen.stroke();
}
