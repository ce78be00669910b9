// What a rollout's page is made of. Each panel shows what is known of the rollout: its plan, status, journal, course
// and points of evidence.

import { h, keyed, put, sign } from "./dom.js";
import { moment, number, short, span } from "./format.js";
import { panel } from "./panels.js";
import { now } from "./store.js";
import { following, ladderOf, pastEvidence } from "./course.js";
import { evidenceChart, share } from "./evidence.js";
import { CRITERIA, eValue, figuresText, reasonText, tenantBadge, verdictBadge } from "./words.js";

/** Tenants of a phase that are drawn. */
const DRAWN = 500;

const SIGNS = { passed: "closed", here: "running", stopped: "back", ahead: "ahead" };
const PLACES = { passed: "passed", here: "now", stopped: "stopped here", ahead: "ahead" };

/** The phases and their steps, and how far it is. */
export function ladderPanel() {
  const list = h("ol", { class: "ladder" });
  const { node, count } = panel("ladder", "Ladder", "The phases with their steps: the share of requests whose refusals are enforced", list);
  let face = "";

  const rung = (r, paused = false) =>
    h("li", { class: `rung ${r.state}`, "aria-current": r.here ? "step" : null, title: r.began ? `since ${moment(r.began)}` : null }, sign(paused && r.here ? "paused" : SIGNS[r.state]), h("b", {}, `${r.share}%`), h("span", { class: "hidden" }, ` ${PLACES[r.state]}`), r.last ? h("span", { class: "muted" }, "judged") : null);

  function phase(step, paused) {
    const { phase: { bake, min, max } } = step;
    const passed = step.passedAt ? `passed ${moment(step.passedAt)}` : PLACES[step.state];
    return h(
      "li",
      { class: `phase ${step.state}` },
      h("div", { class: "phase-head" }, h("strong", {}, step.name), h("span", { class: "muted" }, `${number(step.tenants.length)} ${step.tenants.length === 1 ? "tenant" : "tenants"}`)),
      h("ol", { class: "rungs", "aria-label": `Steps of phase ${step.name}` }, step.rungs.map((r) => rung(r, paused))),
      h("span", { class: "muted" }, `${passed} · bakes ${bake}, ${min} to ${max}`),
    );
  }

  function end(status, plan) {
    const stages = [["final_bake", "Final bake", `${plan.after_phase}%`, `for ${plan.final_bake}`], ["completed", "Completed", "100%", "for all"]];
    return stages.map(([stage, name, share, how]) => {
      const far = status.state === "completed" ? "passed" : status.state === stage ? "here" : "ahead";
      const one = { state: far, here: status.state === stage, share: share.slice(0, -1), last: false };
      return h("li", { class: `phase ${far}` }, h("div", { class: "phase-head" }, h("strong", {}, name)), h("ol", { class: "rungs", "aria-label": name }, rung(one)), h("span", { class: "muted" }, how));
    });
  }

  return {
    node,
    show({ status, plan, course }) {
      const steps = ladderOf(plan, status, course);
      const next = JSON.stringify([steps, status.state]);
      if (next === face) return;
      face = next;
      const passed = steps.filter((s) => s.state === "passed").length;
      put(count, `${passed} of ${steps.length} phases passed`);
      list.replaceChildren(...steps.map((s) => phase(s, status.state === "paused")), ...end(status, plan));
    },
  };
}

/** The evidence over time. */
export function evidencePanel() {
  const chart = evidenceChart();
  const key = (kind, text) => h("span", { class: `key ${kind}` }, h("i", { "aria-hidden": "true" }), text, h("b", {}));
  const harm = key("harm", "harm ");
  const safe = key("safe", "safety ");
  const { node, count } = panel("evidence", "Evidence", "How much of what proof needs the data have. Points from before this page was opened are those of decisions", h("p", { class: "keys-line" }, harm, safe, h("span", { class: "muted" }, "of what proof needs; thin: at decisions only")), chart.node, h("p", { class: "empty" }, "No evidence yet."));
  return {
    node,
    show({ status, plan, entries, points, course }) {
      const first = points[0]?.at ?? Infinity;
      const all = [...pastEvidence(plan, entries).filter((p) => p.at < first), ...points];
      const steps = course.steps.map((s) => ({ at: s.stamp, label: `${plan.phases[s.phase]?.name ?? ""} ${plan.phases[s.phase]?.ladder[s.rung] ?? ""}%` }));
      node.classList.toggle("none", all.length === 0);
      const { units, needed } = status.evidence;
      put(count, needed ? `${short(units)} requests, safety needs about ${short(needed)}` : `${short(units)} requests`);
      if (all.length === 0) return;
      put(harm.lastChild, share(all.at(-1).harm));
      put(safe.lastChild, share(all.at(-1).safe));
      chart.show(all, steps);
    },
    close: () => chart.close(),
  };
}

