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
      (drawing, node) => update(drawing, node, health(node, nowMs), {
        silent: Boolean(chosenEvent?.silent?.includes(node.node)),
        chosen: node === chosenNode,
      }),
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

// Touches only what has changed: there may be hundreds of nodes, and this runs whenever one of them speaks.
function update(drawing, node, state, { silent, chosen }) {
  if (drawing.state !== state) {
    drawing.state = state;
    drawing.sign.replaceChildren(nodeSign(state));
    drawing.button.setAttribute("aria-label", `Node ${node.node}, ${state}`);
  }
  if (drawing.silent !== silent || drawing.chosen !== chosen) {
    Object.assign(drawing, { silent, chosen });
    drawing.button.dataset.silent = silent;
    drawing.button.dataset.chosen = chosen;
  }
  if (drawing.lat !== node.lat || drawing.lon !== node.lon) {
    Object.assign(drawing, { lat: node.lat, lon: node.lon });
    drawing.marker.setLatLng([node.lat, node.lon]);
  }
}
