import { h, keyed, put } from "./dom.js";
import { number } from "./format.js";
import { panel } from "./panels.js";
import { get, now, store } from "./store.js";
import { stateBadge } from "./words.js";

/** How often the list is asked for, in ms; at once after a decision. */
const EVERY = 5000;
const PAGE = 200;

export const rolloutHref = (id) => `#/rollout/${encodeURIComponent(id)}`;

/** All rollouts. */
export function rollouts() {
  const body = h("tbody");
  const problem = h("p", { class: "problem", role: "alert" });
  const heads = ["Rollout", "State", "Phase", "Step", "Share", "Tenants"].map((text) => h("th", { scope: "col" }, text));
  const { node, count } = panel("rollouts", "Rollouts", "Of circuit breakers, tenant by tenant and step by step", problem, h("div", { class: "wide" }, h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads)), body)), h("p", { class: "empty" }, "No rollout. Put a plan with the control verb rollout.put."));
  let held = [];
  let due = 0;
  let seen = -1;
  let asking = false;
  let closed = false;

  async function ask() {
    asking = true;
    seen = store.rolloutsChanged;
    try {
      const found = [];
      let cursor;
      do {
        const page = await get(`rollouts?limit=${PAGE}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
        found.push(...page.rollouts);
        cursor = page.cursor;
      } while (cursor);
      held = found;
      put(problem, "");
    } catch (error) {
      put(problem, error.message);
    }
    due = now() + EVERY;
    asking = false;
    if (!closed) show();
  }

  function show() {
    node.classList.toggle("none", held.length === 0);
    put(count, number(held.length));
    keyed(body, held, (r) => r.rollout, (r) => h("tr", {}, h("td", {}, h("a", { class: "name", href: rolloutHref(r.rollout) }, r.rollout)), h("td"), h("td"), h("td"), h("td"), h("td")), (element, r) => {
      if (element.state !== r.state) element.children[1].replaceChildren(stateBadge((element.state = r.state)));
      const texts = [r.phase ?? "–", r.step === null ? "–" : String(r.step + 1), r.phase === null ? "–" : `${r.percent}%`, number(r.tenants)];
      texts.forEach((text, n) => put(element.children[n + 2], text));
    });
  }

  const look = () => {
    if (store.link === "live" && !asking && (now() >= due || seen !== store.rolloutsChanged)) ask();
  };
  return { title: "Rollouts", node: h("div", { class: "page" }, node), update: look, tick: look, close: () => (closed = true) };
}
