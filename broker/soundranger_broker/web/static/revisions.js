// What was told of an event, one revision after the other, and what changed from each to the next.

import { element } from "./dom.js";
import { usedArrivals } from "./features.js";
import { count, metres, percent, seconds } from "./format.js";
import { distanceM } from "./geodesy.js";

// A change that reads the same before and after is none.
const SMALLEST_MOVE_M = 0.05;

export function revisionList(revisions) {
  const items = revisions.map(({ told_ns, event }, index) => {
    const delay = seconds(Math.max(0, (told_ns - event.time_ns) / 1e9));
    const before = revisions[index - 1]?.event;
    return element(
      "li",
      {},
      element("strong", {}, `${event.status}, ${delay} after the bang`),
      element("span", {}, before ? changes(before, event).join("; ") : first(event)),
    );
  });
  return element("ol", { class: "revisions" }, ...items);
}

const first = (event) =>
  [count(usedArrivals(event), "arrival"), `± ${metres(event.ellipse95.semi_major_m)}`, percent(event.probability)].join(", ");

// Returns what a person would notice, as phrases.
export function changes(before, after) {
  const moved = distanceM(before, after);
  const shown = (name, text) => {
    const [from, to] = [text(before), text(after)];
    return from === to ? null : `${name} ${from} → ${to}`;
  };
  const told = [
    moved >= SMALLEST_MOVE_M ? `moved ${metres(moved)}` : null,
    shown("ellipse", (event) => metres(event.ellipse95.semi_major_m)),
    shown("probability", (event) => percent(event.probability)),
    shown("arrivals", (event) => String(usedArrivals(event))),
    shown("silent", (event) => String(event.silent.length)),
    shown("label", (event) => event.label ?? "none"),
    after.reason && after.reason !== before.reason ? `doubt: ${after.reason}` : null,
    before.reason && !after.reason ? "no more doubt" : null,
  ].filter(Boolean);
  return told.length > 0 ? told : ["nothing else changed"];
}
