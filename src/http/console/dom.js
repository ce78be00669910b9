// Elements are made here and nowhere else. Text is set as text: no string ever becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element. `class`, `on…` handlers, `dataset` and properties by name; anything else is an attribute. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Sets the text of an element, if it is another. */
export function put(element, text) {
  const next = String(text);
  if (element.textContent !== next) element.textContent = next;
}

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Makes the children of `parent` those of `items`, keeping elements whose key stays. */
export function keyed(parent, items, keyOf, make, update) {
  const known = parent.keyedChildren ?? (parent.keyedChildren = new Map());
  const next = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = known.get(key);
    if (!element) element = make(item);
    known.delete(key);
    next.set(key, element);
    update?.(element, item);
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
  for (const element of known.values()) element.remove();
  parent.keyedChildren = next;
}

const SHAPES = {
  closed: ["M3.5 8.5 6.7 11.5 12.5 4.8"],
  open: ["M4 4 12 12", "M12 4 4 12"],
  half_open: ["M8 2.5a5.5 5.5 0 0 1 0 11z"],
  forced: ["M4.5 7.5h7v5h-7z", "M6 7.5V5.5a2 2 0 0 1 4 0v2"],
  off: ["M4 8h8"],
  running: ["M5.5 3.5 12 8l-6.5 4.5z"],
  paused: ["M5.5 4v8", "M10.5 4v8"],
  clock: ["M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2z", "M8 5v3.2l2 1.6"],
  back: ["M6 3.5 2.8 7 6 10.5", "M2.8 7h6.7a3.2 3.2 0 0 1 0 6.4H7"],
  ahead: ["M8 4.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7z"],
};

/** The sign of a state: a shape of its own, so that no state is told by colour alone. */
export function sign(kind) {
  const paths = (SHAPES[kind] ?? SHAPES.off).map((d) => svg("path", { d }));
  const shape = svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, ...paths);
  shape.setAttribute("class", `sign ${kind}`);
  return shape;
}
