import { h, keyed, put, sign, svg } from "./dom.js";
import { ago, number, percent, rate, short, span, STATES } from "./format.js";
import { cell, meter, nameOf, panel, pathOf, transition } from "./panels.js";
import { Table } from "./table.js";
import { health, keyOf, matching, now, remaining, store } from "./store.js";

const TOP = 8;
const SLOT = 300000;
const SLOTS = 12;

/** The nine views, and the figures of the worker above them. */
export function overview({ filter }) {
  const tiles = tileRow();
  const panels = [
    statesByProvider(), errorRates(), alerts(), matrix(), untilHalfOpen(), circuitOpens(), failFast(), windows(), transitions(),
  ];
  return {
    title: "Overview",
    node: h("div", { class: "page" }, tiles.node, h("div", { class: "grid nine" }, panels.map((p) => p.node))),
    update() {
      const seen = {
        rows: matching(filter()),
        events: moves(filter()),
        filter: filter(),
      };
      tiles.update(seen);
      for (const each of panels) each.update(seen);
    },
    tick() {
      for (const each of panels) each.tick?.();
    },
    close() {
      for (const each of panels) each.close?.();
    },
  };
}

/** The transitions of the hour that a filter lets through; its state is the one entered. */
function moves({ tenant, provider, state }) {
  const [t, p] = [tenant.toLowerCase(), provider.toLowerCase()];
  if (!t && !p && !state) return store.transitions;
  return store.transitions.filter(
    (e) => e.tenant_id.toLowerCase().includes(t) && e.provider_id.toLowerCase().includes(p) && (!state || e.to === state),
  );
}

function nothing(text) {
  return h("p", { class: "empty" }, text);
}

function tileRow() {
  const tile = (id, name, title) => {
    const value = h("dd", { id: `tile-${id}` });
    return { value, node: h("div", { class: `tile t-${id}`, title }, h("dt", {}, name), value) };
  };
  const all = {
    breakers: tile("breakers", "Breakers", "That the filter lets through"),
    open: tile("open", "Open", "Requests are refused"),
    half: tile("half", "Half-open", "Probes pass"),
    opens: tile("opens", "Opens, last hour", "Times that a circuit opened"),
    decisions: tile("decisions", "Decisions/s", "This worker's answers, over the last ten seconds"),
    refused: tile("refused", "Refusals/s", "Candidates that this worker passed over because their circuit is open"),
    saved: tile("saved", "Calls saved", "An estimate, since this worker started: refusals times the failure share seen at the opening"),
  };
  return {
    node: h("dl", { class: "tiles" }, Object.values(all).map((t) => t.node)),
    update({ rows, events }) {
      const count = (state) => rows.filter((r) => r.state === state).length;
      put(all.breakers.value, number(rows.length));
      put(all.open.value, number(count("open")));
      put(all.half.value, number(count("half_open")));
      put(all.opens.value, number(events.filter(opened).length) + (store.transitionsComplete ? "" : "+"));
      const rates = store.overview.rates_per_second;
      put(all.decisions.value, rate(rates.decisions));
      put(all.refused.value, rate(rates.fail_fast));
      put(all.saved.value, short(Math.round(rows.reduce((sum, r) => sum + r.requests_saved, 0))));
    },
  };
}

const opened = (event) => event.to === "open" && event.from !== "open";

function statesByProvider() {
  const list = h("ul", { class: "stacks" });
  const { node, count } = panel("states", "States by provider", "How many breakers of each provider are closed, half-open and open", list);
  const make = (p) => {
    const bar = (state) => h("i", { class: state });
    const figures = ["open", "half_open", "closed"].map((state) => h("span", { class: `n ${state}` }, sign(state), h("b", {})));
    return h("li", {}, h("a", { class: "name", href: `#/breakers?provider=${encodeURIComponent(p.provider)}` }, p.provider), h("span", { class: "stack", "aria-hidden": "true" }, ["open", "half_open", "closed"].map(bar)), h("span", { class: "ns" }, figures));
  };
  return {
    node,
    update({ rows }) {
      const by = new Map();
      for (const r of rows) {
        const held = by.get(r.provider_id) ?? { provider: r.provider_id, open: 0, half_open: 0, closed: 0, total: 0 };
        held[r.state] += 1;
        held.total += 1;
        by.set(r.provider_id, held);
      }
      const all = [...by.values()].sort((a, b) => b.open - a.open || b.half_open - a.half_open || (a.provider < b.provider ? -1 : 1));
      put(count, all.length === 1 ? "1 provider" : `${number(all.length)} providers`);
      keyed(list, all.slice(0, 10), (p) => p.provider, make, (element, p) => {
        const [, stack, figures] = element.children;
        ["open", "half_open", "closed"].forEach((state, n) => {
          stack.children[n].style.setProperty("flex-grow", String(p[state]));
          put(figures.children[n].lastChild, short(p[state]));
          figures.children[n].title = `${STATES[state]}: ${p[state]}`;
          figures.children[n].classList.toggle("zero", p[state] === 0);
        });
      });
    },
  };
}

