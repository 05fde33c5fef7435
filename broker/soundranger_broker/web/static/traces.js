// What the record section shows: a trace for each arrival and each silent node, nearest first.

import { distanceM } from "./geodesy.js";
import { travelTimeS } from "./travel.js";

// A trace: { node, detection, distanceM, expectedS, arrivedS, residualS, used, sound, onsetS }. Times are in seconds
// after the bang; `arrivedS` is null at a silent node; `sound` is there once the clip is, `onsetS` after its start.
export function tracesOf(event, detail, sounds, nodes) {
  const detections = new Map((detail?.detections ?? []).map(({ detection }) => [detection.id, detection]));
  const soundOf = new Map(sounds.map((sound) => [sound.clip.detection, sound]));
  const heard = event.arrivals.map((arrival) => {
    const detection = detections.get(arrival.detection);
    const place = detection ?? nodes.get(arrival.node);
    const expectedS = place ? travelTimeS(event, place) : arrival.distance_m / event.speed_of_sound_mps;
    const sound = detection && soundOf.get(arrival.detection);
    return {
      node: arrival.node,
      detection: arrival.detection,
      distanceM: arrival.distance_m,
      expectedS,
      arrivedS: expectedS + arrival.residual_s,
      residualS: arrival.residual_s,
      used: arrival.used,
      sound,
      onsetS: sound ? (detection.time_ns - sound.clip.start_ns) / 1e9 : null,
    };
  });
  const silent = event.silent.filter((name) => nodes.has(name)).map((name) => {
    const place = nodes.get(name);
    return { node: name, distanceM: distanceM(event, place), expectedS: travelTimeS(event, place), arrivedS: null };
  });
  return [...heard, ...silent].sort((one, other) => one.distanceM - other.distanceM);
}
