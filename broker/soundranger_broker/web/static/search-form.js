// The form of the search: what stands in it and the query of the address are the same thing.

import { element } from "./dom.js";

const VERDICTS = [
  ["", "any"],
  ["none", "not reviewed"],
  ["gunshot", "gunshot"],
  ["fireworks", "fireworks"],
  ["other", "other"],
  ["unsure", "unsure"],
];
const CERTAINTIES = [
  ["", "any"],
  ["0.5", "50 % or more"],
  ["0.9", "90 % or more"],
  ["0.99", "99 % or more"],
];
const STATUSES = [
  ["", "any"],
  ["final", "final"],
  ["preliminary", "preliminary"],
  ["retracted", "retracted"],
];
const BOX_DECIMALS = 5;

export class SearchForm {
  // `box` says what the map shows; `onSearch` is told the query.
  constructor(box, onSearch) {
    this.box = box;
    this.since = element("input", { type: "datetime-local" });
    this.until = element("input", { type: "datetime-local" });
    this.certainty = choice(CERTAINTIES);
    this.verdict = choice(VERDICTS);
    this.status = choice(STATUSES);
    this.label = element("input", { type: "text", maxlength: 256, placeholder: "any" });
    this.here = element("input", { type: "checkbox" });
    this.element = element(
      "form",
      { class: "search", role: "search", "aria-label": "Events", onsubmit: (submitted) => this._submit(submitted, onSearch) },
      labelled("From", this.since),
      labelled("Until", this.until),
      labelled("Certainty", this.certainty),
      labelled("Review", this.verdict),
      element("label", { class: "check" }, this.here, element("span", {}, "Only what the map shows")),
      labelled("Status", this.status),
      labelled("Label", this.label),
      element("button", { type: "submit", class: "primary" }, "Search"),
    );
  }

  // Fills the form from a query.
  show(query) {
    const asked = new URLSearchParams(query);
    this.since.value = localInput(asked.get("since"));
    this.until.value = localInput(asked.get("until"));
    this.certainty.value = asked.get("least_probability") ?? "";
    this.verdict.value = asked.get("verdict") ?? "";
    this.status.value = asked.get("status") ?? "";
    this.label.value = asked.get("label") ?? "";
    this.here.checked = asked.has("bbox");
  }

  _submit(submitted, onSearch) {
    submitted.preventDefault();
    const asked = {
      since: instant(this.since.value),
      until: instant(this.until.value),
      least_probability: this.certainty.value,
      verdict: this.verdict.value,
      status: this.status.value,
      label: this.label.value.trim(),
      bbox: this.here.checked ? this.box().map((degrees) => degrees.toFixed(BOX_DECIMALS)).join() : "",
    };
    onSearch(String(new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== ""))));
  }
}

const labelled = (text, field) => element("label", {}, element("span", {}, text), field);

const choice = (options) => element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));

const instant = (local) => (local ? new Date(local).toISOString() : "");

// Returns an instant in the way that a field for local time wants it.
function localInput(text) {
  const time = new Date(text ?? NaN);
  if (Number.isNaN(time.getTime())) return "";
  return new Date(time - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
