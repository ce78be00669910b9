import { h, keyed, put } from "./dom.js";
import { ago, moment, number, percent, reason, short, span, time } from "./format.js";
import { badge, meter, panel, transition } from "./panels.js";
import { confirmAction } from "./dialogs.js";
import { ASK_AGAIN, get, idInPath, keyOf, now, remaining, store } from "./store.js";

/** What each setting means, in the order in which people look for them. */
const SETTINGS = [
  ["failure_threshold", "opens after failures in a row", (v) => number(v)],
  ["error_rate_threshold", "opens at an error rate of", percent],
  ["error_rate_window_seconds", "over the last", (v) => span(v * 1000)],
  ["minimum_requests", "with results in the window from", (v) => number(v)],
  ["latency_threshold_ms", "a call is slow above", (v) => (v === null ? "not judged" : `${number(v)} ms`)],
  ["slow_call_rate_threshold", "opens at a share of slow calls of", percent],
  ["timeout_ms", "stays open for", span],
  ["backoff_multiplier", "each reopening waits times", (v) => String(v)],
  ["max_timeout_ms", "at most", span],
  ["jitter_ratio", "spread by", percent],
  ["half_open_max_calls", "probes at once", (v) => number(v)],
  ["probe_timeout_ms", "a probe gives its slot back after", span],
  ["success_threshold", "closes after probes in a row", (v) => number(v)],
  ["enforce_percent", "refusals enforced for", (v) => `${v}% of requests`],
  ["failure_statuses", "failures are", (v) => v.join(", ")],
  ["ignored_error_codes", "codes that count as neither", (v) => (v.length ? v.join(", ") : "none")],
];

