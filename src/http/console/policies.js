import { h, keyed, put } from "./dom.js";
import { json, moment, number } from "./format.js";
import { panel } from "./panels.js";
import { ASK_AGAIN, get, idInPath, store } from "./store.js";

const hrefOf = (p) => `#/policy/${encodeURIComponent(p.tenant_id)}/${encodeURIComponent(p.policy_id)}`;

/** All policies in force. */
export function policies() {
  const body = h("tbody");
  const problem = h("p", { class: "problem", role: "alert" });
  const more = h("button", { type: "button", class: "plain", hidden: true }, "More");
  const find = h("input", { type: "search", placeholder: "tenant", "aria-label": "Only this tenant", autocomplete: "off", spellcheck: "false" });
  const heads = ["Tenant", "Policy", "Revision", "Breakers", "Providers"].map((text) => h("th", { scope: "col" }, text));
  const { node, count } = panel("policies", "Policies", "In force on this worker", h("div", { class: "tools" }, h("label", {}, "Tenant ", find)), problem, h("div", { class: "wide" }, h("table", { class: "list" }, h("thead", {}, h("tr", {}, heads)), body)), h("p", { class: "empty" }, "No policy. Put one with beamline-router policy put."), more);
  let held = [];
  let cursor;
  let seen = -1;
  let asking = false;

  async function ask(from) {
    asking = true;
    seen = store.policiesChanged;
    const query = new URLSearchParams({ limit: "200" });
    if (from) query.set("cursor", from);
    const tenant = find.value.trim();
    if (tenant) query.set("tenant_id", tenant);
    try {
      const page = await get(`policies?${query}`);
      held = from ? [...held, ...page.policies] : page.policies;
      cursor = page.cursor;
      put(problem, "");
    } catch (error) {
      put(problem, error.message);
    }
    asking = false;
    show();
  }

  function show() {
    node.classList.toggle("none", held.length === 0);
    put(count, `${number(held.length)}${cursor ? ` of ${number(store.overview?.policies ?? 0)}` : ""}`);
    more.hidden = !cursor;
    keyed(body, held, (p) => `${p.tenant_id}/${p.policy_id}`, (p) => h("tr", {}, h("td", {}, p.tenant_id), h("td", {}, h("a", { class: "name", href: hrefOf(p) }, p.policy_id)), h("td", { class: "n" }), h("td"), h("td")), (element, p) => {
      put(element.children[2], p.revision);
      put(element.children[3], p.circuit_breaker_enabled ? "on" : "off");
      put(element.children[4], p.providers.join(", "));
    });
  }

  more.addEventListener("click", () => ask(cursor));
  find.addEventListener("change", () => ask());
  return {
    title: "Policies",
    node: h("div", { class: "page" }, node),
    update() {
      if (seen !== store.policiesChanged && !asking && store.link === "live") ask();
    },
  };
}

/** One policy: its revisions, what differs between two, the document. */
export function policy({ parts: [tenant = "", id = ""], query, setQuery }) {
  const base = `policies/${idInPath(tenant)}/${idInPath(id)}`;
  const problem = h("p", { class: "problem", role: "alert" });
  const list = h("ol", { class: "revisions" });
  const changes = h("ul", { class: "changes" });
  const document_ = h("pre", { tabindex: "0", "aria-label": "The document" });
  const from = h("select", { "aria-label": "Older revision" });
  const to = h("select", { "aria-label": "Newer revision" });
  const revisionsPanel = panel("revisions", "Revisions", "As the bucket keeps them, newest first", list);
  const diffPanel = panel("diff", "What differs", "Between two revisions, as documents", h("div", { class: "tools" }, h("label", {}, "from ", from), h("label", {}, "to ", to)), changes, h("p", { class: "empty" }, "Nothing differs."));
  const documentPanel = panel("document", "Document", "As it was put", document_);
  let revisions = [];
  let seen = -1;
  let asking = false;

  async function ask() {
    asking = true;
    seen = store.policiesChanged;
    try {
      revisions = (await get(`${base}/revisions`)).revisions;
      put(problem, "");
      show();
      await compare();
    } catch (error) {
      put(problem, error.message);
      if (error.passing) setTimeout(() => (seen = -1), ASK_AGAIN);
    }
    asking = false;
  }

  function chosen() {
    const known = (text) => revisions.find((r) => String(r.revision) === text)?.revision;
    const newer = known(query().get("to")) ?? revisions[0]?.revision;
    const older = known(query().get("from")) ?? revisions.find((r) => r.revision < newer)?.revision ?? newer;
    return { newer, older };
  }

  function show() {
    const { newer, older } = chosen();
    put(revisionsPanel.count, number(revisions.length));
    keyed(list, revisions, (r) => r.revision, (r) => {
      const pick = h("button", { type: "button", class: "link", onclick: () => choose({ from: "", to: String(r.revision) }) }, `Revision ${r.revision}`);
      return h("li", {}, pick, h("span", { class: "muted" }, ` ${r.operation === "delete" ? "deleted" : "put"} ${moment(Date.parse(r.at))}`), h("div", { class: "by" }, r.actor ? ["by ", h("bdi", {}, r.actor), r.reason ? ": " : ""] : "", r.reason ? h("bdi", {}, r.reason) : ""));
    }, (element, r) => (r.revision === newer ? element.setAttribute("aria-current", "true") : element.removeAttribute("aria-current")));
    for (const [select, value] of [[from, older], [to, newer]]) {
      const options = revisions.map((r) => String(r.revision)).join();
      if (select.dataset.options !== options) {
        select.dataset.options = options;
        select.replaceChildren(...revisions.map((r) => h("option", { value: r.revision }, String(r.revision))));
      }
      select.value = String(value);
    }
    const held = revisions.find((r) => r.revision === newer);
    put(documentPanel.count, newer ? `revision ${newer}` : "");
    put(document_, held?.policy === undefined ? "deleted" : json(held.policy, 2));
  }

  async function compare() {
    const { newer, older } = chosen();
    if (!newer) return;
    const told = await get(`${base}/diff?from=${older}&to=${newer}`);
    diffPanel.node.classList.toggle("none", told.changes.length === 0);
    put(diffPanel.count, `${told.changes.length} ${told.changes.length === 1 ? "change" : "changes"}`);
    const text = (value) => (value === undefined ? "" : typeof value === "string" ? json(value) : json(value, 1).replace(/\n\s*/g, " "));
    changes.replaceChildren(
      ...told.changes.map((change) =>
        h("li", { class: change.kind }, h("span", { class: "kind" }, change.kind), h("code", {}, change.path || "/"), h("div", { class: "values" }, "before" in change ? h("del", {}, text(change.before)) : null, "after" in change ? h("ins", {}, text(change.after)) : null)),
      ),
    );
  }

  async function choose(pair) {
    setQuery(pair);
    show();
    try {
      await compare();
    } catch (error) {
      put(problem, error.message);
    }
  }

  from.addEventListener("change", () => choose({ from: from.value, to: to.value }));
  to.addEventListener("change", () => choose({ from: from.value, to: to.value }));
  return {
    title: `${tenant} / ${id}`,
    node: h("article", { class: "page" }, h("div", { class: "head-row" }, h("h1", {}, h("a", { href: `#/breakers?tenant=${encodeURIComponent(tenant)}` }, tenant), h("span", { class: "slash" }, " / "), id)), problem, h("div", { class: "grid" }, revisionsPanel.node, diffPanel.node, documentPanel.node)),
    update() {
      if (seen !== store.policiesChanged && !asking && store.link === "live") ask();
    },
    keys: { Escape: () => (location.hash = "#/policies") },
  };
}