function errorRates() {
  const list = h("ul", { class: "lines" });
  const { node, count } = panel("rates", "Error rate", "Nearest to its threshold first; the mark is the threshold", list, nothing("No results in any window."));
  return {
    node,
    update({ rows }) {
      const judged = rows.filter((r) => r.window_requests > 0);
      const near = judged.sort((a, b) => b.error_rate / b.error_rate_threshold - a.error_rate / a.error_rate_threshold || b.window_requests - a.window_requests);
      put(count, "mark: threshold");
      node.classList.toggle("none", near.length === 0);
      keyed(list, near.slice(0, TOP), keyOf, (r) => {
        const bar = meter();
        const item = h("li", {}, nameOf(r), bar.node);
        item.bar = bar;
        return item;
      }, (element, r) => element.bar.show(r));
    },
  };
}

function alerts() {
  const list = h("ul", { class: "alerts", "aria-live": "polite" });
  const { node, count } = panel("alerts", "Active alerts", "Judged by this worker from its own state, by the rules' thresholds; what Prometheus needs days for is not here", list, nothing("Nothing is amiss."));
  return {
    node,
    update({ filter: { tenant, provider } }) {
      const [t, p] = [tenant.toLowerCase(), provider.toLowerCase()];
      const shown = store.alerts.filter((a) => (!t || (a.tenant_id ?? "").toLowerCase().includes(t)) && (!p || (a.provider_id ?? "").toLowerCase().includes(p)));
      const firing = shown.filter((a) => a.status === "firing").length;
      put(count, shown.length ? `${firing} firing, ${shown.length - firing} pending` : "");
      node.classList.toggle("none", shown.length === 0);
      const key = (a) => `${a.name} ${a.tenant_id} ${a.provider_id}`;
      keyed(list, shown.slice(0, 40), key, (a) => h("li", {}, h("span", { class: "level" }), h("div", {}, h("strong", {}), h("span", { class: "muted" }, a.name.replace(/^Router(CircuitBreaker)?/, "")), h("span", { class: "muted age" }))), (element, a) => {
        const [level, text] = element.children;
        element.className = `alert ${a.severity} ${a.status}`;
        put(level, a.status === "firing" ? a.severity : "pending");
        put(text.children[0], a.summary);
        put(text.children[2], ` · for ${ago(now() - a.since)}`);
      });
    },
  };
}

const CELL = 30;

