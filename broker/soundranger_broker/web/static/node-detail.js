// One node, opened: its health, what does not work, its clock and what it holds back or has lost.

import { backLink } from "./address.js";
import { element } from "./dom.js";
import { facts, placeButtons, positionFact } from "./facts.js";
import { ago, localDateTime, metres, seconds, span, unit, zoneName } from "./format.js";
import { health } from "./picture.js";
import { nodeSign } from "./signs.js";

const HEALTH = {
  online: "Online",
  stale: "Stale: it was online, but has said nothing for over 90 seconds.",
  offline: "Offline: the broker has lost it.",
};

export function nodeDetail(node, faults, nowMs, onZoom) {
  const state = health(node, nowMs);
  return [
    backLink(),
    element("h2", { tabindex: -1, class: "detail-title" }, nodeSign(state), element("span", {}, node.node)),
    element("p", { class: "status" }, HEALTH[state]),
    ...faults.map((fault) => element("p", { class: "reason fault" }, `Its ${fault}`)),
    ...(node.problems ?? []).map((problem) => element("p", { class: "reason" }, problem)),
    facts([
      ["Last heard", ago(node.time_ns, nowMs)],
      [`Local (${zoneName(node.time_ns)})`, localDateTime(node.time_ns)],
      ["Clock", clockText(node.clock)],
      known("Clock source", node.clock.source, (source) => source),
      known("Clock, in words", node.clock.why, (why) => why),
      known("Sample rate off by", node.clock.ppm, (ppm) => unit(ppm, 1, "ppm")),
      known("Noise level", node.noise_dbfs, (level) => unit(level, 1, "dBFS")),
      known("Waiting to be sent", node.outbox, String),
      known("Waiting for the clock", node.undated, String),
      known("Withheld", node.withheld, String),
      known("Lost", node.lost, (lost) => lostText(lost, node.lost_to)),
      known("Overflows", node.overflows, String),
      known("Interruptions", node.interruptions, String),
      positionFact(node),
      ["Position, 1 σ", `± ${metres(node.position_sigma_m)}`],
      ["Height", unit(node.alt_m, 0, "m")],
      known("Air", node.temperature_c, (celsius) => unit(celsius, 1, "°C")),
      known("Processor", node.cpu_c, (celsius) => unit(celsius, 0, "°C")),
      known("Up for", node.uptime_s, span),
      ["Version", node.version],
    ]),
    placeButtons(node, onZoom),
  ];
}

function lostText(lost, reasons) {
  const parts = Object.entries(reasons ?? {}).map(([reason, count]) => `${reason} ${count}`);
  return parts.length === 0 ? String(lost) : `${lost} (${parts.join(", ")})`;
}

function clockText(clock) {
  if (clock.good === false) return `${clock.tier}, not good yet`;
  return clock.bound_s === undefined ? clock.tier : `${clock.tier}, within ${seconds(clock.bound_s)}`;
}

function known(name, value, text) {
  return value === undefined ? null : [name, text(value)];
}
