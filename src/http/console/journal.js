// What was put, commanded, counted and decided.

import { h } from "./dom.js";
import { moment, number, percent, span } from "./format.js";
import { share } from "./evidence.js";
import { proof, reasonList, reasonText } from "./words.js";

/** Whose shares went back are named up to so many. */
const NAMED = 10;

const VERBS = {
  start: "Start", approve: "Approve", promote: "Pass over", extend: "Extend", pause: "Pause", suspend: "Suspend", resume: "Resume",
  rollback: "Roll back", abort: "Abort", drill: "Drill", issue: "Issue", graduate: "Graduate", delete: "Delete",
};

const TYPES = { plan: "plan", command: "command", history: "count", decision: "decision" };

/** Entries that go without a reason say this. */
const NONE = "none given";

const phaseName = (plan, index) => plan?.phases[index]?.name ?? `phase ${index + 1}`;

function commanded(entry) {
  const about = {
    promote: () => [` ${entry.override}`],
    extend: () => [` by ${span(entry.by_ms)}`],
    suspend: () => [", since ", reasonText(entry.why)],
    rollback: () => (entry.tenant ? [" ", h("bdi", {}, entry.tenant)] : [" all tenants"]),
    drill: () => [" ", h("bdi", {}, `${entry.tenant} / ${entry.provider}`), ` for ${span(entry.for_ms)}`],
    issue: () => [entry.change === "close" ? " closed: " : " opened: ", h("bdi", {}, entry.text)],
  };
  return [VERBS[entry.verb] ?? entry.verb, ...(about[entry.verb]?.() ?? [])];
}

function decided(entry, plan) {
  const phase = phaseName(plan, entry.phase);
  const percentOf = plan?.phases[entry.phase]?.ladder[entry.rung];
  const named = () => (entry.tenants ?? []).slice(0, NAMED).flatMap((tenant, n) => [n ? ", " : "", h("bdi", {}, tenant)]);
  const more = () => ((entry.tenants ?? []).length > NAMED ? ` and ${number(entry.tenants.length - NAMED)} more` : "");
  const words = {
    start: () => ["The rollout starts"],
    step: () => [`Phase ${phase} takes step ${entry.rung + 1}${percentOf === undefined ? "" : `: ${percentOf}%`}`],
    await_approval: () => [`Phase ${phase} has passed and waits for approval`],
    promote: () => [`Phase ${phase} has passed`],
    final_bake: () => [`Phase ${phase} has passed; the final bake begins`],
    complete: () => ["The rollout is completed: every tenant gets 100%"],
    pause: () => [`The rollout pauses${entry.to_zero ? ", all shares at 0" : ""}`],
    resume: () => ["The rollout goes on"],
    roll_back: () => ["All shares go to 0"],
    tenant_back: () => ["The shares go to 0 of ", ...named(), more()],
    renew: () => ["The step is laid over the policies again"],
    abort: () => ["The rollout is aborted"],
    delete: () => ["The rollout is deleted"],
  };
  return words[entry.kind]?.() ?? [entry.kind];
}

function figures(entry, plan) {
  const [treated, treatedFailed, control, controlFailed] = entry.figures.units;
  if (treated + control === 0) return [];
  const arm = (name, all, failed) => `${name} ${number(all)}, ${percent(all ? failed / all : 0)} failed`;
  const { harm, safe } = plan?.analysis ?? { harm: { alpha: 0.01 }, safe: { alpha: 0.05 } };
  return [
    `${arm("treated", treated, treatedFailed)}; ${arm("control", control, controlFailed)}`,
    `evidence of harm ${share(proof(entry.figures.harm, harm.alpha))} of proof, of safety ${share(proof(entry.figures.safe, safe.alpha))}`,
  ];
}

/** What stands in the second line: who, why, and what was known. */
function about(entry, plan) {
  const parts = [];
  if (entry.actor) parts.push(["by ", h("bdi", {}, entry.actor)]);
  if (entry.reason && entry.reason !== NONE) parts.push([h("bdi", {}, entry.reason)]);
  if (entry.type === "decision" && entry.reasons.length) parts.push(reasonList(entry.reasons));
  if (entry.type === "decision") parts.push(...figures(entry, plan).map((text) => [text]));
  if (entry.type === "history") parts.push([`${moment(entry.span.from)} to ${moment(entry.span.to)}`]);
  return parts.flatMap((part, n) => (n ? [" · ", ...part] : part));
}

function refusal(entry) {
  if (!["refused", "conflict"].includes(entry.effect)) return null;
  const why = entry.effect === "conflict" ? "the rollout had moved on" : entry.refusal;
  return h("span", { class: "refused" }, " refused: ", h("bdi", {}, why));
}

/** One entry. */
export function entryItem(entry, plan) {
  const what = { plan: () => ["The plan is put"], command: () => commanded(entry), history: () => [`The log is counted for phase ${phaseName(plan, entry.phase)}: ${number(entry.tenants)} tenants`], decision: () => decided(entry, plan) }[entry.type]();
  return h(
    "li",
    { class: `entry ${entry.type} ${entry.kind ?? ""}` },
    h("time", { datetime: new Date(entry.stamp).toISOString() }, moment(entry.stamp)),
    h("span", { class: "type" }, TYPES[entry.type]),
    h("span", { class: "what" }, what, refusal(entry)),
    h("span", { class: "why" }, about(entry, plan)),
  );
}
