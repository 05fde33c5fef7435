// The panel beside (on a phone: below) the map: one of several views, by what the address says.

export class Panel {
  // `views` go by the kind of selection; each has show(panel, state), and where needed chosen(state), events(state) and
  // leave(). A state is { picture, selection, nowMs }.
  constructor(content, views) {
    this.content = content;
    this.views = views;
    this.open = null;
    this.view = null;
    this.built = [];
  }

  show(state) {
    const { kind, id } = state.selection;
    const view = this.views[kind] ?? this.views.events;
    const open = `${kind}/${id}`;
    const left = this.open;
    if (view !== this.view) this.view?.leave?.();
    this.view = view;
    this.open = open;
    view.show(this, state);
    if (left !== null && left !== open) this._moveFocus(left);
  }

  // What the view wants to be seen on the map: { event, node }, one of them or none.
  chosen(state) {
    return this.view.chosen?.(state) ?? {};
  }

  // The events that the view is about, newest first; null for all.
  events(state) {
    return this.view.events?.(state) ?? null;
  }

  // Rebuilds the panel only where something that it shows has changed: scrolling, selected text and focus survive. The
  // first two inputs say which view of what it is.
  build(inputs, make) {
    if (inputs.length === this.built.length && inputs.every((input, index) => input === this.built[index])) return;
    const isSame = inputs[0] === this.built[0] && inputs[1] === this.built[1];
    const scrolled = this.content.scrollTop;
    const focused = document.activeElement;
    this.built = inputs;
    this.content.replaceChildren(...make());
    this.content.scrollTop = isSame ? scrolled : 0;
    if (isSame && this.content.contains(focused)) focused.focus({ preventScroll: true });
  }

  find(selector) {
    return this.content.querySelector(selector);
  }

  setEmpty(isEmpty, text) {
    const note = this.find(".empty");
    note.textContent = isEmpty ? text : "";
    note.hidden = !isEmpty;
  }

  // Who opened an event by keyboard goes on reading there, and comes back to the same line of the list.
  _moveFocus(left) {
    const line = [...this.content.querySelectorAll(".list > li")].find((item) => left.endsWith(`/${item.dataset.id}`));
    (line?.querySelector("a") ?? this.find("h2"))?.focus();
  }
}
