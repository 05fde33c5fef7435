// The rounds of an incident in a strip along time, and the pauses between them.

import { eventLink } from "./address.js";
import { element, svg } from "./dom.js";
import { localTime } from "./format.js";
import { markEvent } from "./signs.js";
import { ticks } from "./ticks.js";

const HEIGHT = 92;
const AXIS_Y = 58;
const SIDE_PX = 18;
const PX_A_TICK = 64;
// A pause is written where it is wide enough for its figure.
const FIGURE_PX = 34;
const SHORTEST_S = 0.3;

export class IncidentStrip {
  constructor() {
    this.events = [];
    this.picture = svg("svg", { class: "strip", role: "img" });
    this.element = element("div", { class: "strip-box" }, this.picture);
    new ResizeObserver(() => this._draw()).observe(this.element);
  }

  // `events` in the order of their times.
  show(events) {
    this.events = events;
    this._draw();
  }

  _draw() {
    const width = this.element.clientWidth;
    if (width === 0 || this.events.length === 0) return;
    const startNs = this.events[0].time_ns;
    const offsets = this.events.map((event) => (event.time_ns - startNs) / 1e9);
    const lastS = Math.max(SHORTEST_S, offsets.at(-1));
    const x = (second) => SIDE_PX + (second / lastS) * (width - 2 * SIDE_PX);
    this.picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.picture.setAttribute("height", HEIGHT);
    this.picture.setAttribute("aria-label", `${offsets.length} rounds along time; the list below has them with their pauses.`);
    this.picture.replaceChildren(
      svg("line", { class: "base-line", x1: SIDE_PX, x2: width - SIDE_PX, y1: AXIS_Y, y2: AXIS_Y }),
      ...axis(lastS, x, Math.floor(width / PX_A_TICK)),
      ...pauses(offsets, x),
      ...this.events.map((event, index) => round(event, x(offsets[index]))),
    );
  }
}

function axis(lastS, x, most) {
  return ticks(0, lastS, Math.max(2, most)).flatMap((second) => [
    svg("line", { class: "grid-line", x1: x(second), x2: x(second), y1: AXIS_Y, y2: AXIS_Y + 5 }),
    svg("text", { class: "tick", x: x(second), y: AXIS_Y + 19 }, second === 0 ? "0" : `${second}\u00a0s`),
  ]);
}

function pauses(offsets, x) {
  return offsets.slice(1).flatMap((second, index) => {
    const [from, to] = [x(offsets[index]), x(second)];
    if (to - from < FIGURE_PX) return [];
    return [svg("text", { class: "pause", x: (from + to) / 2, y: AXIS_Y - 6 }, pauseText(second - offsets[index]))];
  });
}

export const pauseText = (second) => (second < 10 ? second.toFixed(2) : second.toFixed(1));

function round(event, x) {
  const sign = svg(
    "a",
    { class: "round", href: eventLink(event.id), tabindex: -1 },
    svg("rect", { class: "round-back", x: x - 9, y: 0, width: 18, height: AXIS_Y }),
    svg("line", { x1: x, x2: x, y1: 16, y2: AXIS_Y }),
    svg("circle", { cx: x, cy: 14, r: 5 }),
    svg("title", {}, localTime(event.time_ns, 2)),
  );
  markEvent(sign, event);
  return sign;
}
