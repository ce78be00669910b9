import { h, put } from "./dom.js";
import { idInPath, post, store } from "./store.js";

const KEYS = [
  ["1 2 3 4", "Overview, breakers, policies, rollouts"],
  ["/", "Filter by tenant"],
  ["j k ↓ ↑", "Next and previous breaker in the list"],
  ["Enter", "Open the breaker"],
  ["Backspace", "Back"],
  ["f r", "On a breaker's page: force, reset (where actions are on)"],
  ["t", "Dark or light"],
  ["?", "This list"],
  ["Esc", "Leave a field or a dialog"],
];

export function showKeys() {
  const dialog = document.getElementById("keys");
  dialog.replaceChildren(
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl", { class: "keys" }, KEYS.map(([keys, what]) => [h("dt", {}, keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, what)])),
    h("form", { method: "dialog" }, h("button", { class: "plain" }, "Close")),
  );
  dialog.showModal();
}

const WORDS = {
  open: ["Force open", "Every request to it is refused, whatever results say, until the force ends."],
  closed: ["Force closed", "Every request passes, whatever results say, until the force ends."],
  auto: ["End the force", "After forced open it is half-open and probes; after forced closed it is closed and empty."],
  reset: ["Reset", "It is closed and its window is empty. A force stays."],
};

/** Asks for an action, which is done only once the name of what it changes has been typed. `act` does it with the reason, and returns warnings. */
function confirm({ title, what, name, fields, needsReason, act }) {
  if (!store.overview?.actions) return;
  const dialog = document.getElementById("act");
  const typed = h("input", { name: "typed", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "act-name" });
  const why = h("input", { name: "reason", autocomplete: "off", maxlength: "256", placeholder: "kept in the history", required: needsReason });
  const problem = h("p", { class: "problem", role: "alert" });
  const go = h("button", { type: "submit", class: "danger", disabled: true }, title);
  const close = () => dialog.close();
  const ready = () => typed.value === name && (!needsReason || why.value.trim() !== "");
  const form = h(
    "form",
    { autocomplete: "off" },
    h("h2", { id: "act-title" }, title),
    h("p", {}, what),
    h("label", {}, "Type ", h("code", { id: "act-name" }, name), typed),
    h("label", {}, "Reason", why),
    fields,
    problem,
    h("div", { class: "buttons" }, h("button", { type: "button", class: "plain", onclick: close }, "Cancel"), go),
  );
  form.addEventListener("input", () => (go.disabled = !ready()));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!ready()) return;
    go.disabled = true;
    put(problem, "");
    try {
      const warnings = await act(why.value.trim());
      if (warnings.length) put(problem, warnings.join(" "));
      else close();
    } catch (error) {
      put(problem, error.message);
      go.disabled = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
  typed.focus();
}

/** Asks for an action on a breaker. */
export function confirmAction(row, kind) {
  const [title, what] = WORDS[kind];
  const ttl = h("select", { name: "ttl" }, [["", "until I end it"], ["300", "5 minutes"], ["1800", "30 minutes"], ["7200", "2 hours"], ["86400", "1 day"]].map(([value, text]) => h("option", { value }, text)));
  const forced = kind === "open" || kind === "closed";
  confirm({
    title,
    what,
    name: `${row.tenant_id}/${row.provider_id}`,
    fields: forced ? [h("label", {}, "For how long", ttl)] : [],
    needsReason: false,
    async act(reason) {
      const path = `breakers/${idInPath(row.tenant_id)}/${idInPath(row.provider_id)}/${kind === "reset" ? "reset" : "force"}`;
      const body = reason ? { reason } : {};
      if (kind !== "reset") body.state = kind;
      if (forced && ttl.value) body.ttl_seconds = Number(ttl.value);
      return (await post(path, body)).warnings;
    },
  });
}

const ROLLOUT_WORDS = {
  approve: ["Approve", "The phase passes: its tenants get their share after a phase, and the next phase is prepared."],
  pause: ["Pause", "It stays at the shares that it has until somebody resumes it. Harm is judged on."],
  resume: ["Resume", "It goes on where it stopped."],
  rollback: ["Roll back", "The shares go to 0, for good: nothing is enforced any more. It needs a new rollout to enforce again."],
};

/** Asks for an action on a rollout; `done` is called after it. */
export function confirmRollout(status, kind, done) {
  const [title, what] = ROLLOUT_WORDS[kind];
  const treated = status.tenants.filter((t) => ["on_ladder", "passed"].includes(t.state));
  const whose = h("select", { name: "tenant" }, h("option", { value: "" }, "all tenants"), treated.map((t) => h("option", { value: t.tenant_id }, t.tenant_id)));
  // Who approves means what the page shows. What takes shares back is not held up by that.
  const seen = kind === "approve" || kind === "resume" ? { expected_seq: status.seq } : {};
  confirm({
    title,
    what,
    name: status.rollout,
    fields: kind === "rollback" ? [h("label", {}, "Whose shares", whose)] : [],
    needsReason: true,
    async act(reason) {
      const one = kind === "rollback" && whose.value ? { tenant_id: whose.value } : {};
      await post(`rollouts/${idInPath(status.rollout)}/${kind}`, { reason, ...seen, ...one });
      done();
      return [];
    },
  });
}
