// The list of nodes, and one node opened.

import { backLink, nodeLink } from "./address.js";
import { element, reconcile, setText } from "./dom.js";
import { ago, unit } from "./format.js";
import { nodeDetail } from "./node-detail.js";
import { health } from "./picture.js";
import { nodeSign } from "./signs.js";

export class NodeListView {
  show(panel, { picture, nowMs }) {
    panel.build(["nodes"], () => [
      backLink(),
      element("h2", { tabindex: -1 }, "Nodes"),
      element("p", { class: "empty" }),
      element("ol", { class: "list nodes" }),
    ]);
    const nodes = picture.nodesByName();
    panel.setEmpty(nodes.length === 0, "No node has reported yet.");
    reconcile(panel.find("ol.list"), nodes, (node) => node.node, makeItem, (item, node) =>
      updateItem(item, node, picture.faultsOf(node.node), nowMs),
    );
  }
}

export class NodeView {
  constructor(onZoom) {
    this.onZoom = onZoom;
  }

  show(panel, { picture, selection, nowMs }) {
    const node = picture.nodes.get(selection.id);
    if (!node) {
      panel.build(["node", selection.id, null], () => [
        backLink(),
        element("h2", { tabindex: -1 }, "Node"),
        element("p", { class: "empty" }, "No node of this name has reported."),
      ]);
      return;
    }
    const faults = picture.faultsOf(selection.id);
    panel.build(["node", selection.id, node, health(node, nowMs), ago(node.time_ns, nowMs), faults.join()], () =>
      nodeDetail(node, faults, nowMs, this.onZoom),
    );
  }

  chosen({ picture, selection }) {
    return { node: picture.nodes.get(selection.id) };
  }
}

function makeItem(node) {
  return element(
    "li",
    {},
    element(
      "a",
      { href: nodeLink(node.node) },
      element("span", { class: "item-sign" }),
      element("span", { class: "item-title" }, node.node),
      element("span", { class: "item-size" }),
      element("span", { class: "item-more" }),
      element("span", { class: "item-age" }),
    ),
  );
}

function updateItem(item, node, faults, nowMs) {
  const state = health(node, nowMs);
  if (item.state !== state) {
    item.state = state;
    item.querySelector(".item-sign").replaceChildren(nodeSign(state));
    setText(item.querySelector(".item-size"), state);
  }
  setText(item.querySelector(".item-more"), faults.join("\n") || condition(node));
  item.dataset.faulty = faults.length > 0;
  setText(item.querySelector(".item-age"), ago(node.time_ns, nowMs));
}

function condition(node) {
  const noise = node.noise_dbfs === undefined ? null : `noise ${unit(node.noise_dbfs, 0, "dBFS")}`;
  return [`clock ${node.clock.tier}`, noise].filter(Boolean).join(" · ");
}
