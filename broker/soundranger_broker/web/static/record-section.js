// The record section: every node's sound, stacked by distance, with the travel-time line through the arrivals. The one
// picture that shows whether a location is right. It can also be lined up on the expected arrivals,
// where milliseconds are wide enough to be seen.

import { element, svg } from "./dom.js";
import { metres, signedMs } from "./format.js";
import { ticks } from "./ticks.js";
import { envelope, loudest } from "./waveform.js";

const MARGIN = { top: 10, right: 66, bottom: 40 };
const ROW_PX = 28;
// From this width on, a node's name and its distance stand beside, not below each other, and rows may come closer.
const WIDE_PX = 440;
const LEFT_PX = { narrow: 92, wide: 142 };
const CLOSEST_PX = { narrow: 28, wide: 19 };
// Rows stand by distance, over so much more than they need at least: the nearer to true distances, the straighter the
// line.
const STRETCH = 1.35;
const NARROWEST_PX = 280;
const PX_A_TICK = 46;
const LETTER_PX = 6.6;
// Shown before the first and after the last arrival.
const AROUND_S = [0.06, 0.2];
// How far the lined-up view reaches, at least and at most.
const LINED_UP_S = [0.02, 0.25];

const VIEWS = { travel: "From the bang", residual: "From the expected arrival" };

export class RecordSection {
  // `onChoose` is told the trace that a person picked.
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.view = "travel";
    this.traces = [];
    this.chosen = null;
    this.buttons = Object.entries(VIEWS).map(([view, text]) =>
      element("button", { type: "button", "data-view": view, onclick: () => this._see(view) }, text),
    );
    this.picture = svg("svg", { class: "record-section", role: "img" });
    this.element = element(
      "div",
      { class: "record" },
      element("div", { class: "switch", role: "group", "aria-label": "Time axis of the record section" }, ...this.buttons),
      this.picture,
      recordKey(),
    );
    new ResizeObserver(() => this._draw()).observe(this.element);
  }

  show(traces, chosen) {
    this.traces = traces;
    this.chosen = chosen;
    this._draw();
  }

  _see(view) {
    this.view = view;
    this._draw();
  }

  _draw() {
    for (const button of this.buttons) button.setAttribute("aria-pressed", button.dataset.view === this.view);
    const width = Math.max(NARROWEST_PX, this.element.clientWidth);
    if (this.traces.length === 0 || this.element.clientWidth === 0) return;
    const layout = layOut(this.traces, width, this.view === "residual");
    this.picture.setAttribute("viewBox", `0 0 ${width} ${layout.height}`);
    this.picture.setAttribute("height", layout.height);
    this.picture.setAttribute("aria-label", summary(this.traces));
    this.picture.replaceChildren(
      ...axis(layout, this.view === "residual"),
      ...this.traces.map((trace, index) => this._row(trace, layout, index)),
      svg("polyline", { class: "travel-line", points: layout.line }),
      ...this.traces.flatMap((trace, index) => marks(trace, layout, index)),
    );
  }

  _row(trace, layout, index) {
    const y = layout.ys[index];
    const parts = [
      svg("rect", { class: "row-back", x: 0, y: y - ROW_PX / 2, width: layout.width, height: ROW_PX }),
      svg("line", { class: "base-line", x1: layout.left, x2: layout.right, y1: y, y2: y }),
      trace.sound?.buffer ? wave(trace, layout, index) : null,
      ...labels(trace, layout, y),
      svg("text", { class: "row-residual", x: layout.width - 6, y: y + 4 }, residualText(trace)),
      svg("title", {}, rowTitle(trace)),
    ];
    const row = svg("g", { class: "row", "data-node": trace.node, "data-state": state(trace) }, ...parts);
    row.dataset.chosen = trace.detection !== undefined && trace.detection === this.chosen;
    if (trace.sound) row.addEventListener("click", () => this.onChoose(trace.detection));
    return row;
  }
}

const state = (trace) => (trace.arrivedS === null ? "silent" : trace.used ? "used" : "unused");

const residualText = (trace) => (trace.arrivedS === null ? "silent" : `${signedMs(trace.residualS)}\u00a0ms`);

function rowTitle(trace) {
  const used = { used: "used", unused: "not used", silent: "heard nothing" }[state(trace)];
  return `${trace.node}, ${metres(trace.distanceM)}: ${residualText(trace)}, ${used}`;
}

function summary(traces) {
  const number = (wanted) => traces.filter((trace) => state(trace) === wanted).length;
  const lateMs = Math.max(0, ...traces.filter((trace) => trace.used).map((trace) => Math.abs(trace.residualS) * 1000));
  return (
    `Record section: ${number("used")} arrivals used, ${number("unused")} not used, ${number("silent")} nodes silent. ` +
    `The used ones fit within ${lateMs.toFixed(1)} ms. The table below has the numbers.`
  );
}

// Returns where everything goes: `ys` a row, `x` of a time at a row, `fromS` and `toS` of the axis.
function layOut(traces, width, isLinedUp) {
  const isWide = width >= WIDE_PX;
  const size = isWide ? "wide" : "narrow";
  const ys = rowHeights(traces.map((trace) => trace.distanceM), CLOSEST_PX[size]);
  const left = LEFT_PX[size];
  const right = width - MARGIN.right;
  const [fromS, toS] = isLinedUp ? linedUpSpan(traces) : travelSpan(traces);
  const originS = (index) => (isLinedUp ? traces[index].expectedS : 0);
  const x = (timeS, index) => left + ((timeS - originS(index) - fromS) / (toS - fromS)) * (right - left);
  const line = traces.map((trace, index) => `${x(trace.expectedS, index).toFixed(1)},${ys[index].toFixed(1)}`);
  if (traces.length === 1) line.push(`${x(traces[0].expectedS, 0)},${ys[0] + ROW_PX / 2}`);
  const height = ys.at(-1) + ROW_PX / 2 + MARGIN.bottom;
  return { width, height, isWide, left, right, ys, fromS, toS, originS, x, line: line.join(" ") };
}

