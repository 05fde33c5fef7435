// Between degrees and metres near a place: flat, with the radii of curvature of the WGS84 ellipsoid there.

const SEMI_MAJOR_M = 6378137;
const ECCENTRICITY_SQUARED = 0.00669437999014;
const RADIANS = Math.PI / 180;

export function metresPerDegree(lat) {
  const w = 1 - ECCENTRICITY_SQUARED * Math.sin(lat * RADIANS) ** 2;
  const meridian = (SEMI_MAJOR_M * (1 - ECCENTRICITY_SQUARED)) / w ** 1.5;
  const normal = SEMI_MAJOR_M / Math.sqrt(w);
  return { lat: meridian * RADIANS, lon: normal * Math.cos(lat * RADIANS) * RADIANS };
}

export function distanceM(from, to) {
  const scale = metresPerDegree((from.lat + to.lat) / 2);
  return Math.hypot((to.lat - from.lat) * scale.lat, (to.lon - from.lon) * scale.lon);
}
