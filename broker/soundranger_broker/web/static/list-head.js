// What stands above and below lists: the way between events and incidents, and whose time is shown.

import { element } from "./dom.js";
import { offsetName, zoneName } from "./format.js";

const TABS = [
  ["events", "#", "Events"],
  ["incidents", "#incidents", "Incidents"],
];

export function listTabs(open) {
  const links = TABS.map(([name, href, text]) =>
    element("a", { href, "aria-current": name === open ? "page" : null }, text),
  );
  return element("nav", { class: "tabs", "aria-label": "What is listed" }, ...links);
}

export function zoneNote(nowMs) {
  const [zone, offset] = [zoneName(nowMs * 1e6), offsetName(nowMs)];
  return element("p", { class: "fine-print" }, zone === offset ? `Times are ${offset}.` : `Times are ${zone} (${offset}).`);
}
