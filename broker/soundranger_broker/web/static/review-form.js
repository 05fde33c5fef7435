// Says what an event was: four buttons, a note, and who says so. The name is remembered in this browser.

import { tell } from "./api.js";
import { element } from "./dom.js";
import { localDateTime } from "./format.js";

export const VERDICTS = { gunshot: "Gunshot", fireworks: "Fireworks", other: "Other", unsure: "Unsure" };
const REMEMBERED = "soundranger-reviewer";
const LONGEST_NOTE = 2000;
const LONGEST_NAME = 128;

export class ReviewForm {
  // `onJudged` is told the event, and what it was judged to be (null: that it is open again).
  constructor(onJudged) {
    this.onJudged = onJudged;
    this.event = "";
    this.said = null;
    this.sending = false;
    this.buttons = Object.entries(VERDICTS).map(([verdict, text]) =>
      element(
        "button",
        { type: "button", "data-verdict": verdict, "aria-keyshortcuts": verdict[0], onclick: () => this.judge(verdict) },
        text,
      ),
    );
    this.takeBack = element("button", { type: "button", class: "take-back", onclick: () => this.judge(null) }, "Take back");
    this.note = element("textarea", { rows: 1, maxlength: LONGEST_NOTE });
    this.reviewer = element("input", { type: "text", maxlength: LONGEST_NAME, autocomplete: "name" });
    this.reviewer.value = remembered();
    this.state = element("p", { class: "review-state", role: "status" });
    this.elements = [
      element("div", { class: "verdicts", role: "group", "aria-label": "What was it?" }, ...this.buttons),
      element(
        "div",
        { class: "review" },
        element("label", {}, element("span", {}, "Note"), this.note),
        element("label", {}, element("span", {}, "Your name"), this.reviewer),
        this.state,
        this.takeBack,
      ),
    ];
  }

  // Shows the review of an event; what is being typed stays as long as it is the same event.
  show(event, review) {
    const isOther = event !== this.event;
    if (!isOther && sameReview(review, this.said)) return;
    if (isOther || this.note.value === (this.said?.note ?? "")) this.note.value = review?.note ?? "";
    this.event = event;
    this.said = review;
    for (const button of this.buttons) button.setAttribute("aria-pressed", button.dataset.verdict === review?.verdict);
    this.takeBack.hidden = !review?.verdict;
    this.state.textContent = stateText(review);
  }

  async judge(verdict) {
    const reviewer = this.reviewer.value.trim();
    if (reviewer === "") {
      this.state.textContent = "Say who you are first.";
      this.reviewer.focus();
      return;
    }
    if (this.sending) return;
    remember(reviewer);
    const event = this.event;
    this.sending = true;
    try {
      const review = await tell(`events/${encodeURIComponent(event)}/review`, { verdict, reviewer, note: this.note.value });
      if (event === this.event) this.show(event, review);
      this.onJudged(event, review);
    } catch (problem) {
      this.state.textContent = `Not stored: ${problem.message}`;
    } finally {
      this.sending = false;
    }
  }
}

function sameReview(one, other) {
  return ["verdict", "reviewer", "note", "reviewed_ns"].every((name) => (one?.[name] ?? null) === (other?.[name] ?? null));
}

function stateText(review) {
  if (!review?.reviewed_ns) return "Not reviewed yet.";
  const by = `by ${review.reviewer} on ${localDateTime(review.reviewed_ns).slice(0, -4)}`;
  return review.verdict ? `${VERDICTS[review.verdict]}, said ${by}.` : `Taken back ${by}.`;
}

// A browser may refuse to remember anything.
function remembered() {
  try {
    return localStorage.getItem(REMEMBERED) ?? "";
  } catch {
    return "";
  }
}

function remember(name) {
  try {
    localStorage.setItem(REMEMBERED, name);
  } catch {
    return;
  }
}