/** One breaker: what it shows, why, its window, its settings, what happened to it. */
export function breaker({ parts: [tenant = "", provider = ""] }) {
  const key = `${tenant}/${provider}`;
  const state = h("div", { class: "big" });
  const why = h("p", { class: "lead", "aria-live": "polite" });
  const figures = h("dl", { class: "tiles eight" });
  const bars = h("div", { class: "bars", role: "img" });
  const bar = meter();
  const settings = h("dl", { class: "settings" });
  const history = h("ol", { class: "transitions" });
  const problem = h("p", { class: "problem", role: "alert" });
  const policy = h("a", { class: "button plain" });
  const row = () => store.rows.get(key);
  const act = (kind) => () => row() && confirmAction(row(), kind);
  const actions = h(
    "div",
    { class: "actions", hidden: true },
    h("button", { type: "button", class: "plain", onclick: act("open"), "aria-keyshortcuts": "f" }, "Force open…"),
    h("button", { type: "button", class: "plain", onclick: act("closed") }, "Force closed…"),
    h("button", { type: "button", class: "plain", id: "unforce", onclick: act("auto") }, "End the force…"),
    h("button", { type: "button", class: "plain", onclick: act("reset"), "aria-keyshortcuts": "r" }, "Reset…"),
  );
  const windowPanel = panel("window", "Window", "Results in the sliding window, in ten parts", bars, h("div", { class: "axis" }, h("span", {}, "oldest"), h("span", {}, "now")), bar.node);
  const settingsPanel = panel("settings", "Settings", "Of the policy that holds for this breaker", settings);
  const historyPanel = panel("history", "History", "From the events stream: what happened, why, and the window at that moment", history);
  const node = h(
    "article",
    { class: "page" },
    h("div", { class: "head-row" }, h("h1", {}, h("a", { href: `#/breakers?tenant=${encodeURIComponent(tenant)}` }, tenant), h("span", { class: "slash" }, " / "), provider), state, policy),
    why,
    problem,
    actions,
    figures,
    h("div", { class: "grid" }, windowPanel.node, settingsPanel.node, historyPanel.node),
  );

  let detail = null;
  let asked = "";
  let asking = false;
  let face = "";
  let closed = false;

  /** Asks for what the stream does not carry, when something moved. */
  async function ask(mark) {
    asking = true;
    try {
      detail = await get(`breakers/${idInPath(tenant)}/${idInPath(provider)}`);
      put(problem, detail.transitions_problem ?? "");
      asked = mark;
    } catch (error) {
      put(problem, error.message);
      asked = mark;
      if (error.passing) setTimeout(() => (asked = ""), ASK_AGAIN);
    }
    asking = false;
    if (!closed) show();
  }

  function sentence(r) {
    const newest = detail?.transitions.find((t) => t.to === r.state && t.from !== t.to) ?? store.transitions.find((t) => keyOf(t) === key && t.to === r.state && t.from !== t.to);
    const because = newest ? ` because ${reason(newest.reason)}` : "";
    const seen = newest?.window?.requests ? `; ${newest.window.failures} of ${newest.window.requests} had failed, ${newest.failure_count} in a row` : "";
    if (r.flag_off) return "An emergency switch is off: nothing is refused and nothing is judged.";
    if (r.forced) return `Forced ${r.forced.state === "open" ? "open" : "closed"} by an operator${r.forced.until ? ` for ${span(r.forced.until - now())} more` : ", until the force is ended"}.`;
    if (!r.enabled) return "Its policy does not switch the breaker on: results are counted, nothing is refused.";
    if (r.state === "open") {
      const left = remaining(r);
      return `Open for ${ago(now() - r.since)}${because}${seen}. ${left ? `Half-open in ${span(left)}.` : "The next request probes."}`;
    }
    if (r.state === "half_open") return `Half-open for ${ago(now() - r.since)}: ${r.half_open_in_flight} probing, ${r.success_count} in a row succeeded.`;
    return newest ? `Closed ${ago(now() - r.since)} ago${because}.` : "Closed: requests pass.";
  }

  function show() {
    const r = row();
    actions.hidden = !store.overview?.actions || !r;
    if (!r) {
      if (store.overview) put(why, "No policy of this tenant names this provider, so there is no breaker.");
      state.replaceChildren();
      return;
    }
    const fresh = `${r.state}${r.forced?.state ?? ""}${r.flag_off}${r.enabled}`;
    if (fresh !== face) {
      face = fresh;
      state.replaceChildren(badge(r));
      document.getElementById("unforce")?.toggleAttribute("disabled", !r.forced);
    }
    put(why, sentence(r));
    bar.show(r);
    policy.href = `#/policy/${encodeURIComponent(tenant)}/${encodeURIComponent(r.policy_id)}`;
    put(policy, `Policy: ${r.policy_id}`);
    const shown = [
      ["Results in window", short(r.window_requests)],
      ["Failed", short(r.window_failures)],
      ["Slow", short(r.window_slow)],
      ["Failures in a row", number(r.failure_count)],
      ["Mean latency", r.mean_latency_ms ? `${short(r.mean_latency_ms)} ms` : "–"],
      ["Trips", number(r.trips)],
      [r.would_reject && !r.fail_fast ? "Would have refused" : "Refused here", short(r.fail_fast || r.would_reject)],
      ["Calls saved", short(Math.round(r.requests_saved))],
    ];
    keyed(figures, shown, ([name]) => name, ([name]) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {})), (element, [, value]) => put(element.lastChild, value));
    if (!detail) return;
    drawBars(bars, detail.buckets);
    const listed = SETTINGS.filter(([name]) => detail.breaker.settings?.[name] !== undefined);
    keyed(settings, listed, ([name]) => name, ([name, text]) => h("div", {}, h("dt", { title: name }, text), h("dd", {})), (element, [name, , shown]) => put(element.lastChild, shown(detail.breaker.settings[name])));
    keyed(history, detail.transitions, (t) => t.id, (t) => {
      const item = transition(t, false);
      put(item.firstChild, moment(t.timestamp));
      return item;
    });
    put(historyPanel.count, detail.transitions.length ? `${detail.transitions.length}${detail.transitions_complete ? "" : ", and older ones"}` : "nothing yet");
  }

  return {
    title: key,
    node,
    update() {
      const r = row();
      // What moves the window moves what is asked for.
      const mark = r ? `${r.since} ${r.window_requests} ${r.window_failures} ${r.policy_id} ${store.policiesChanged} ${JSON.stringify(r.forced)} ${r.trips}` : "none";
      if (mark !== asked && !asking && store.link === "live") ask(mark);
      show();
    },
    tick: show,
    keys: { f: act("open"), r: act("reset"), Escape: () => (location.hash = "#/breakers") },
    close: () => (closed = true),
  };
}

function drawBars(node, buckets) {
  const most = Math.max(1, ...buckets.map((b) => b.requests));
  const told = buckets.map((b) => `${time(b.from)}: ${b.failures} of ${b.requests} failed`);
  node.setAttribute("aria-label", `Results in the window, oldest first. ${told.join("; ")}`);
  keyed(
    node,
    buckets.map((b, n) => ({ ...b, n })),
    (b) => b.n,
    () => h("div", { class: "column" }, h("i", { class: "ok" }), h("i", { class: "failed" })),
    (element, b) => {
      element.title = told[b.n];
      element.firstChild.style.setProperty("height", `${((b.requests - b.failures) / most) * 100}%`);
      element.lastChild.style.setProperty("height", `${(b.failures / most) * 100}%`);
    },
  );
}
