// Builds elements. Every text becomes a text node: what a node or an event says is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Makes `list` hold one element a message, in order; an element is made once an id and brought up to date after that.
export function reconcile(list, messages, idOf, make, update) {
  const known = new Map([...list.children].map((child) => [child.dataset.id, child]));
  messages.forEach((message, index) => {
    const id = idOf(message);
    let item = known.get(id);
    if (!item) {
      item = make(message);
      item.dataset.id = id;
    }
    known.delete(id);
    update(item, message);
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
  });
  for (const gone of known.values()) gone.remove();
}

export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
