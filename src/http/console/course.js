// The course of a rollout, read from its plan, its status and its journal.

import { lasting, proof, wayOut } from "./words.js";

/** What the decisions of a journal say: which phases passed, when each step began, and where it was last. */
export function courseOf(entries) {
  const course = { passed: new Map(), steps: [], last: null, ended: null };
  for (const entry of entries) {
    if (entry.type !== "decision") continue;
    const { kind, phase, rung, stamp, figures } = entry;
    if (kind === "start" || kind === "delete") Object.assign(course, { passed: new Map(), steps: [], last: null, ended: null });
    if (kind === "step") {
      course.steps.push({ phase, rung, stamp, before: figures });
      course.last = { phase, rung };
    }
    if (kind === "promote" || kind === "final_bake") course.passed.set(phase, stamp);
    if (kind === "roll_back" || kind === "abort" || kind === "complete") course.ended = stamp;
  }
  return course;
}

/** The phases of a plan, each with its tenants and its steps, and how far each is: `passed`, `here`, `stopped` or `ahead`. */
export function ladderOf(plan, status, course) {
  const stopped = ["rolled_back", "aborted"].includes(status.state);
  const done = ["final_bake", "completed"].includes(status.state) || (status.state === "paused" && status.phase === null && course.passed.size > 0);
  const current = status.phase === null ? (stopped ? (course.last?.phase ?? -1) : -1) : plan.phases.findIndex((p) => p.name === status.phase);
  return plan.phases.map((phase, index) => {
    const tenants = status.tenants.filter((t) => t.phase === phase.name);
    const passed = done || course.passed.has(index) || index < current;
    const state = passed ? "passed" : index !== current ? "ahead" : stopped ? "stopped" : "here";
    const at = state === "here" ? status.step : state === "stopped" ? course.last?.rung : null;
    const rungs = phase.ladder.map((share, rung) => {
      const began = course.steps.findLast((s) => s.phase === index && s.rung === rung)?.stamp;
      const far = passed || rung < (at ?? 0) ? "passed" : rung === at ? state : "ahead";
      const waits = far === "here" && rung === phase.ladder.length - 1 && status.state === "awaiting_approval";
      return { share, began, state: waits ? "passed" : far, here: rung === at && state === "here", last: rung === phase.ladder.length - 1 };
    });
    return { index, name: phase.name, phase, tenants, state, rungs, passedAt: course.passed.get(index) };
  });
}

/** What comes after the present step, in a sentence. */
export function following(plan, status) {
  const index = plan.phases.findIndex((p) => p.name === status.phase);
  const phase = plan.phases[index];
  const next = plan.phases.slice(index + 1).find((p) => status.tenants.some((t) => t.phase === p.name)) ?? plan.phases[index + 1];
  const onward = next ? `phase ${next.name} is prepared` : `the final bake of ${plan.final_bake} begins`;
  const kept = `the tenants of ${status.phase} get ${plan.after_phase}%, and ${onward}`;
  switch (status.state) {
    case "draft":
      return `Phase ${plan.phases[0].name} is prepared: the log is counted for its tenants.`;
    case "preparing":
      return phase ? `Phase ${phase.name} begins at ${phase.ladder[0]}%.` : "";
    case "running":
      if (status.step < phase.ladder.length - 1) return `Step ${status.step + 2} of ${phase.ladder.length}: ${phase.ladder[status.step + 1]}%.`;
      return plan.approval === "each_phase" ? "The phase waits for approval." : `The phase passes: ${kept}.`;
    case "awaiting_approval":
      return `The phase passes: ${kept}.`;
    case "paused":
      return wayOut(status);
    case "final_bake":
      return "It is completed: every tenant gets 100%.";
    default:
      return "";
  }
}

/** The evidence of a moment. Without a phase only harm is judged, with a quarter of its alpha. */
export function presentEvidence(plan, status, at) {
  const { harm, safe } = plan.analysis;
  const { harm_e, safe_e, units } = status.evidence;
  const phase = plan.phases.findIndex((p) => p.name === status.phase);
  const base = { at, units, past: false };
  if (phase < 0) return { ...base, harm: proof(harm_e, harm.alpha / 4), safe: null, part: "all" };
  return { ...base, harm: proof(harm_e, harm.alpha), safe: proof(safe_e, safe.alpha), part: `${phase}/${status.step}` };
}

/** The evidence at each decision of a journal, as far as steps tell it: a part for each step. */
export function pastEvidence(plan, entries) {
  const { harm: { alpha: harm }, safe: { alpha: safe } } = plan.analysis;
  const points = [];
  let part = null;
  const point = (stamp, figures) => ({ at: stamp, harm: proof(figures.harm, harm), safe: proof(figures.safe, safe), units: figures.units[0] + figures.units[2], part: part.name, past: true });
  for (const entry of entries) {
    if (entry.type !== "decision") continue;
    if (entry.kind === "start" || entry.kind === "delete") [points.length, part] = [0, null];
    if (part) points.push(point(entry.stamp, entry.figures));
    if (["promote", "final_bake", "roll_back", "abort"].includes(entry.kind)) part = null;
    if (entry.kind !== "step") continue;
    const share = plan.phases[entry.phase]?.ladder[entry.rung] ?? 0;
    // Harm is judged over all steps of a phase that treat somebody; safety anew in each step.
    const goes = part?.phase === entry.phase && part.share > 0;
    part = { phase: entry.phase, share, name: `${entry.phase}/${entry.rung}` };
    points.push(point(entry.stamp, { harm: goes ? entry.figures.harm : 0, safe: 0, units: [0, 0, 0, 0] }));
  }
  return points;
}

/** How often a status is asked for: four times in each block of evidence, within bounds. */
export function pace(plan, status) {
  const phase = plan?.phases.find((p) => p.name === status?.phase);
  const block = lasting(phase?.block ?? plan?.analysis.block);
  return Math.min(10000, Math.max(1000, block / 4));
}
