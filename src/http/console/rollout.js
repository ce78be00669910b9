import { h, keyed, put } from "./dom.js";
import { json, number } from "./format.js";
import { panel } from "./panels.js";
import { confirmRollout } from "./dialogs.js";
import { get, idInPath, now, store } from "./store.js";
import { courseOf, pace, presentEvidence } from "./course.js";
import { entryItem } from "./journal.js";
import { criteriaPanel, evidencePanel, ladderPanel, nextPanel, tenantsPanel } from "./progress.js";
import { reasonText, stateBadge } from "./words.js";

/** Points of evidence that a page keeps: an hour of the shortest blocks. */
const POINTS = 3600;
/** Entries of a journal that are asked for at once. */
const PAGE = 500;
/** Entries that are drawn. */
const DRAWN = 500;

const ACTIVE = ["preparing", "running", "awaiting_approval", "paused", "final_bake"];

/** Which actions a state allows; the worker has the last word. */
const ALLOWED = {
  approve: (s) => s.state === "awaiting_approval",
  pause: (s) => ACTIVE.includes(s.state) && !heldByHand(s),
  resume: (s) => s.state === "paused",
  rollback: (s) => ACTIVE.includes(s.state) || s.state === "completed",
};

const heldByHand = (s) => s.state === "paused" && s.next.needs.includes("resume");

/** One rollout: where it is, what the evidence says, what comes next, what happened. */
export function rollout({ parts: [id = ""] }) {
  const base = `rollouts/${idInPath(id)}`;
  const known = { status: null, plan: null, entries: [], points: [] };
  const view = pageOf(id, (kind) => known.status && confirmRollout(known.status, kind, () => (due = 0)));
  let due = 0;
  let seen = -1;
  let seq = -1;
  let asking = false;
  let closed = false;

  async function ask() {
    asking = true;
    seen = store.rolloutsChanged;
    try {
      known.status = await get(`${base}/status`);
      if (known.status.seq !== seq) {
        known.plan = (await get(base)).plan;
        await askJournal();
        seq = known.status.seq;
      }
      note();
      put(view.problem, "");
    } catch (error) {
      put(view.problem, error.message);
    }
    due = now() + pace(known.plan, known.status);
    asking = false;
    if (!closed && known.status && known.plan) view.show(known);
  }

  /** What stands behind the entries that are held: behind the last place, and decisions behind the last number. */
  async function askJournal() {
    const last = known.entries.at(-1)?.position;
    let cursor = last && `${last}.${known.entries.findLast((e) => e.type === "decision")?.n ?? 0}`;
    do {
      const page = await get(`${base}/history?limit=${PAGE}${cursor ? `&cursor=${cursor}` : ""}`);
      known.entries.push(...page.entries);
      cursor = page.cursor;
    } while (cursor);
  }

  /** Keeps the evidence of this moment, if it is news. */
  function note() {
    const { status, plan, points } = known;
    const point = presentEvidence(plan, status, now());
    const last = points.at(-1);
    if (point.units === 0 || (last?.units === point.units && last?.part === point.part)) return;
    points.push(point);
    if (points.length > POINTS) points.shift();
  }

  const look = () => {
    if (store.link === "live" && !asking && (now() >= due || seen !== store.rolloutsChanged)) ask();
    view.allow(known.status);
  };
  return {
    title: id,
    node: view.node,
    update: look,
    tick: look,
    keys: { Escape: () => (location.hash = "#/rollouts") },
    close() {
      closed = true;
      view.close();
    },
  };
}

