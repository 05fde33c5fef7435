// The nodes on the map: a sign by health, and the name.

import { element } from "./dom.js";
import { addSign, keep } from "./marker.js";
import { health } from "./picture.js";
import { nodeSign } from "./signs.js";

export class NodeLayer {
  constructor(map, onSelect) {
    this.map = map;
    this.onSelect = onSelect;
    this.drawings = new Map();
  }

  show(nodes, chosenEvent, chosenNode, nowMs) {
    keep(
      this.drawings,
      nodes,
      (node) => node.node,
      (node) => this._draw(node),
      (drawing, node) => {
        const state = health(node, nowMs);
        if (drawing.state !== state) {
          drawing.state = state;
          drawing.sign.replaceChildren(nodeSign(state));
          drawing.button.setAttribute("aria-label", `Node ${node.node}, ${state}`);
        }
        drawing.button.dataset.silent = Boolean(chosenEvent?.silent.includes(node.node));
        drawing.button.dataset.chosen = node === chosenNode;
        drawing.marker.setLatLng([node.lat, node.lon]);
      },
      (drawing) => drawing.marker.remove(),
    );
  }

  _draw(node) {
    const sign = element("span", { class: "hit" });
    const label = element("span", { class: "node-name" }, node.node);
    const button = element("button", { type: "button", class: "node" }, sign, label);
    L.DomEvent.disableClickPropagation(button);
    button.addEventListener("click", () => this.onSelect(node.node));
    return { marker: addSign(this.map, "nodes", node, button, { interactive: true }), button, sign, state: null };
  }
}
