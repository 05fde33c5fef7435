// A list of facts, name and value, and the buttons that do something with a place.

import { element } from "./dom.js";
import { place } from "./format.js";

const SHOWN_MS = 1500;

export function facts(pairs) {
  const rows = pairs.filter(Boolean).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return element("dl", { class: "facts" }, ...rows);
}

export const positionFact = ({ lat, lon }) => ["Position", element("span", { class: "position" }, place(lat, lon))];

export function placeButtons(message, onZoom, ...more) {
  const position = () => document.querySelector("#content .position");
  const zoom = element("button", { type: "button", onclick: () => onZoom(message) }, "Zoom to it");
  return element("div", { class: "buttons" }, copyButton("Copy position", position), zoom, ...more);
}

// Copies the address of what is open, whatever page of ours it is copied from.
export function linkButton(hash) {
  const text = element("span", { class: "unseen" }, location.href.split("#")[0] + hash);
  const button = copyButton("Copy link", () => text);
  return element("span", { class: "with-text" }, button, text);
}

function copyButton(name, target) {
  const button = element("button", { type: "button" }, name);
  button.addEventListener("click", async () => {
    button.textContent = (await copied(target())) ? "Copied" : "Selected";
    setTimeout(() => {
      button.textContent = name;
    }, SHOWN_MS);
  });
  return button;
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
