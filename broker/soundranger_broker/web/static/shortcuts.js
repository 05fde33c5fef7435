// The keyboard: single keys where no text is being typed, and a list of them.

import { element } from "./dom.js";

const KEYS = [
  ["g f o u", "in the review: gunshot, fireworks, other, unsure"],
  ["j k", "in the review: next and previous event"],
  ["Space", "play the sound of the open event, or stop it"],
  ["?", "this list"],
  ["Esc", "close this list"],
];

// `actions(key)` returns what a key does just now, or undefined.
export function listenForKeys(actions) {
  document.addEventListener("keydown", (pressed) => {
    if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || pressed.defaultPrevented) return;
    const { target, key } = pressed;
    if (target.closest("input, textarea, select, dialog")) return;
    // A focused button or link is what the space bar is for.
    if (key === " " && target.closest("button, a, summary")) return;
    const action = actions(key);
    if (!action) return;
    pressed.preventDefault();
    action();
  });
}

export function showHelp() {
  const rows = KEYS.flatMap(([keys, text]) => [
    element("dt", {}, ...keys.split(" ").map((key) => element("kbd", {}, key))),
    element("dd", {}, text),
  ]);
  const dialog = element("dialog", { class: "help", "aria-labelledby": "help-title", onclose: () => dialog.remove() });
  dialog.append(
    element("h2", { id: "help-title" }, "Keys"),
    element("dl", { class: "keys" }, ...rows),
    element("button", { type: "button", onclick: () => dialog.close() }, "Close"),
  );
  document.body.append(dialog);
  dialog.showModal();
}
