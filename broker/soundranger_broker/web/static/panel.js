// The panel beside (on a phone: below) the map: the list of events, the list of nodes, or one of either opened.

import { backLink, eventLink, nodeLink } from "./address.js";
import { element, reconcile } from "./dom.js";
import { eventDetail } from "./event-detail.js";
import { ago, count, localTime, metres, percent } from "./format.js";
import { nodeDetail } from "./node-detail.js";
import { health } from "./picture.js";
import { eventSign, nodeSign } from "./signs.js";

const SHOWN = 300;
const REFUSALS_SHOWN = 20;

export class Panel {
  constructor(content, onZoom) {
    this.content = content;
    this.onZoom = onZoom;
    this.view = "";
    this.built = [];
  }

  show(picture, selection, nowMs) {
    const view = `${selection.kind}/${selection.id}`;
    const isOpened = view !== this.view;
    const left = this.view;
    this.view = view;
    if (selection.kind === "event") this._showEvent(picture, selection.id);
    else if (selection.kind === "node") this._showNode(picture, selection.id, nowMs);
    else if (selection.kind === "nodes") this._showNodes(picture, nowMs, isOpened);
    else this._showEvents(picture, nowMs, isOpened);
    if (isOpened && left !== "") this._moveFocus(left);
  }

  _showEvents(picture, nowMs, isOpened) {
    const list = this._list(isOpened, "Latest events", "events", [], [centreProblem(), refusedPart()]);
    const events = picture.newestEvents(SHOWN);
    this._setEmpty(
      events.length === 0,
      picture.nodes.size === 0
        ? "No node has reported yet. Nodes appear here as soon as they reach the broker."
        : "Nothing located yet. An event appears here the moment enough nodes have heard it.",
    );
    reconcile(list, events, (event) => event.id, makeEventItem, (item, event) => updateEventItem(item, event, nowMs));
    this._showProblems(picture);
    this._showRefusals(picture, nowMs);
  }

  _showProblems(picture) {
    const note = this.content.querySelector(".centre-problem");
    const problems = picture.centre?.problems ?? [];
    setText(note, problems.join("\n"));
    note.hidden = problems.length === 0;
  }

  _showRefusals(picture, nowMs) {
    const refusals = picture.newestRefusals(REFUSALS_SHOWN);
    const part = this.content.querySelector(".refused");
    part.hidden = refusals.length === 0;
    setText(part.querySelector("summary span"), `Heard, not located (${refusals.length})`);
    const update = (item, refusal) => setText(item.querySelector(".item-age"), ago(refusal.time_ns, nowMs));
    reconcile(part.querySelector("ol"), refusals, (refusal) => refusal.id, makeRefusalItem, update);
  }

  _showNodes(picture, nowMs, isOpened) {
    const list = this._list(isOpened, "Nodes", "nodes", [backLink()]);
    const nodes = picture.nodesByName();
    this._setEmpty(nodes.length === 0, "No node has reported yet.");
    reconcile(list, nodes, (node) => node.node, makeNodeItem, (item, node) =>
      updateNodeItem(item, node, picture.faultsOf(node.node), nowMs),
    );
  }

  _showEvent(picture, id) {
    const event = picture.events.get(id);
    if (!event) {
      this._build([this.view, "missing"], () => missing("Event", "This event is not among the latest that are kept here."));
      return;
    }
    const incident = picture.incidentOf(event);
    const shot = picture.shotOf(event);
    this._build([this.view, event, incident, shot], () => eventDetail(event, incident, shot, picture, this.onZoom));
  }

  _showNode(picture, name, nowMs) {
    const node = picture.nodes.get(name);
    if (!node) {
      this._build([this.view, "missing"], () => missing("Node", "No node of this name has reported."));
      return;
    }
    const faults = picture.faultsOf(name);
    this._build([this.view, node, health(node, nowMs), ago(node.time_ns, nowMs), faults.join()], () =>
      nodeDetail(node, faults, nowMs, this.onZoom),
    );
  }

  // Rebuilds the panel only where something that it shows has changed: scrolling, selected text and focus survive.
  _build(inputs, make) {
    if (inputs.length === this.built.length && inputs.every((input, index) => input === this.built[index])) return;
    const isSame = inputs[0] === this.built[0];
    const scrolled = this.content.scrollTop;
    this.built = inputs;
    this.content.replaceChildren(...make());
    this.content.scrollTop = isSame ? scrolled : 0;
  }

  _list(isOpened, title, name, back = [], above = []) {
    if (isOpened) {
      this.built = [];
      this.content.replaceChildren(
        ...back,
        element("h2", { tabindex: -1 }, title),
        ...above,
        element("p", { class: "empty" }),
        element("ol", { class: `list ${name}` }),
      );
    }
    return this.content.querySelector("ol.list");
  }

  _setEmpty(isEmpty, text) {
    const note = this.content.querySelector(".empty");
    note.textContent = isEmpty ? text : "";
    note.hidden = !isEmpty;
  }

  // Who opened an event by keyboard goes on reading there, and comes back to the same line of the list.
  _moveFocus(left) {
    const line = [...this.content.querySelectorAll(".list > li")].find((item) => left.endsWith(`/${item.dataset.id}`));
    (line?.querySelector("a") ?? this.content.querySelector("h2")).focus();
  }
}

function missing(title, text) {
  return [backLink(), element("h2", { tabindex: -1 }, title), element("p", { class: "empty" }, text)];
}

function makeEventItem(event) {
  return element(
    "li",
    {},
    element(
      "a",
      { href: eventLink(event.id) },
      eventSign(event),
      element("span", { class: "item-title" }),
      element("span", { class: "item-size" }),
      element("span", { class: "item-more" }),
      element("span", { class: "item-age" }),
    ),
  );
}

function updateEventItem(item, event, nowMs) {
  setText(item.querySelector(".item-age"), ago(event.time_ns, nowMs));
  if (item.event === event) return;
  item.event = event;
  const used = event.arrivals.filter((arrival) => arrival.used).length;
  const state = event.status === "final" ? event.label : event.status;
  item.dataset.status = event.status;
  item.querySelector(".event-sign").replaceWith(eventSign(event));
  setText(item.querySelector(".item-title"), localTime(event.time_ns));
  setText(item.querySelector(".item-size"), `± ${metres(event.ellipse95.semi_major_m)}`);
  setText(
    item.querySelector(".item-more"),
    [state, percent(event.probability), count(used, "node")].filter(Boolean).join(" · "),
  );
}

// What the middle says does not work with itself.
const centreProblem = () => element("p", { class: "reason centre-problem", role: "status" });

function refusedPart() {
  return element(
    "details",
    { class: "refused" },
    element("summary", {}, element("span", {})),
    element("ol", { class: "refusals" }),
  );
}

function makeRefusalItem(refusal) {
  const more = refusal.left_out ? ` Before it, ${refusal.left_out} more were not told.` : "";
  return element(
    "li",
    {},
    element("span", { class: "item-title" }, localTime(refusal.time_ns)),
    element("span", { class: "item-age" }),
    element("span", { class: "refusal-reason" }, refusal.reason + more),
  );
}

function makeNodeItem(node) {
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

function updateNodeItem(item, node, faults, nowMs) {
  const state = health(node, nowMs);
  item.querySelector(".item-sign").replaceChildren(nodeSign(state));
  setText(item.querySelector(".item-size"), state);
  setText(item.querySelector(".item-more"), faults.join("\n") || `clock ${node.clock.tier}`);
  item.dataset.faulty = faults.length > 0;
  setText(item.querySelector(".item-age"), ago(node.time_ns, nowMs));
}

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
