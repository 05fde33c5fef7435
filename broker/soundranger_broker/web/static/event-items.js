// A line of a list: one event.

import { eventLink } from "./address.js";
import { element, reconcile, setText } from "./dom.js";
import { usedArrivals } from "./features.js";
import { ago, count, localDateTime, localTime, metres, percent, utcDateTime } from "./format.js";
import { VERDICTS } from "./review-form.js";
import { eventSign } from "./signs.js";

// Brings a list up to date. `age` says what stands at the lower right: "ago" or "date".
export function showEvents(list, events, { reviews, nowMs, age = "ago" }) {
  reconcile(list, events, (event) => event.id, makeItem, (item, event) => {
    const verdict = reviews.get(event.id)?.verdict;
    setText(item.querySelector(".item-age"), age === "ago" ? ago(event.time_ns, nowMs) : dateOf(event.time_ns));
    if (item.event === event && item.verdict === verdict) return;
    Object.assign(item, { event, verdict });
    updateItem(item, event, verdict);
  });
}

const dateOf = (timeNs) => localDateTime(timeNs).slice(0, 10);

function makeItem(event) {
  return element(
    "li",
    {},
    element(
      "a",
      { href: eventLink(event.id) },
      eventSign(event),
      element("span", { class: "item-title" }),
      element("span", { class: "item-size" }),
      element("span", { class: "item-more" }),
      element("span", { class: "item-age" }),
    ),
  );
}

function updateItem(item, event, verdict) {
  const state = event.status === "final" ? event.label : event.status;
  item.dataset.status = event.status;
  item.querySelector(".event-sign").replaceWith(eventSign(event));
  item.querySelector("a").title = `${utcDateTime(event.time_ns)} UTC`;
  setText(item.querySelector(".item-title"), localTime(event.time_ns));
  setText(item.querySelector(".item-size"), `± ${metres(event.ellipse95.semi_major_m)}`);
  const parts = [VERDICTS[verdict], state, percent(event.probability), count(usedArrivals(event), "node")];
  setText(item.querySelector(".item-more"), parts.filter(Boolean).join(" · "));
}
