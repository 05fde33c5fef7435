// What is open stands in the address: it can be sent to somebody, and the back button closes it.

import { element } from "./dom.js";

export const eventLink = (id) => `#event/${encodeURIComponent(id)}`;
export const nodeLink = (name) => `#node/${encodeURIComponent(name)}`;
export const incidentLink = (id) => `#incident/${encodeURIComponent(id)}`;
export const reviewLink = (id) => `#review/${encodeURIComponent(id)}`;
export const searchLink = (query) => (query ? `#search?${query}` : "#search");
export const backLink = () => element("a", { class: "back", href: "#" }, "‹ All events");

// Returns what is open: its kind (such as "events" or "event"), the id where it has one, and what stands after "?".
export function selection() {
  const [path, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  const [kind, id = ""] = path.split("/");
  try {
    return { kind: kind || "events", id: decodeURIComponent(id), query };
  } catch {
    return { kind: "events", id: "", query: "" };
  }
}
