// Circles around the nodes that heard the chosen event: on each lie all places from where the sound, which came when it
// came, could have come. They meet where the event was.

import { ellipseOutline } from "./ellipse.js";
import { metresPerDegree } from "./geodesy.js";
import { travelTimeS } from "./travel.js";

// A kilometre wide, such a polygon is a circle to 1 cm.
const CORNERS = 720;

export class Ranges {
  constructor(map) {
    this.layer = L.layerGroup().addTo(map);
    this.shown = false;
    this.drawn = "";
  }

  // Returns whether they are shown now.
  toggle() {
    this.shown = !this.shown;
    return this.shown;
  }

  show(event, nodes) {
    const circles = this.shown && event?.arrivals ? circlesOf(event, nodes) : [];
    const drawing = JSON.stringify(circles);
    if (drawing === this.drawn) return;
    this.drawn = drawing;
    this.layer.clearLayers();
    for (const { lat, lon, radiusM, used } of circles) {
      const outline = ellipseOutline(lat, lon, { semi_major_m: radiusM, semi_minor_m: radiusM, bearing_deg: 0 }, CORNERS);
      const className = used ? "range" : "range is-unused";
      L.polygon(outline, { pane: "links", interactive: false, className, smoothFactor: 0 }).addTo(this.layer);
    }
  }
}

function circlesOf(event, nodes) {
  return event.arrivals.filter((arrival) => nodes.has(arrival.node)).map((arrival) => circleOf(event, arrival, nodes.get(arrival.node)));
}

// The sound drifted with the wind meanwhile: the middle of the circle lies upwind of the node.
function circleOf(event, arrival, node) {
  const timeS = Math.max(0, travelTimeS(event, node) + arrival.residual_s);
  const scale = metresPerDegree(node.lat);
  const [windEast, windNorth] = event.wind_mps ?? [0, 0];
  const up = node.alt_m - event.alt_m;
  return {
    lat: node.lat - (windNorth * timeS) / scale.lat,
    lon: node.lon - (windEast * timeS) / scale.lon,
    radiusM: Math.sqrt(Math.max(0, (event.speed_of_sound_mps * timeS) ** 2 - up ** 2)),
    used: arrival.used,
  };
}
