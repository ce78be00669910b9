// What this page knows: fed by one stream, which begins with the whole and goes on with what differs.

const HOUR = 3600000;
/** Without a word from the worker for so long, the connection is taken for lost. */
const SILENCE = 15000;
/** Rates kept for the small charts: two minutes. */
const KEPT = 240;

export const store = {
  overview: null,
  rows: new Map(),
  order: [],
  transitions: [],
  transitionsComplete: true,
  alerts: [],
  failFast: [],
  link: "connecting",
  problem: "",
  frames: 0,
  /** Rises when breakers come or go. */
  shape: 0,
  policiesChanged: 0,
  rolloutsChanged: 0,
};

const listeners = new Set();
let scheduled = false;
let skew = 0;
let heard = 0;
let source = null;
let wait = 1000;

export const keyOf = (row) => `${row.tenant_id}/${row.provider_id}`;
export const now = () => Date.now() + skew;
export const remaining = (row) => (row.open_until === null || row.open_until === undefined ? null : Math.max(0, row.open_until - now()));

/** Calls back at most once a frame, after something changed. */
export function follow(listener) {
  listeners.add(listener);
}

export function changed() {
  if (scheduled) return;
  scheduled = true;
  const tell = () => {
    if (!scheduled) return;
    scheduled = false;
    for (const listener of listeners) listener();
  };
  // A page in the background draws no frames, and is brought up to date when it is looked at.
  requestAnimationFrame(tell);
}

export function connect() {
  source?.close();
  source = new EventSource("/api/v1/stream");
  heard = Date.now();
  source.addEventListener("snapshot", (event) => take(event, whole));
  source.addEventListener("delta", (event) => take(event, differs));
  source.onerror = () => lost();
}

function take(event, apply) {
  heard = Date.now();
  wait = 1000;
  const data = JSON.parse(event.data);
  skew = data.overview.now - Date.now();
  store.overview = data.overview;
  store.link = "live";
  store.problem = "";
  store.frames += 1;
  apply(data);
  const rate = data.overview.rates_per_second.fail_fast;
  if (rate !== null) store.failFast.push(rate);
  if (store.failFast.length > KEPT) store.failFast.shift();
  const since = now() - HOUR;
  while (store.transitions.length && store.transitions.at(-1).timestamp < since) store.transitions.pop();
  changed();
}

function whole(data) {
  store.rows = new Map(data.breakers.map((row) => [keyOf(row), row]));
  store.transitions = data.transitions;
  store.transitionsComplete = data.transitions_complete;
  store.alerts = data.alerts;
  store.policiesChanged += 1;
  store.rolloutsChanged += 1;
  sort();
}

function differs(data) {
  let known = true;
  for (const change of data.changed) {
    const row = store.rows.get(keyOf(change));
    if (row) Object.assign(row, change);
    else {
      store.rows.set(keyOf(change), change);
      known = false;
    }
  }
  for (const [tenant, provider] of data.gone) known = !store.rows.delete(`${tenant}/${provider}`) && known;
  if (!known) sort();
  for (const event of data.events) {
    if (event.kind === "breaker" && !store.transitions.some((held) => held.id === event.id)) store.transitions.unshift(event);
    if (event.kind === "policy") store.policiesChanged += 1;
    if (event.kind === "rollout") store.rolloutsChanged += 1;
  }
  if (data.alerts) store.alerts = data.alerts;
}

function sort() {
  const by = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  store.order = [...store.rows.values()].sort((a, b) => by(a.tenant_id, b.tenant_id) || by(a.provider_id, b.provider_id));
  store.shape += 1;
}

async function lost() {
  const gone = source;
  store.link = "reconnecting";
  changed();
  // The browser tries again by itself unless the worker said no.
  if (gone.readyState !== EventSource.CLOSED) return;
  setTimeout(connect, wait);
  wait = Math.min(wait * 2, 15000);
  try {
    const answer = await fetch("/api/v1/overview", { cache: "no-store" });
    const body = await answer.json();
    store.problem = answer.ok ? "as many viewers follow this worker as it bears; this page tries again" : body.error.message;
  } catch {
    store.problem = "";
  }
  changed();
}

setInterval(() => {
  if (store.link === "live" && Date.now() - heard > SILENCE) {
    store.link = "reconnecting";
    changed();
    connect();
  }
}, 1000);

// A browser has six connections to a host, so a page that nobody sees holds none.
const UNSEEN = 30000;
let unseen = 0;

function rest() {
  source?.close();
  store.link = "connecting";
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(unseen);
  if (document.hidden) unseen = setTimeout(rest, UNSEEN);
  else if (store.link === "connecting") connect();
});
addEventListener("pagehide", rest);
addEventListener("pageshow", (event) => event.persisted && connect());

/** An id as the API's paths have it. Browsers resolve `.` and `..` away, however they are encoded. */
export const idInPath = (id) => (id === "." || id === ".." ? `~${id}` : encodeURIComponent(id));

/** A GET from the API; throws what the worker says is wrong. */
export async function get(path) {
  const answer = await fetch(`/api/v1/${path}`, { cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error?.message ?? `status ${answer.status}`), { passing: answer.status >= 500 });
  return body;
}

/** After this long, in ms, what failed by the worker's or the broker's fault is asked again. */
export const ASK_AGAIN = 5000;

/** An action; throws what the worker says is wrong. */
export async function post(path, body) {
  const answer = await fetch(`/api/v1/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-beamline-console": "1" },
    body: JSON.stringify(body),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error?.message ?? `status ${answer.status}`);
  return told;
}

/** The rows that a filter lets through, by tenant and provider. */
export function matching(filter) {
  const { tenant, provider, state } = filter;
  if (!tenant && !provider && !state) return store.order;
  const [t, p] = [tenant.toLowerCase(), provider.toLowerCase()];
  return store.order.filter(
    (row) =>
      (!state || row.state === state) &&
      (!t || row.tenant_id.toLowerCase().includes(t)) &&
      (!p || row.provider_id.toLowerCase().includes(p)),
  );
}

/** How a breaker does, for the matrix and for sorting: the worst is the highest. */
export function health(row) {
  if (row.flag_off || (!row.enabled && !row.forced)) return { rank: 0, kind: "off", text: "not judged" };
  if (row.state === "open") return { rank: 4, kind: row.forced ? "forced" : "open", text: row.forced ? "forced open" : "open" };
  if (row.state === "half_open") return { rank: 3, kind: "half_open", text: "half-open" };
  if (row.forced) return { rank: 1, kind: "forced", text: "forced closed" };
  const judged = row.window_requests >= row.minimum_requests;
  if (judged && row.error_rate >= row.error_rate_threshold / 2) return { rank: 2, kind: "strained", text: "closed, many failures" };
  return { rank: 1, kind: "closed", text: "closed" };
}
