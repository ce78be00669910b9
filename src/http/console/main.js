import { h, put } from "./dom.js";
import { number, span } from "./format.js";
import { store, follow, connect, changed, matching, now } from "./store.js";
import { overview } from "./overview.js";
import { breakers } from "./breakers.js";
import { breaker } from "./breaker.js";
import { policies, policy } from "./policies.js";
import { rollouts } from "./rollouts.js";
import { rollout } from "./rollout.js";
import { showKeys } from "./dialogs.js";

const VIEWS = { overview, breakers, breaker, policies, policy, rollouts, rollout, missing };
/** How many parts each view's address has behind its name. */
const PARTS = { overview: 0, breakers: 0, breaker: 2, policies: 0, policy: 2, rollouts: 0, rollout: 1 };
/** The entry of the menu that a page of one thing belongs to. */
const MENU = { breaker: "breakers", policy: "policies", rollout: "rollouts" };
const FILTERED = new Set(["overview", "breakers"]);
const at = (id) => document.getElementById(id);
const form = at("filters");

let view = null;
let route = null;

/** The address: `#/view/part/part?tenant=…`. */
function read() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  // A slash at the end is no part.
  if (parts.length > 1 && parts.at(-1) === "") parts.pop();
  const [first, ...rest] = parts;
  const known = Object.hasOwn(PARTS, first) && rest.length === PARTS[first] && rest.every(Boolean);
  const name = first === "" && rest.length === 0 ? "overview" : known ? first : "missing";
  const asked = new URLSearchParams(query ?? "");
  const state = ["closed", "open", "half_open"].includes(asked.get("state")) ? asked.get("state") : "";
  return {
    name,
    parts: name === "missing" ? parts : rest,
    query: asked,
    filter: { tenant: asked.get("tenant") ?? "", provider: asked.get("provider") ?? "", state },
  };
}

/** What an address leads to that leads nowhere. */
function missing() {
  const link = (view, text) => h("a", { href: `#/${view}` }, text);
  return {
    title: "No such page",
    node: h(
      "article",
      { class: "page" },
      h("h1", {}, "There is no such page"),
      h("p", { class: "lead" }, "Nothing is at ", h("code", {}, h("bdi", {}, location.hash)), ". There are ", link("overview", "the overview"), ", ", link("breakers", "the breakers"), ", ", link("policies", "the policies"), " and ", link("rollouts", "the rollouts"), "."),
    ),
    update() {},
  };
}

/** Changes the query of the address, without a step in the history. */
function setQuery(changes) {
  const query = new URLSearchParams(route.query);
  for (const [name, value] of Object.entries(changes)) value ? query.set(name, value) : query.delete(name);
  const path = [route.name, ...route.parts].map(encodeURIComponent).join("/");
  const text = query.toString();
  history.replaceState(null, "", `#/${path}${text ? `?${text}` : ""}`);
  go(false);
}

function go(fresh = true) {
  const before = route;
  route = read();
  const same = before && before.name === route.name && before.parts.join("/") === route.parts.join("/");
  if (!view || !same || (fresh && !FILTERED.has(route.name))) {
    view?.close?.();
    view = VIEWS[route.name]({ parts: route.parts, query: () => route.query, filter: () => route.filter, setQuery });
    const main = at("view");
    main.replaceChildren(view.node);
    main.className = route.name;
    if (before) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
    }
  }
  document.title = `${view.title ?? "beamline-router"} · beamline-router`;
  form.hidden = !FILTERED.has(route.name);
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.dataset.view === (MENU[route.name] ?? route.name);
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
    if (FILTERED.has(link.dataset.view)) {
      const kept = new URLSearchParams(Object.entries(route.filter).filter(([, value]) => value)).toString();
      link.href = `#/${link.dataset.view}${kept ? `?${kept}` : ""}`;
    }
  }
  fill();
  changed();
}

/** Puts the address's filter into the form. */
function fill() {
  const { tenant, provider, state } = route.filter;
  for (const [name, value] of [["tenant", tenant], ["provider", provider]]) {
    const input = form.elements[name];
    if (document.activeElement !== input && input.value !== value) input.value = value;
  }
  for (const radio of form.elements.state) radio.checked = radio.value === state;
  at("clear").hidden = !tenant && !provider && !state;
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", () => {
  const { tenant, provider, state } = form.elements;
  setQuery({ tenant: tenant.value.trim(), provider: provider.value.trim(), state: state.value });
});
at("clear").addEventListener("click", () => {
  form.reset();
  setQuery({ tenant: "", provider: "", state: "" });
  form.elements.tenant.focus();
});

let shape = -1;

/** The names that the filter offers. */
function offer() {
  if (shape === store.shape) return;
  shape = store.shape;
  for (const [id, field] of [["tenants", "tenant_id"], ["providers", "provider_id"]]) {
    const names = [...new Set(store.order.map((row) => row[field]))].sort().slice(0, 200);
    at(id).replaceChildren(...names.map((name) => h("option", { value: name })));
  }
}

function update() {
  const { overview: told } = store;
  const link = at("link");
  put(link, store.link === "live" ? "Live" : store.link === "connecting" ? "Connecting" : "Reconnecting");
  link.className = `pill ${store.link === "live" ? "good" : "bad"}`;
  const notice = at("notice");
  notice.hidden = !store.problem && store.link !== "reconnecting";
  put(notice, store.problem || "The connection to the worker is lost. What stands here is from before; this page reconnects by itself.");
  document.body.classList.toggle("stale", store.link !== "live");
  if (!told) return;
  put(at("worker"), told.worker);
  const ready = at("ready");
  ready.hidden = false;
  ready.className = `pill ${told.ready ? "good" : "bad"}`;
  put(ready, told.ready ? "Ready" : "Not ready");
  ready.title = told.reasons.join("; ");
  put(
    at("foot"),
    `beamline-router ${told.version} · log position ${number(told.log.position)}, ${number(told.log.lag)} behind · ` +
      `digest ${told.digest.value} at ${number(told.digest.position)} · ` +
      `${told.actions ? "actions are on" : "read-only"} · ${told.viewers} ${told.viewers === 1 ? "viewer" : "viewers"}`,
  );
  offer();
  if (FILTERED.has(route.name)) {
    const count = matching(route.filter).length;
    put(at("matching"), count === store.order.length ? "" : `${number(count)} of ${number(store.order.length)} breakers`);
  }
  const began = performance.now();
  view.update();
  store.updateMs = performance.now() - began;
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("beamline-theme", root.dataset.theme);
  } catch { /* then it holds until the page is left */ }
}

at("theme").addEventListener("click", toggleTheme);
at("help").addEventListener("click", showKeys);
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("view").focus();
});

const KEYS = {
  1: () => (location.hash = "#/overview"),
  2: () => (location.hash = "#/breakers"),
  3: () => (location.hash = "#/policies"),
  4: () => (location.hash = "#/rollouts"),
  "/": () => !form.hidden && form.elements.tenant.focus(),
  t: toggleTheme,
  "?": showKeys,
  Backspace: () => history.back(),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches?.("input:not([type=radio]), textarea, select");
  if (event.key === "Escape" && typing) {
    event.target.blur();
    return;
  }
  if (typing) return;
  const act = view?.keys?.[event.key] ?? KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
});

addEventListener("hashchange", () => go());
follow(update);
setInterval(() => view?.tick?.(now()), 250);
// For measurements from outside; nothing here reads it.
globalThis.beamline = { store, matching, span };
go();
connect();
