// The signs on the map, in the lists and in the key: one drawing each.

import { svg } from "./dom.js";

const BOX = { viewBox: "-10 -10 20 20", "aria-hidden": "true" };

// Health is shown by shape as well as by colour.
export function nodeSign(state) {
  const shapes = {
    online: () => [svg("circle", { r: 6.5 })],
    stale: () => [svg("path", { d: "M0 -7.5 L7.5 6 L-7.5 6 Z" })],
    offline: () => [svg("rect", { x: -6, y: -6, width: 12, height: 12 }), svg("path", { d: "M-3 -3 L3 3 M3 -3 L-3 3" })],
  };
  return svg("svg", { ...BOX, class: "node-sign", "data-health": state }, ...shapes[state]());
}

export function eventSign(event) {
  const sign = svg("svg", { ...BOX, class: "event-sign" }, svg("circle", { r: 5.5 }));
  markEvent(sign, event);
  return sign;
}

export function shotSign() {
  return svg("svg", { ...BOX, class: "shot-sign" }, svg("path", { d: "M-5 -5 L5 5 M5 -5 L-5 5" }));
}

// Sets what the style sheet colours an event by.
export function markEvent(sign, event) {
  sign.dataset.status = event.status;
  sign.dataset.sure = sureness(event.probability);
}

export function sureness(probability) {
  if (probability >= 0.9) return "high";
  return probability >= 0.5 ? "middle" : "low";
}
