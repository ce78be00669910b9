// The words of rollouts as people read them.

import { h, sign } from "./dom.js";
import { number, percent, span } from "./format.js";

/** Of each state of a rollout: its word, its sign. */
const STATES = {
  draft: ["Draft", "ahead"],
  preparing: ["Preparing", "clock"],
  running: ["Running", "running"],
  awaiting_approval: ["Awaits approval", "clock"],
  paused: ["Paused", "paused"],
  final_bake: ["Final bake", "running"],
  completed: ["Completed", "closed"],
  rolled_back: ["Rolled back", "back"],
  aborted: ["Aborted", "open"],
  deleted: ["Deleted", "off"],
};

const TENANT_STATES = {
  waiting: ["Waiting", "ahead"],
  on_ladder: ["On ladder", "running"],
  passed: ["Passed", "closed"],
  rolled_back: ["Rolled back", "back"],
  left_out: ["Left out", "off"],
  deleted: ["No policy", "off"],
};

const VERDICTS = { pass: ["Pass", "closed"], fail: ["Fail", "open"], inconclusive: ["Inconclusive", "half_open"] };

const worded = (kind, words, word) => {
  const [text, shape] = words[word] ?? [word, "off"];
  return h("span", { class: `badge ${kind}-${word}` }, sign(shape), h("span", {}, text));
};

export const stateBadge = (state) => worded("rollout", STATES, state);
export const tenantBadge = (state) => worded("tenant", TENANT_STATES, state);
export const verdictBadge = (verdict) => worded("verdict", VERDICTS, verdict);

/** Of each criterion: its name, and what passes. */
export const CRITERIA = {
  harm: ["Harm", "It is not proven that enforced requests fail more"],
  safe: ["Safe", "It is proven that enforced requests do not fail more than the margin"],
  latency: ["Latency", "Enforced requests are not slower than the limit"],
  unexpected_opens: ["Unexpected opens", "No breaker opened while its provider was well"],
  recovery: ["Recovery", "Every breaker closed in time after its provider was well"],
  exercise: ["Exercise", "A breaker opened and closed"],
  coverage: ["Coverage", "Enough requests have an outcome"],
  sample_ratio: ["Sample ratio", "Both arms have the sizes that the split makes"],
  loss_ratio: ["Loss ratio", "Neither arm loses more requests than the other"],
  telemetry: ["Telemetry", "The evidence is whole and fresh"],
  issues: ["Issues", "No customer's issue is open"],
};

const REASONS = {
  harm: "it is proven that enforced requests fail more",
  no_data: "an arm of the comparison has no requests yet",
  insufficient_sample: "there are too few requests so far",
  undecided: "there are enough requests, and neither harm nor safety is proven",
  sample_ratio: "the arms of the comparison do not have their sizes",
  loss_ratio: "one arm has more requests without an outcome",
  metric_discontinuity: "part of the evidence is missing",
  accounts_differ: "the counts of the workers do not add up",
  unexpected_open: "a breaker opened though its provider was well",
  recovery_overdue: "a breaker closed late, or should be closed by now",
  slower: "enforced requests are slower than the limit",
  issue_open: "an issue of a customer is open",
  stale_telemetry: "the newest evidence is too old",
  low_coverage: "too many requests have no outcome",
  latency_undecided: "there are too few requests to compare latency",
  open_unexplained: "a breaker opened, and too few calls say whether its provider was well",
  recovery_pending: "a breaker is open, and not yet due to close",
  not_exercised: "no breaker has opened and closed yet; a drill does it",
  too_early: "the shortest time of the step is not over",
  evidence_suspect: "two halves that are treated alike differ, so the evidence cannot be trusted",
  empty_cohort: "no tenant is left on the ladder",
  mixed_versions: "a worker does not support rollouts",
  overridden: "it is passed over",
  history: "the history of the phase is counted from the log",
  start: "it is not started",
  approve: "it is not approved",
  resume: "it is not resumed",
  graduate: "its settings are not written into the policies",
  delete: "it has ended and may be deleted",
  put: "a plan may be put again",
};

/** What a pause must not be waited out for: somebody must act. */
const BY_HAND = ["sample_ratio", "loss_ratio", "evidence_suspect", "empty_cohort", "mixed_versions"];
/** What is missing, where nothing is wrong. */
const LACKS = ["no_data", "insufficient_sample", "undecided", "stale_telemetry", "low_coverage", "latency_undecided", "open_unexplained", "recovery_pending", "not_exercised", "too_early"];

/** How a pause ends. */
export function wayOut({ reasons, next, step }) {
  if (next.needs.includes("resume") || step === null) return "It goes on when somebody resumes it.";
  if (reasons.includes("empty_cohort")) return "Nobody is left to be treated: it can be aborted.";
  if (reasons.some((word) => BY_HAND.includes(word))) return "It goes on when somebody resumes it; the evidence of the step begins anew.";
  if (reasons.every((word) => LACKS.includes(word))) return "The longest time of the phase is over: it goes on when it is extended.";
  return "It goes on by itself once the reasons are gone.";
}

/** A word of the judge or the name of a verb as people read it; what is neither is text of a person. */
export const reasonText = (word) => (Object.hasOwn(REASONS, word) ? REASONS[word] : word);

/** Reasons in a row, each within its place whichever way its letters run. */
export const reasonList = (words) => words.flatMap((word, n) => [n ? "; " : "", h("bdi", {}, reasonText(word))]);

/** Milliseconds of a duration as plans have it: `500ms`, `30s`, `5m`, `12h`, `7d`. */
export function lasting(text) {
  const [, count, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(text ?? "") ?? [];
  return Number(count ?? 0) * { ms: 1, s: 1000, m: 60000, h: 3600000, d: 86400000 }[unit ?? "ms"];
}

const NATS = 1e9;

/** Evidence as a share of what proves something at the probability of error `alpha`, 1 ÷ alpha. */
export const proof = (logE, alpha) => logE / NATS / Math.log(1 / alpha);

/** An e-value: 1 is no evidence, 100 is a hundred to one. */
export function eValue(logE) {
  const value = Math.exp(logE / NATS);
  if (value >= 1e6) return "above 1,000,000";
  if (value >= 10) return number(Math.round(value));
  return value < 0.001 ? "below 0.001" : value.toPrecision(2);
}

const PPM = 1e6;

/** The figures of a criterion in words. */
export function figuresText({ name, figures }) {
  const each = Object.entries(figures);
  if ("log_e" in figures) return `e-value ${eValue(figures.log_e)}`;
  if (name === "coverage") return percent(figures.permille / 1000);
  if (name === "telemetry") return figures.stale_ms ? `overdue by ${span(figures.stale_ms)}` : "up to date";
  if (name === "issues") return `${number(figures.open)} open`;
  if (name === "latency") {
    const change = (ppm) => `${ppm < 0 ? "−" : "+"}${Math.abs(Math.expm1(ppm / PPM) * 100).toFixed(1)}%`;
    const quantiles = each.filter(([key]) => key.endsWith("_low")).map(([key, low]) => [key.slice(0, -4), low]);
    return quantiles.map(([q, low]) => `${q} ${change(low)} to ${change(figures[`${q}_high`])}`).join(", ") || "not judged";
  }
  const some = each.filter(([, count]) => count > 0).map(([kind, count]) => `${number(count)} ${kind.replaceAll("_", " ")}`);
  return some.join(", ") || "none";
}
