// A long list of rows of one height, of which only those in sight are elements.

import { h, keyed } from "./dom.js";

/** Rows beyond the edges, so that scrolling shows no gap. */
const SPARE = 8;

export class Table {
  /**
   * @param columns `{ id, title, class, sort?, text? }`
   * @param row makes the cells of a row, and gives a function that brings them up to date
   */
  constructor({ label, columns, row, keyOf, open, heightOf, onSort, maxHeight }) {
    Object.assign(this, { row, keyOf, open, heightOf });
    this.items = [];
    this.at = -1;
    this.updates = new WeakMap();
    this.head = h("div", { class: "row head", role: "row" }, columns.map((c) => this.headCell(c, onSort)));
    this.body = h("div", { class: "rows", role: "rowgroup" });
    this.scroll = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `${label}, scrollable` }, this.body);
    if (maxHeight) this.scroll.style.setProperty("max-height", maxHeight);
    this.node = h("div", { class: "table", role: "table", "aria-label": label }, h("div", { role: "rowgroup" }, this.head), this.scroll);
    this.scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.scroll);
  }

  headCell(column, onSort) {
    const cell = h("div", { role: "columnheader", class: column.class });
    if (!onSort || !column.sort) {
      cell.append(column.title);
      return cell;
    }
    const button = h("button", { type: "button", class: "sort", onclick: () => onSort(column.id) }, column.title);
    cell.dataset.sort = column.id;
    cell.append(button);
    return cell;
  }

  /** Tells which column the rows are sorted by. */
  sorted(id, down) {
    for (const cell of this.head.children) {
      const here = cell.dataset.sort === id;
      here ? cell.setAttribute("aria-sort", down ? "descending" : "ascending") : cell.removeAttribute("aria-sort");
    }
  }

  show(items) {
    this.items = items;
    this.node.setAttribute("aria-rowcount", String(items.length + 1));
    this.draw();
  }

  draw() {
    const height = this.heightOf();
    const total = `${this.items.length * height}px`;
    if (this.body.style.height !== total) this.body.style.setProperty("height", total);
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / height) - SPARE);
    const last = Math.min(this.items.length, Math.ceil((this.scroll.scrollTop + this.scroll.clientHeight) / height) + SPARE);
    const seen = [];
    for (let n = first; n < last; n += 1) seen.push(n);
    keyed(
      this.body,
      seen,
      (n) => this.keyOf(this.items[n]),
      (n) => this.make(this.items[n]),
      (element, n) => {
        const top = `translateY(${n * height}px)`;
        if (element.style.transform !== top) element.style.setProperty("transform", top);
        element.setAttribute("aria-rowindex", String(n + 2));
        element.classList.toggle("here", n === this.at);
        this.updates.get(element)(this.items[n]);
      },
    );
  }

  make(item) {
    const { cells, update } = this.row(item);
    const element = h("div", { class: "row", role: "row" }, cells);
    if (this.open) {
      element.addEventListener("click", (event) => {
        if (!event.target.closest("a, button") && !getSelection().toString()) this.open(item);
      });
    }
    this.updates.set(element, update);
    return element;
  }

  /** Moves the mark by so many rows and keeps it in sight. */
  step(by) {
    if (!this.items.length) return;
    this.at = Math.min(this.items.length - 1, Math.max(0, this.at + by));
    const height = this.heightOf();
    const top = this.at * height;
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    if (top + height > this.scroll.scrollTop + this.scroll.clientHeight) this.scroll.scrollTop = top + height - this.scroll.clientHeight;
    this.draw();
    const element = [...this.body.children].find((row) => row.classList.contains("here"));
    element?.querySelector("a")?.focus({ preventScroll: true });
  }

  enter() {
    const item = this.items[this.at];
    if (item) this.open?.(item);
  }

  close() {
    this.resized.disconnect();
  }
}
