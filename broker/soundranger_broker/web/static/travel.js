// How long sound takes from an event to a place, with the speed of sound and the wind that the event was located with.

import { metresPerDegree } from "./geodesy.js";

// The wave front is a sphere that grows at the speed of sound and drifts with the wind.
export function travelTimeS(event, place) {
  const scale = metresPerDegree((event.lat + place.lat) / 2);
  const east = (place.lon - event.lon) * scale.lon;
  const north = (place.lat - event.lat) * scale.lat;
  const up = place.alt_m - event.alt_m;
  const [windEast, windNorth] = event.wind_mps ?? [0, 0];
  const alongWind = east * windEast + north * windNorth;
  const margin = event.speed_of_sound_mps ** 2 - windEast ** 2 - windNorth ** 2;
  const root = Math.sqrt(alongWind ** 2 + margin * (east ** 2 + north ** 2 + up ** 2));
  return (root - alongWind) / margin;
}
