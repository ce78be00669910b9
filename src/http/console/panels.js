// What several views are made of.

import { h, put, sign } from "./dom.js";
import { percent, reason, STATES, time } from "./format.js";
import { health } from "./store.js";

/** A state with its sign and its word. */
export function badge(row) {
  const kind = row.forced ? "forced" : row.flag_off || (!row.enabled && row.enabled !== undefined) ? "off" : row.state;
  const word = STATES[row.state];
  const text = row.forced ? `${word}, forced` : row.flag_off ? "Flag off" : kind === "off" ? "Not judged" : word;
  return h("span", { class: `badge ${row.state} ${kind}` }, sign(kind), h("span", {}, text));
}

export const pathOf = (row) => `#/breaker/${encodeURIComponent(row.tenant_id)}/${encodeURIComponent(row.provider_id)}`;

export function nameOf(row) {
  return h("a", { class: "name", href: pathOf(row) }, h("span", { class: "tenant" }, row.tenant_id), h("span", { class: "slash" }, " / "), h("span", { class: "provider" }, row.provider_id));
}

/** An error rate as a bar with the mark of its threshold. */
export function meter() {
  const fill = h("i", { class: "fill" });
  const mark = h("i", { class: "mark" });
  const text = h("span", { class: "figure" });
  const bar = h("span", { class: "bar", "aria-hidden": "true" }, fill, mark);
  const node = h("span", { class: "meter" }, bar, text);
  let last = "";
  return {
    node,
    show(row) {
      const face = `${row.error_rate} ${row.error_rate_threshold} ${row.window_requests}`;
      if (face === last) return;
      last = face;
      fill.style.setProperty("width", `${row.error_rate * 100}%`);
      mark.style.setProperty("left", `${row.error_rate_threshold * 100}%`);
      fill.className = `fill ${row.error_rate >= row.error_rate_threshold ? "over" : row.error_rate >= row.error_rate_threshold / 2 ? "near" : ""}`;
      put(text, row.window_requests ? percent(row.error_rate) : "–");
      node.title = `${percent(row.error_rate)} of ${row.window_requests} failed; opens at ${percent(row.error_rate_threshold)} from ${row.minimum_requests} on`;
    },
  };
}

/** A panel: a heading, what it counts, and what stands in it. */
export function panel(id, title, about, ...body) {
  const count = h("span", { class: "count" });
  const node = h(
    "section",
    { class: `panel p-${id}`, id: `panel-${id}`, "aria-labelledby": `title-${id}` },
    h("header", {}, h("h2", { id: `title-${id}`, title: about }, title), count),
    body,
  );
  return { node, count };
}

/** One transition in a sentence's worth of elements. */
export function transition(event, named = true) {
  const what = event.from === event.to ? [stateWord(event.to), h("span", { class: "muted" }, " stays")] : [stateWord(event.from), h("span", { class: "arrow", "aria-label": "to" }, "→"), stateWord(event.to)];
  const figures = event.window?.requests ? `${event.window.failures} of ${event.window.requests} failed (${percent(event.error_rate)})` : "";
  // What people wrote stays within its place, whichever way its letters run.
  const who = event.actor ? ["by ", h("bdi", {}, event.actor), event.actor_reason ? [": ", h("bdi", {}, event.actor_reason)] : ""] : "";
  const why = [reason(event.reason), figures, who].filter(Boolean).flatMap((part, n) => (n ? [" · ", part] : [part]));
  return h(
    "li",
    { class: `transition to-${event.to}` },
    h("time", { datetime: new Date(event.timestamp).toISOString(), title: new Date(event.timestamp).toString() }, time(event.timestamp)),
    named ? nameOf(event) : null,
    h("span", { class: "move" }, what),
    h("span", { class: "why" }, why),
  );
}

function stateWord(state) {
  return h("span", { class: `state ${state}` }, sign(state), STATES[state] ?? state);
}

/** A cell of the matrix. */
export function cell(row) {
  const { kind, text } = health(row);
  return { kind, label: `${row.tenant_id} / ${row.provider_id}: ${text}, ${percent(row.error_rate)} of ${row.window_requests} failed` };
}
