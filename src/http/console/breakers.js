import { h, put } from "./dom.js";
import { ago, percent, short, span } from "./format.js";
import { Table } from "./table.js";
import { badge, meter, nameOf } from "./panels.js";
import { health, keyOf, matching, now, remaining } from "./store.js";

const COLUMNS = [
  { id: "state", title: "State", class: "c-state", sort: (r) => [-health(r).rank] },
  { id: "name", title: "Tenant / provider", class: "c-name", sort: (r) => [r.tenant_id, r.provider_id] },
  { id: "rate", title: "Error rate", class: "c-rate", sort: (r) => [-r.error_rate, -r.window_requests] },
  { id: "window", title: "Window", class: "c-window", sort: (r) => [-r.window_requests] },
  { id: "latency", title: "Latency", class: "c-latency", sort: (r) => [-r.mean_latency_ms] },
  { id: "refused", title: "Refused", class: "c-refused", sort: (r) => [-r.fail_fast] },
  { id: "due", title: "Half-open in", class: "c-due", sort: (r) => [remaining(r) ?? Infinity] },
  { id: "trips", title: "Trips", class: "c-trips", sort: (r) => [-r.trips] },
  { id: "since", title: "Since", class: "c-since", sort: (r) => [-r.since] },
];

const narrow = matchMedia("(max-width: 760px)");

function row() {
  const state = h("div", { class: "c-state", role: "cell" });
  const name = h("div", { class: "c-name", role: "cell" });
  const rate = h("div", { class: "c-rate", role: "cell" });
  const plain = (kind) => h("div", { class: kind, role: "cell" });
  const [window, latency, refused, due, trips, since] = ["c-window", "c-latency", "c-refused", "c-due", "c-trips", "c-since"].map(plain);
  const bar = meter();
  rate.append(bar.node);
  let shown = "";
  return {
    cells: [state, name, rate, window, latency, refused, due, trips, since],
    update(r) {
      const face = `${r.state}${r.forced?.state ?? ""}${r.flag_off}${r.enabled}`;
      if (face !== shown) {
        shown = face;
        state.replaceChildren(badge(r));
      }
      if (!name.firstChild) name.append(nameOf(r));
      bar.show(r);
      const slow = r.window_slow ? ` · ${short(r.window_slow)} slow` : "";
      put(window, `${short(r.window_failures)} / ${short(r.window_requests)}${slow}`);
      put(latency, r.mean_latency_ms ? `${short(r.mean_latency_ms)} ms` : "–");
      put(refused, short(r.fail_fast));
      const left = remaining(r);
      put(due, left === null ? (r.state === "half_open" ? `${r.half_open_in_flight} probing` : "–") : left ? span(left) : "next request");
      put(trips, short(r.trips));
      put(since, ago(now() - r.since));
    },
  };
}

/** Every breaker that the filter lets through. */
export function breakers({ query, filter, setQuery }) {
  const open = (r) => (location.hash = `#/breaker/${encodeURIComponent(r.tenant_id)}/${encodeURIComponent(r.provider_id)}`);
  const table = new Table({
    label: "Circuit breakers",
    columns: COLUMNS,
    row,
    keyOf,
    open,
    heightOf: () => (narrow.matches ? 76 : 36),
    onSort(id) {
      const { by, down } = order();
      const turned = by === id ? !down : false;
      setQuery({ sort: turned ? `-${id}` : id });
    },
  });
  const empty = h("p", { class: "empty", hidden: true });

  function order() {
    const asked = query().get("sort") ?? "name";
    const down = asked.startsWith("-");
    const by = down ? asked.slice(1) : asked;
    return COLUMNS.some((c) => c.id === by) ? { by, down } : { by: "name", down: false };
  }

  function sorted(rows) {
    const { by, down } = order();
    table.sorted(by, down);
    if (by === "name" && !down) return rows;
    const key = COLUMNS.find((c) => c.id === by).sort;
    const keys = new Map(rows.map((r) => [r, key(r)]));
    const compare = (a, b) => {
      const [left, right] = [keys.get(a), keys.get(b)];
      for (let n = 0; n < left.length; n += 1) {
        if (left[n] < right[n]) return -1;
        if (left[n] > right[n]) return 1;
      }
      return 0;
    };
    const list = [...rows].sort(compare);
    return down ? list.reverse() : list;
  }

  return {
    title: "Breakers",
    node: h("section", { class: "page", "aria-label": "Breakers" }, table.node, empty),
    update() {
      const rows = sorted(matching(filter()));
      empty.hidden = rows.length > 0;
      put(empty, "No breaker matches. Breakers come from policies: one for each tenant and provider that a policy names.");
      table.show(rows);
    },
    tick: () => table.draw(),
    keys: {
      j: () => table.step(1),
      k: () => table.step(-1),
      ArrowDown: () => table.step(1),
      ArrowUp: () => table.step(-1),
      Enter: (event) => (event.target.matches("a, button") ? event.target.click() : table.enter()),
    },
    close: () => table.close(),
  };
}
