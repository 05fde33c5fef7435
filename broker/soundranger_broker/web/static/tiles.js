// Map tiles above the grid: images, or vectors that are drawn here. Where there is none, the grid stays in sight.

import { element } from "./dom.js";

// Beyond what tiles there are, they are scaled.
export const MAX_ZOOM = 21;
const PAINTER = "static/vendor/protomaps-leaflet/protomaps-leaflet.js";
const DARK = matchMedia("(prefers-color-scheme: dark)");

export class Tiles {
  constructor(map, attribution) {
    this.map = map;
    this.attribution = attribution;
    this.shown = null;
    this.layer = null;
  }

  show(tiles) {
    if (JSON.stringify(tiles) === JSON.stringify(this.shown)) return;
    this.shown = tiles;
    this._draw();
  }

  // Images are darkened by the style sheet.
  recolour() {
    if (this.shown?.is_vector) this._draw();
  }

  async _draw() {
    this.layer?.remove();
    this.layer = null;
    this.attribution.textContent = "";
    const tiles = this.shown;
    if (tiles?.is_vector) await painter();
    // Something else may have been asked for, or drawn, while the painter was fetched.
    if (!tiles || tiles !== this.shown || this.layer) return;
    this.layer = tiles.is_vector ? vectors(tiles) : images(tiles);
    this.layer.once("tileload", () => {
      this.attribution.textContent = tiles.attribution;
    });
    this.layer.addTo(this.map);
  }
}

const images = ({ url, min_zoom, max_zoom }) =>
  L.tileLayer(url, { minZoom: min_zoom, maxNativeZoom: max_zoom, maxZoom: MAX_ZOOM, className: "tiles" });

function vectors({ url, min_zoom, max_zoom }) {
  const layer = protomapsL.leafletLayer({
    url,
    flavor: DARK.matches ? "dark" : "light",
    lang: "en",
    // One tile is drawn on four places of the next zoom.
    minZoom: min_zoom + 1,
    maxDataZoom: max_zoom,
    maxZoom: MAX_ZOOM,
    className: "vectors",
  });
  // It would hide the grid where the file holds nothing.
  layer.backgroundColor = undefined;
  return layer;
}

let painting = null;

// Most maps need no painter, so it is fetched when one does.
function painter() {
  painting ??= new Promise((resolve, reject) => {
    document.head.append(element("script", { src: PAINTER, onload: resolve, onerror: reject }));
  });
  return painting;
}