function matrix() {
  let columns = "";
  let providers = [];
  let table = null;
  const body = h("div", { class: "matrix" });
  const legend = h("p", { class: "legend" }, ["closed", "strained", "half_open", "open", "forced", "off"].map((kind) => h("span", {}, h("i", { class: `cell ${kind}` }, sign(kind === "strained" ? "closed" : kind)), { closed: "closed", strained: "many failures", half_open: "half-open", open: "open", forced: "forced", off: "not judged" }[kind])));
  const { node, count } = panel("matrix", "Tenant × provider", "Health of every breaker; tenants in trouble first", body, legend);

  function build() {
    table?.close();
    table = new Table({
      label: "Health by tenant and provider",
      columns: [{ id: "tenant", title: "Tenant", class: "m-tenant" }, ...providers.map((p) => ({ id: p, title: p, class: "m-cell" }))],
      keyOf: (t) => t.tenant,
      heightOf: () => CELL,
      row() {
        const name = h("div", { class: "m-tenant", role: "rowheader" });
        const cells = providers.map(() => h("div", { class: "m-cell", role: "cell" }));
        return {
          cells: [name, ...cells],
          update(t) {
            if (!name.firstChild) name.append(h("a", { class: "name", href: `#/breakers?tenant=${encodeURIComponent(t.tenant)}` }, t.tenant));
            providers.forEach((p, n) => fill(cells[n], t.rows.get(p)));
          },
        };
      },
    });
    table.node.style.setProperty("--columns", String(providers.length));
    body.replaceChildren(table.node);
  }

  function fill(slot, row) {
    const told = row ? cell(row) : { kind: "", label: "" };
    if (slot.kind === told.kind) {
      if (slot.firstChild && slot.firstChild.title !== told.label) {
        slot.firstChild.title = told.label;
        slot.firstChild.setAttribute("aria-label", told.label);
      }
      return;
    }
    slot.kind = told.kind;
    slot.replaceChildren();
    if (row) slot.append(h("a", { class: `cell ${told.kind}`, href: pathOf(row), title: told.label, "aria-label": told.label }, sign(told.kind === "strained" ? "closed" : told.kind)));
  }

  return {
    node,
    update({ rows }) {
      const tenants = new Map();
      const names = new Set();
      for (const row of rows) {
        names.add(row.provider_id);
        const held = tenants.get(row.tenant_id) ?? { tenant: row.tenant_id, rows: new Map(), worst: 0 };
        held.rows.set(row.provider_id, row);
        held.worst = Math.max(held.worst, health(row).rank);
        tenants.set(row.tenant_id, held);
      }
      const next = [...names].sort();
      if (next.join("\n") !== columns || !table) {
        columns = next.join("\n");
        providers = next;
        build();
      }
      put(count, `${number(tenants.size)} tenants, ${number(providers.length)} providers`);
      const trouble = (t) => (t.worst >= 2 ? t.worst : 0);
      table.show([...tenants.values()].sort((a, b) => trouble(b) - trouble(a) || (a.tenant < b.tenant ? -1 : 1)));
    },
    close: () => table?.close(),
  };
}

function untilHalfOpen() {
  const list = h("ul", { class: "lines" });
  const { node, count } = panel("due", "Time until half-open", "When an open circuit may be probed", list, nothing("No circuit is open."));
  let shown = [];
  const draw = () => {
    for (const element of list.children) {
      const row = element.row;
      const left = remaining(row);
      const whole = Math.max(1, (row.open_until ?? row.since) - row.since);
      element.progress.style.setProperty("width", `${left === null ? 100 : (left / whole) * 100}%`);
      put(element.left, left === null ? "no end" : left > 0 ? span(left) : "next request");
    }
  };
  return {
    node,
    update({ rows }) {
      const open = rows.filter((r) => r.state === "open");
      shown = open.sort((a, b) => (a.open_until ?? Infinity) - (b.open_until ?? Infinity)).slice(0, TOP);
      put(count, open.length > TOP ? `first ${TOP} of ${number(open.length)}` : "");
      node.classList.toggle("none", shown.length === 0);
      keyed(list, shown, keyOf, (r) => {
        const progress = h("i", { class: "fill over" });
        const left = h("span", { class: "figure" });
        const item = h("li", {}, nameOf(r), h("span", { class: "meter" }, h("span", { class: "bar", "aria-hidden": "true" }, progress), left));
        return Object.assign(item, { progress, left, row: r });
      }, (element, r) => (element.row = r));
      draw();
    },
    tick: draw,
  };
}

function circuitOpens() {
  const bars = h("div", { class: "bars", role: "img" });
  const list = h("ul", { class: "counts" });
  const { node, count } = panel("opens", "Circuit opens", "In the last hour, by five minutes and by provider", bars, h("div", { class: "axis" }, h("span", {}, "1 hour ago"), h("span", {}, "now")), list);
  return {
    node,
    update({ events }) {
      const slots = new Array(SLOTS).fill(0);
      const by = new Map();
      let total = 0;
      for (const event of events) {
        if (!opened(event)) continue;
        const slot = SLOTS - 1 - Math.floor((now() - event.timestamp) / SLOT);
        slots[Math.min(SLOTS - 1, Math.max(0, slot))] += 1;
        by.set(event.provider_id, (by.get(event.provider_id) ?? 0) + 1);
        total += 1;
      }
      const most = Math.max(1, ...slots);
      put(count, `${number(total)}${store.transitionsComplete ? "" : "+"} in the last hour`);
      bars.setAttribute("aria-label", `Circuit opens in the last hour by five minutes, oldest first: ${slots.join(", ")}`);
      keyed(bars, slots.map((n, at) => ({ n, at })), (s) => s.at, () => h("div", { class: "column" }, h("i", { class: "failed" })), (element, s) => {
        element.title = `${s.n} opened`;
        element.lastChild.style.setProperty("height", `${(s.n / most) * 100}%`);
      });
      const top = [...by].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 4);
      keyed(list, top, ([p]) => p, ([p]) => h("li", {}, h("a", { class: "name", href: `#/breakers?provider=${encodeURIComponent(p)}` }, p), h("b", {})), (element, [, n]) => put(element.lastChild, number(n)));
    },
  };
}

