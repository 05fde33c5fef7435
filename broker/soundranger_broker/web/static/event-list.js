// The latest events, what was heard and not located, and what does not work.

import { element, reconcile, setText } from "./dom.js";
import { showEvents } from "./event-items.js";
import { ago, localTime } from "./format.js";
import { listTabs, zoneNote } from "./list-head.js";

const SHOWN = 300;
const REFUSALS_SHOWN = 20;

export class EventListView {
  show(panel, { picture, nowMs }) {
    panel.build(["events"], () => [
      element("h2", { tabindex: -1 }, "Latest events"),
      listTabs("events"),
      problemNote(),
      refusedPart(),
      element("p", { class: "empty" }),
      element("ol", { class: "list events" }),
      zoneNote(nowMs),
    ]);
    const events = picture.newestEvents().slice(0, SHOWN);
    panel.setEmpty(
      events.length === 0,
      picture.nodes.size === 0
        ? "No node has reported yet. Nodes appear here as soon as they reach the broker."
        : "Nothing located yet. An event appears here the moment enough nodes have heard it.",
    );
    showEvents(panel.find("ol.list"), events, { reviews: picture.reviews, nowMs });
    showProblems(panel.find(".centre-problem"), picture.centre?.problems ?? []);
    showRefusals(panel.find(".refused"), picture.newestRefusals(REFUSALS_SHOWN), nowMs);
  }
}

// What the middle says does not work with itself.
const problemNote = () => element("p", { class: "reason centre-problem", role: "status" });

function showProblems(note, problems) {
  setText(note, problems.join("\n"));
  note.hidden = problems.length === 0;
}

function refusedPart() {
  return element(
    "details",
    { class: "refused" },
    element("summary", {}, element("span", {})),
    element("ol", { class: "refusals" }),
  );
}

function showRefusals(part, refusals, nowMs) {
  part.hidden = refusals.length === 0;
  setText(part.querySelector("summary span"), `Heard, not located (${refusals.length})`);
  const update = (item, refusal) => setText(item.querySelector(".item-age"), ago(refusal.time_ns, nowMs));
  reconcile(part.querySelector("ol"), refusals, (refusal) => refusal.id, makeRefusalItem, update);
}

function makeRefusalItem(refusal) {
  const more = refusal.left_out ? ` Before it, ${refusal.left_out} more were not told.` : "";
  return element(
    "li",
    {},
    element("span", { class: "item-title" }, localTime(refusal.time_ns)),
    element("span", { class: "item-age" }),
    element("span", { class: "refusal-reason" }, refusal.reason + more),
  );
}
