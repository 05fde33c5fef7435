// The outline of an error ellipse, or of a circle, on the map.

import { metresPerDegree } from "./geodesy.js";

const CORNERS = 72;
// Beyond this "somewhere" is all that an ellipse says, and a flat outline would be wrong.
const MAX_AXIS_M = 100_000;

// Returns [lat, lon] pairs; the bearing of the major axis is in degrees east of north.
export function ellipseOutline(lat, lon, ellipse, corners = CORNERS) {
  const scale = metresPerDegree(lat);
  const major = Math.min(ellipse.semi_major_m, MAX_AXIS_M);
  const minor = Math.min(ellipse.semi_minor_m, MAX_AXIS_M);
  const bearing = (ellipse.bearing_deg * Math.PI) / 180;
  return Array.from({ length: corners }, (_, corner) => {
    const angle = (2 * Math.PI * corner) / corners;
    const along = major * Math.cos(angle);
    const across = minor * Math.sin(angle);
    const east = along * Math.sin(bearing) + across * Math.cos(bearing);
    const north = along * Math.cos(bearing) - across * Math.sin(bearing);
    return [lat + north / scale.lat, lon + east / scale.lon];
  });
}