/** What stands on the page; `act` asks for an action. */
function pageOf(id, act) {
  const state = h("div", { class: "big" });
  const lead = h("p", { class: "lead", "aria-live": "polite" });
  const problem = h("p", { class: "problem", role: "alert" });
  const button = (kind, text, look) => h("button", { type: "button", class: look, "data-action": kind, disabled: true, onclick: () => act(kind) }, text);
  const actions = h("div", { class: "actions", hidden: true, role: "group", "aria-label": "Actions" }, button("approve", "Approve…", "plain"), button("pause", "Pause…", "plain"), button("resume", "Resume…", "plain"), button("rollback", "Roll back…", "danger"));
  const panels = [ladderPanel(), evidencePanel(), nextPanel(), criteriaPanel(), tenantsPanel(), journalPanel(), planPanel()];
  let face = "";
  return {
    problem,
    node: h("article", { class: "page" }, h("div", { class: "head-row" }, h("h1", {}, h("bdi", {}, id)), state), lead, problem, actions, h("div", { class: "grid" }, panels.map((p) => p.node))),
    allow(status) {
      actions.hidden = !store.overview?.actions || !status;
      if (!status) return;
      for (const each of actions.children) each.disabled = !ALLOWED[each.dataset.action](status);
    },
    show(known) {
      const { status, plan } = known;
      if (status.state !== face) state.replaceChildren(stateBadge((face = status.state)));
      put(lead, sentence(status, plan));
      known.course = courseOf(known.entries);
      for (const each of panels) each.show(known);
    },
    close: () => panels.forEach((p) => p.close?.()),
  };
}

function sentence(status, plan) {
  const { state, phase, step, percent: share } = status;
  const here = plan.phases.find((p) => p.name === phase);
  const tenants = (states) => {
    const count = status.tenants.filter((t) => states.includes(t.state)).length;
    return count === 1 ? "1 tenant" : `${number(count)} tenants`;
  };
  switch (state) {
    case "draft":
      return "A draft: it lays nothing over policies yet.";
    case "preparing":
      return `Phase ${phase} is prepared: the log is counted for its tenants.`;
    case "running":
      if (status.reasons.includes("stale_telemetry")) return `Phase ${phase}, step ${step + 1} of ${here?.ladder.length}: nothing is enforced, since the newest evidence is too old. The share comes back once a block is judged.`;
      if (share === 0) return `Phase ${phase}, step ${step + 1} of ${here?.ladder.length}: nothing is enforced. Two arms that are treated alike are compared, which tests the evidence.`;
      return `Phase ${phase}, step ${step + 1} of ${here?.ladder.length}: refusals are enforced for ${share}% of the requests of ${tenants(["on_ladder"])}.`;
    case "awaiting_approval":
      return `Phase ${phase} has passed at ${share}% and waits for approval.`;
    case "paused":
      return `It is paused${status.reasons.length ? `: ${status.reasons.map(reasonText).join("; ")}` : ""}.`;
    case "final_bake":
      return `All phases have passed: refusals are enforced for ${plan.after_phase}% of the requests of ${tenants(["passed"])}. Harm is judged on.`;
    case "completed":
      return `It is completed: all refusals are enforced for ${tenants(["passed"])}.`;
    case "rolled_back":
      return "It is rolled back: nothing is enforced any more, and the evidence goes on.";
    case "aborted":
      return "It is aborted: it lays nothing over policies any more.";
    default:
      return "It is deleted.";
  }
}

function journalPanel() {
  const list = h("ol", { class: "journal", tabindex: "0", "aria-label": "Journal, newest first" });
  const { node, count } = panel("journal", "Journal", "Plans, commands and decisions, with who and why; newest first", list, h("p", { class: "empty" }, "Nothing yet."));
  return {
    node,
    show({ entries, plan }) {
      node.classList.toggle("none", entries.length === 0);
      put(count, entries.length > DRAWN ? `newest ${number(DRAWN)} of ${number(entries.length)}` : number(entries.length));
      keyed(list, entries.slice(-DRAWN).reverse(), (e) => e.position, (e) => entryItem(e, plan));
    },
  };
}

function planPanel() {
  const text = h("pre", { tabindex: "0", "aria-label": "The plan" });
  const { node } = panel("plan", "Plan", "With every default filled in", text);
  return { node, show: ({ plan }) => put(text, json(plan, 2)) };
}
