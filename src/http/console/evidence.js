// The evidence over time, as shares of what proof needs.

import { svg } from "./dom.js";
import { minute, percent, time } from "./format.js";

const HEIGHT = 236;
const EDGE = { top: 14, right: 14, bottom: 24, left: 52 };
/** Evidence against something may grow without bound; what is below is drawn at the edge. */
const FLOOR = -1;
const CEILING = 2;
const DAY = 86400000;

/** A share of what proof needs, or that it is not judged. */
export function share(value) {
  if (value === null) return "not judged";
  if (value < FLOOR) return `below −${percent(-FLOOR)}`;
  return value < 0 ? `−${percent(-value)}` : percent(value);
}

/** A chart of both kinds of evidence; `show` draws it anew. */
export function evidenceChart() {
  const node = svg("svg", { role: "img", height: HEIGHT });
  node.setAttribute("class", "evidence");
  let held = null;
  const resized = new ResizeObserver(() => held && draw(node, held));
  resized.observe(node);
  return {
    node,
    /** Points in order of time, and the steps, each with its time and its share. */
    show(points, steps) {
      held = { points, steps };
      draw(node, held);
    },
    close: () => resized.disconnect(),
  };
}

function draw(node, { points, steps }) {
  const width = Math.max(240, node.clientWidth);
  node.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const newest = points.at(-1);
  node.setAttribute("aria-label", newest ? `Evidence of harm is at ${share(newest.harm)} of what proof needs, of safety at ${share(newest.safe)}` : "No evidence yet");
  if (!newest) {
    node.replaceChildren();
    return;
  }
  const values = points.flatMap((p) => [p.harm, p.safe ?? 0]);
  const low = Math.max(FLOOR, Math.min(-0.25, Math.floor(Math.min(...values) * 4) / 4));
  const high = Math.min(CEILING, Math.max(1.25, Math.ceil(Math.max(...values) * 4) / 4));
  const [from, to] = [points[0].at, Math.max(newest.at, points[0].at + 1)];
  const x = (at) => EDGE.left + ((at - from) / (to - from)) * (width - EDGE.left - EDGE.right);
  const y = (value) => EDGE.top + ((high - Math.min(high, Math.max(low, value))) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const text = (attributes, words) => svg("text", attributes, words);
  const across = (kind, value) => svg("line", { class: kind, x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) });
  const parts = [];
  for (let tick = Math.ceil(low * 2) / 2; tick <= high; tick += 0.5) {
    parts.push(across(tick === 1 ? "proof" : "rule", tick), text({ x: EDGE.left - 8, y: y(tick) + 4, "text-anchor": "end" }, `${Math.round(tick * 100)}%`));
  }
  parts.push(text({ class: "proven", x: width - EDGE.right, y: y(1) - 5, "text-anchor": "end" }, "proven"));
  let free = -Infinity;
  for (const step of steps.filter((s) => s.at >= from && s.at <= to)) {
    const place = x(step.at);
    parts.push(svg("line", { class: "step", x1: place, x2: place, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }));
    // Labels that would lie over each other are left out.
    if (place < free || place > width - 40) continue;
    free = place + 12 + step.label.length * 7;
    parts.push(text({ x: place + 4, y: EDGE.top + 2 }, step.label));
  }
  const written = to - from > DAY ? minute : time;
  parts.push(text({ x: EDGE.left, y: HEIGHT - 6 }, written(from)), text({ x: width - EDGE.right, y: HEIGHT - 6, "text-anchor": "end" }, written(to)));
  for (const field of ["harm", "safe"]) parts.push(...line(points, field, x, y));
  node.replaceChildren(...parts);
}

/** One kind of evidence: a line for each step, thin where only decisions tell it, and a mark at its end. */
function line(all, field, x, y) {
  const points = all.filter((p) => p[field] !== null);
  if (points.length === 0) return [];
  const drawn = [];
  const runs = [];
  for (const point of points) {
    const before = runs.at(-1)?.at(-1);
    if (before && before.part === point.part && before.past === point.past) runs.at(-1).push(point);
    else runs.push(before && before.part === point.part ? [before, point] : [point]);
  }
  for (const run of runs) {
    const path = run.map((p) => `${x(p.at).toFixed(1)},${y(p[field]).toFixed(1)}`).join(" ");
    drawn.push(svg("polyline", { class: `${field}${run.at(-1).past ? " past" : ""}`, points: path }));
  }
  const last = points.at(-1);
  const [cx, cy] = [x(last.at), y(last[field])];
  const mark = field === "safe" ? svg("circle", { cx, cy, r: 4 }) : svg("rect", { x: cx - 4, y: cy - 4, width: 8, height: 8 });
  mark.setAttribute("class", field);
  drawn.push(mark);
  return drawn;
}