function failFast() {
  const line = svg("polyline", { fill: "none" });
  const area = svg("polygon", {});
  const chart = svg("svg", { viewBox: "0 0 240 48", preserveAspectRatio: "none", role: "img" }, area, line);
  chart.setAttribute("class", "spark");
  const list = h("ul", { class: "counts" });
  const { node, count } = panel("failfast", "Fail-fast", "Requests that this worker refused a provider to: a second over two minutes, and in all since it started", chart, h("div", { class: "axis" }, h("span", {}, "refusals a second"), h("span", { class: "peak" })), list, nothing("No request was refused."));
  return {
    node,
    update({ rows }) {
      const kept = store.failFast;
      const most = Math.max(1, ...kept);
      const points = kept.map((value, n) => `${(240 - kept.length + n + 1).toFixed(0)},${(46 - (value / most) * 42).toFixed(1)}`);
      line.setAttribute("points", points.join(" "));
      area.setAttribute("points", points.length ? `${240 - kept.length + 1},48 ${points.join(" ")} 240,48` : "");
      chart.setAttribute("aria-label", `Refusals a second, now ${rate(kept.at(-1))}, at most ${rate(most)} in two minutes`);
      put(node.querySelector(".peak"), `peak ${rate(Math.max(0, ...kept))}`);
      const refused = rows.filter((r) => r.fail_fast > 0).sort((a, b) => b.fail_fast - a.fail_fast);
      put(count, `${short(refused.reduce((sum, r) => sum + r.fail_fast, 0))} in all`);
      node.classList.toggle("none", refused.length === 0);
      keyed(list, refused.slice(0, 5), keyOf, (r) => h("li", {}, nameOf(r), h("b", {})), (element, r) => put(element.lastChild, short(r.fail_fast)));
    },
  };
}

function windows() {
  const body = h("tbody");
  const head = ["Busiest", "Results", "Failed", "Slow", "Latency"].map((text) => h("th", { scope: "col" }, text));
  const { node, count } = panel("windows", "Window statistics", "The sliding windows of the busiest breakers", h("table", { class: "figures" }, h("thead", {}, h("tr", {}, head)), body), nothing("No results in any window."));
  return {
    node,
    update({ rows }) {
      const busy = rows.filter((r) => r.window_requests > 0).sort((a, b) => b.window_requests - a.window_requests);
      const sum = (field) => busy.reduce((total, r) => total + r[field], 0);
      put(count, busy.length ? `${short(sum("window_requests"))} results, ${percent(sum("window_failures") / sum("window_requests"))} failed` : "");
      node.classList.toggle("none", busy.length === 0);
      keyed(body, busy.slice(0, TOP), keyOf, (r) => h("tr", {}, h("th", { scope: "row" }, nameOf(r)), h("td"), h("td"), h("td"), h("td")), (element, r) => {
        const texts = [short(r.window_requests), short(r.window_failures), short(r.window_slow), r.mean_latency_ms ? `${short(r.mean_latency_ms)} ms` : "–"];
        texts.forEach((text, n) => put(element.children[n + 1], text));
      });
    },
  };
}

function transitions() {
  const list = h("ol", { class: "transitions" });
  const { node, count } = panel("transitions", "Transitions of the last hour", "Newest first, from the events stream and as they happen", list, nothing("Nothing moved in the last hour."));
  return {
    node,
    update({ events }) {
      const shown = events.slice(0, 100);
      put(count, `${number(events.length)}${store.transitionsComplete ? "" : "+"}`);
      node.classList.toggle("none", shown.length === 0);
      keyed(list, shown, (e) => e.id, (e) => transition(e));
    },
  };
}