/** What comes next. */
export function nextPanel() {
  const what = h("p", {});
  const when = h("p", { class: "muted" });
  const waits = h("p", { class: "muted" }, "Not yet, because");
  const needs = h("ul", { class: "needs" });
  const fill = h("i", { class: "fill" });
  const mark = h("i", { class: "mark" });
  const times = h("div", { class: "meter" }, h("span", { class: "bar", "aria-hidden": "true" }, fill, mark));
  const spent = h("p", { class: "muted" });
  const issues = h("ul", { class: "needs issues" });
  const { node, count } = panel("next", "Next", "What happens next, and what it waits for", what, when, waits, needs, times, spent, issues);
  let face = "";
  return {
    node,
    show({ status, plan }) {
      const { next, qualified_ms: spentMs, min_ms: least, max_ms: most } = status;
      put(count, status.pending === null ? "" : `decision ${status.pending} is being recorded`);
      put(what, following(plan, status));
      put(when, next.when === null ? "" : `In ${span(next.when)} at the earliest: ${moment(now() + next.when)}.`);
      const fresh = JSON.stringify([next.needs, status.issues]);
      if (fresh !== face) {
        face = fresh;
        waits.hidden = next.needs.length === 0 || !what.textContent;
        needs.replaceChildren(...next.needs.map((word) => h("li", {}, sign("clock"), h("bdi", {}, reasonText(word)))));
        issues.replaceChildren(...status.issues.map((text) => h("li", {}, sign("open"), h("span", {}, "Issue: ", h("bdi", {}, text)))));
      }
      times.hidden = spent.hidden = most === 0;
      if (most === 0) return;
      fill.style.setProperty("width", `${Math.min(100, (spentMs / most) * 100)}%`);
      mark.style.setProperty("left", `${(least / most) * 100}%`);
      put(spent, `${span(spentMs)} of the phase count; at least ${span(least)} (the mark), at most ${span(most)}`);
    },
  };
}

/** What must hold for the step to end. */
export function criteriaPanel() {
  const body = h("tbody");
  const heads = ["Criterion", "Verdict", "Why", "Figures"].map((text) => h("th", { scope: "col" }, text));
  const { node, count } = panel("criteria", "Criteria", "What must hold for the step to end", h("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Criteria, scrollable" }, h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads)), body)), h("p", { class: "empty" }, "No step of a ladder is judged now."));

  function make(c) {
    const [name, what] = CRITERIA[c.name] ?? [c.name, ""];
    return h("tr", {}, h("th", { scope: "row" }, name, h("span", { class: "muted" }, what)), h("td"), h("td"), h("td", { class: "figure-cell" }));
  }

  return {
    node,
    show({ status: { criteria } }) {
      const passing = criteria.filter((c) => c.verdict === "pass").length;
      put(count, criteria.length ? `${passing} of ${criteria.length} pass` : "");
      node.classList.toggle("none", criteria.length === 0);
      keyed(body, criteria, (c) => c.name, make, (element, c) => {
        if (element.verdict !== c.verdict) element.children[1].replaceChildren(verdictBadge((element.verdict = c.verdict)));
        put(element.children[2], c.reason ? reasonText(c.reason) : "");
        put(element.children[3], figuresText(c));
      });
    },
  };
}

/** Tenants that no phase takes in stand under this name. */
const NO_PHASE = "in no phase";

/** The tenants, by phase. */
export function tenantsPanel() {
  const body = h("div", { class: "phases" });
  const { node, count } = panel("tenants", "Tenants", "By the phase that they come in with", body, h("p", { class: "empty" }, "No tenant yet: they are chosen when the log is counted."));
  const heads = ["Tenant", "State", "Share", "E-value of harm"].map((text) => h("th", { scope: "col" }, text));

  function make(group) {
    const rows = h("tbody");
    const name = h("summary", {}, h("strong", {}, group.name), h("span", { class: "muted" }));
    const element = h("details", { open: group.open }, name, h("div", { class: "wide" }, h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads.map((head) => head.cloneNode(true)))), rows)), h("p", { class: "muted" }));
    return Object.assign(element, { rows });
  }

  const row = (t) => h("tr", {}, h("th", { scope: "row" }, h("a", { class: "name", href: `#/breakers?tenant=${encodeURIComponent(t.tenant_id)}` }, h("bdi", {}, t.tenant_id))), h("td"), h("td"), h("td"));

  return {
    node,
    show({ status, plan }) {
      const names = [...plan.phases.map((p) => p.name), NO_PHASE];
      const groups = names.map((name) => ({ name, open: name === status.phase || status.tenants.length <= 20, tenants: status.tenants.filter((t) => (t.phase ?? NO_PHASE) === name) })).filter((g) => g.tenants.length);
      const out = status.already_enforced.length ? `, ${number(status.already_enforced.length)} enforced already` : "";
      put(count, `${number(status.tenants.length)}${out}`);
      node.classList.toggle("none", groups.length === 0);
      keyed(body, groups, (g) => g.name, make, (element, { tenants }) => {
        put(element.querySelector("summary .muted"), ` ${number(tenants.length)} ${tenants.length === 1 ? "tenant" : "tenants"}`);
        put(element.lastChild, tenants.length > DRAWN ? `and ${number(tenants.length - DRAWN)} more` : "");
        keyed(element.rows, tenants.slice(0, DRAWN), (t) => t.tenant_id, row, (line, t) => {
          if (line.state !== t.state) line.children[1].replaceChildren(tenantBadge((line.state = t.state)));
          put(line.children[2], `${t.percent}%`);
          put(line.children[3], eValue(t.log_e));
          line.title = `${number(t.units)} requests in its history`;
        });
      });
    },
  };
}
