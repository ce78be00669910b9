import { h, put } from "./dom.js";
import { idInPath, post, store } from "./store.js";

const KEYS = [
  ["1 2 3", "Overview, breakers, policies"],
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

/** Asks for an action on a breaker. It is done only once the breaker's name has been typed. */
export function confirmAction(row, kind) {
  if (!store.overview?.actions) return;
  const dialog = document.getElementById("act");
  const name = `${row.tenant_id}/${row.provider_id}`;
  const [title, what] = WORDS[kind];
  const typed = h("input", { name: "typed", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "act-name" });
  const why = h("input", { name: "reason", autocomplete: "off", maxlength: "1000", placeholder: "kept in the history" });
  const ttl = h("select", { name: "ttl" }, [["", "until I end it"], ["300", "5 minutes"], ["1800", "30 minutes"], ["7200", "2 hours"], ["86400", "1 day"]].map(([value, text]) => h("option", { value }, text)));
  const problem = h("p", { class: "problem", role: "alert" });
  const go = h("button", { type: "submit", class: "danger", disabled: true }, title);
  const forced = kind === "open" || kind === "closed";
  const close = () => dialog.close();
  const form = h(
    "form",
    { autocomplete: "off" },
    h("h2", { id: "act-title" }, title),
    h("p", {}, what),
    h("label", {}, "Type ", h("code", { id: "act-name" }, name), typed),
    h("label", {}, "Reason", why),
    forced ? h("label", {}, "For how long", ttl) : null,
    problem,
    h("div", { class: "buttons" }, h("button", { type: "button", class: "plain", onclick: close }, "Cancel"), go),
  );
  typed.addEventListener("input", () => (go.disabled = typed.value !== name));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (typed.value !== name) return;
    go.disabled = true;
    put(problem, "");
    const path = `breakers/${idInPath(row.tenant_id)}/${idInPath(row.provider_id)}/${kind === "reset" ? "reset" : "force"}`;
    const body = why.value ? { reason: why.value } : {};
    if (kind !== "reset") body.state = kind;
    if (forced && ttl.value) body.ttl_seconds = Number(ttl.value);
    try {
      const told = await post(path, body);
      if (told.warnings.length) put(problem, told.warnings.join(" "));
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
