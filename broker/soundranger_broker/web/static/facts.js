// A list of facts, name and value, and the buttons that do something with a place.

import { element } from "./dom.js";
import { place } from "./format.js";

const SHOWN_MS = 1500;

export function facts(pairs) {
  const rows = pairs.filter(Boolean).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return element("dl", { class: "facts" }, ...rows);
}

export const positionFact = ({ lat, lon }) => ["Position", element("span", { class: "position" }, place(lat, lon))];

export function placeButtons(message, onZoom) {
  const copy = element("button", { type: "button" }, "Copy position");
  copy.addEventListener("click", async () => {
    copy.textContent = (await copied(copy.closest(".content").querySelector(".position"))) ? "Copied" : "Selected";
    setTimeout(() => {
      copy.textContent = "Copy position";
    }, SHOWN_MS);
  });
  const zoom = element("button", { type: "button", onclick: () => onZoom(message) }, "Zoom to it");
  return element("div", { class: "buttons" }, copy, zoom);
}

// Browsers offer the clipboard to HTTPS and this machine only; elsewhere the text is at least selected.
async function copied(target) {
  getSelection().selectAllChildren(target);
  try {
    await navigator.clipboard.writeText(target.textContent);
    return true;
  } catch {
    return document.execCommand("copy");
  }
}
