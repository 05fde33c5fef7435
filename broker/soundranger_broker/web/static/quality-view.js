// How good the centre is, by what people said of its events: month by month.

import { backLink } from "./address.js";
import { address, ask } from "./api.js";
import { element } from "./dom.js";
import { unit } from "./format.js";

const COLUMNS = [
  ["events", "Events"],
  ["gunshot", "Gun\u00adshot"],
  ["fireworks", "Fire\u00adworks"],
  ["other", "Other"],
  ["unsure", "Un\u00adsure"],
  ["unreviewed", "Not re\u00adviewed"],
];

export class QualityView {
  constructor(refresh) {
    this.refresh = refresh;
    this.answer = null;
    this.isOpen = false;
  }

  show(panel) {
    if (!this.isOpen) {
      this.isOpen = true;
      this._fetch();
    }
    panel.build(["quality", this.answer], () => [
      backLink(),
      element("h2", { tabindex: -1 }, "Quality, as reviewed"),
      ...(this.answer === null ? [element("p", { class: "empty" }, "Counting…")] : this.answer),
    ]);
  }

  receive(kind) {
    if (this.isOpen && (kind === "review" || kind === "snapshot")) this._fetch();
  }

  leave() {
    this.isOpen = false;
    this.answer = null;
  }

  async _fetch() {
    try {
      this.answer = report(await ask("quality"));
    } catch (problem) {
      this.answer = [element("p", { class: "empty", role: "status" }, problem.message)];
    }
    this.refresh();
  }
}

function report({ months, total }) {
  const head = ["Month (UTC)", ...COLUMNS.map(([, text]) => text), "Precision"];
  return [
    element(
      "div",
      { class: "wide" },
      element(
        "table",
        { class: "quality" },
        element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
        element("tbody", {}, ...[...months].reverse().map((month) => row(month.month, month))),
        element("tfoot", {}, row("All", total)),
      ),
    ),
    element(
      "p",
      { class: "note" },
      "Precision is the share of gunshots among the final events of which people could say what they were: gunshots, " +
        "fireworks and other noise. Events of which nobody is sure, and those not reviewed, are counted apart: they are " +
        "not known to be false.",
    ),
    element(
      "div",
      { class: "buttons" },
      element("a", { class: "button", href: address("quality.csv"), download: "" }, "CSV"),
      element("a", { class: "button", href: "#review" }, "Review events"),
    ),
  ];
}

function row(name, counts) {
  const cells = COLUMNS.map(([key]) => element("td", {}, String(counts[key])));
  const precision = counts.precision === null ? "–" : unit(100 * counts.precision, 1, "%");
  return element("tr", {}, element("th", { scope: "row" }, name), ...cells, element("td", {}, precision));
}