// By distance, but never so close that one row covers another.
function rowHeights(distancesM, closestPx) {
  const nearest = distancesM[0];
  const scale = (STRETCH * ROW_PX * (distancesM.length - 1)) / Math.max(1, distancesM.at(-1) - nearest);
  let above = -Infinity;
  return distancesM.map((distanceM) => {
    above = Math.max(above + closestPx, (distanceM - nearest) * scale);
    return MARGIN.top + ROW_PX / 2 + above;
  });
}

function travelSpan(traces) {
  const times = traces.flatMap((trace) => [trace.expectedS, trace.arrivedS ?? trace.expectedS]);
  const first = Math.min(...times);
  const last = Math.max(...times);
  const extraS = (last - first) / 12;
  return [first - AROUND_S[0] - extraS, last + AROUND_S[1] + extraS];
}

function linedUpSpan(traces) {
  const widest = Math.max(0, ...traces.filter((trace) => trace.used).map((trace) => Math.abs(trace.residualS)));
  const [least, most] = LINED_UP_S;
  const reachS = Math.min(Math.max(2.5 * widest, least), most);
  return [-reachS, reachS];
}

function axis(layout, isLinedUp) {
  const most = Math.max(2, Math.floor((layout.right - layout.left) / PX_A_TICK));
  const bottom = layout.height - MARGIN.bottom + 2;
  const at = (timeS) => layout.left + ((timeS - layout.fromS) / (layout.toS - layout.fromS)) * (layout.right - layout.left);
  const unitS = isLinedUp ? 1e-3 : 1;
  const marksAt = ticks(layout.fromS / unitS, layout.toS / unitS, most);
  return [
    ...marksAt.flatMap((value) => [
      svg("line", { class: "grid-line", x1: at(value * unitS), x2: at(value * unitS), y1: MARGIN.top, y2: bottom }),
      svg("text", { class: "tick", x: at(value * unitS), y: bottom + 14 }, String(value).replace("-", "\u2212")),
    ]),
    svg(
      "text",
      { class: "tick", x: (layout.left + layout.right) / 2, y: bottom + 30 },
      isLinedUp ? "ms after the expected arrival" : "s after the bang",
    ),
  ];
}

function wave(trace, layout, index) {
  const shiftS = trace.arrivedS - trace.onsetS;
  const originS = layout.originS(index);
  const steps = Math.round(layout.right - layout.left);
  const pairs = envelope(
    trace.sound.buffer,
    layout.fromS + originS - shiftS,
    layout.toS + originS - shiftS,
    steps,
  );
  const scale = (0.46 * ROW_PX) / loudest(trace.sound.buffer);
  const y = layout.ys[index];
  // One line through all of them: where a step holds a sample or two, the shape still shows.
  const points = pairs.flatMap((pair, step) =>
    pair ? pair.map((value) => `${layout.left + step + 0.5} ${(y - value * scale).toFixed(1)}`) : [],
  );
  if (points.length === 0) return null;
  return svg("path", { class: "wave", d: `M${points.join("L")}` });
}

// The mark of an arrival: a full dot where it is used, a ring where it is not, an arrow where it is out of sight.
function marks(trace, layout, index) {
  if (trace.arrivedS === null) return [];
  const y = layout.ys[index];
  const x = layout.x(trace.arrivedS, index);
  const mark = { class: "mark", "data-state": state(trace), "data-node": trace.node };
  if (x < layout.left) return [svg("path", { ...mark, d: `M${layout.left} ${y}l6 -4v8z` })];
  if (x > layout.right) return [svg("path", { ...mark, d: `M${layout.right} ${y}l-6 -4v8z` })];
  const half = 0.46 * ROW_PX;
  return [
    svg("line", { ...mark, class: "onset", x1: x, x2: x, y1: y - half, y2: y + half }),
    svg("circle", { ...mark, cx: x, cy: y, r: 3.5 }),
  ];
}

function labels(trace, { left, isWide }, y) {
  const name = shortened(trace.node, isWide ? left - 66 : left - 14);
  const beside = { class: "row-distance is-beside", x: left - 10, y: y + 4 };
  const below = { class: "row-distance", x: 8, y: y + 11 };
  return [
    svg("text", { class: "row-name", x: 8, y: isWide ? y + 4 : y - 1 }, name),
    svg("text", isWide ? beside : below, metres(trace.distanceM)),
  ];
}

function shortened(name, roomPx) {
  const most = Math.floor(roomPx / LETTER_PX);
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}

function recordKey() {
  const sign = (state) => svg("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, svg("circle", { class: "mark", "data-state": state, r: 3.5 }));
  const line = svg("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, svg("path", { class: "travel-line", d: "M-6 0H6" }));
  const lines = [
    [sign("used"), "arrival, used"],
    [sign("unused"), "not used"],
    [line, "expected"],
  ];
  return element("ul", { class: "record-key" }, ...lines.map(([drawing, text]) => element("li", {}, drawing, text)));
}
