// The key: what the signs on the map mean, and how the middle is doing.

import { element } from "./dom.js";
import { eventSign, nodeSign, shotSign } from "./signs.js";

const EVENTS = [
  [{ status: "final", probability: 0.99 }, "event, 90 % sure or more"],
  [{ status: "final", probability: 0.6 }, "event, 50 to 90 % sure"],
  [{ status: "final", probability: 0.2 }, "event, less than 50 % sure"],
  [{ status: "preliminary", probability: 0.99 }, "preliminary event"],
];

export function key() {
  const lines = [
    ...["online", "stale", "offline"].map((state) => [nodeSign(state), `node ${state}`]),
    ...EVENTS.map(([event, text]) => [eventSign(event), text]),
    [shotSign(), "true place of a simulated shot"],
  ];
  return element(
    "details",
    { class: "key" },
    element("summary", {}, "Key and figures"),
    element("ul", {}, ...lines.map(([sign, text]) => element("li", {}, sign, element("span", {}, text)))),
    element("p", {}, "The outline around an event holds the true place in 95 of 100 cases."),
    element("p", { id: "figures" }),
  );
}
