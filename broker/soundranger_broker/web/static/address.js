// What is open stands in the address: it can be sent to somebody, and the back button closes it.

import { element } from "./dom.js";

export const eventLink = (id) => `#event/${encodeURIComponent(id)}`;
export const nodeLink = (name) => `#node/${encodeURIComponent(name)}`;
export const backLink = () => element("a", { class: "back", href: "#" }, "‹ All events");

// Returns what is open: kind "events", "nodes", "event" or "node"; the last two with an id.
export function selection() {
  const [kind, id = ""] = location.hash.slice(1).split("/");
  try {
    return { kind: kind || "events", id: decodeURIComponent(id) };
  } catch {
    return { kind: "events", id: "" };
  }
}
