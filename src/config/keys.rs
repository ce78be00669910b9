//! The table of settings. What a line says is what `--help` says, what is read and what a fault names.

/// One setting.
#[derive(Debug)]
#[non_exhaustive]
pub struct Key {
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// The environment twin.
    pub env: &'static str,
    /// What stands for the value in help.
    pub value: &'static str,
    /// The value when neither is given.
    pub default: Option<&'static str>,
    /// One or two sentences.
    pub help: &'static str,
    /// How the flag takes its value.
    pub kind: Kind,
}

/// How a flag takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    Value,
    /// One value that may hold a secret, or is where people paste one by mistake: it is not repeated.
    Secret,
    /// May stand alone, which means true.
    Switch,
    /// May be given several times; the variable parts values by commas.
    List,
}

impl Key {
    pub(super) fn default_text(&self) -> &'static str {
        self.default.unwrap_or_default()
    }
}

macro_rules! keys {
    ($($name:ident = $flag:literal, $env:literal, $kind:ident $value:literal, $default:expr, $help:literal;)+) => {
        $(pub(super) const $name: Key = Key {
            flag: $flag, env: $env, value: $value, default: $default, help: $help, kind: Kind::$kind,
        };)+
    };
}

keys! {
    NATS_URL = "nats-url", "NATS_URL", Secret "URL[,URL…]", Some("nats://127.0.0.1:4222"),
        "Servers to connect to: nats:// or tls://, commas between several";
    NATS_CREDS = "nats-creds", "NATS_CREDS", Secret "FILE", None, "Credentials file (JWT and seed)";
    NATS_USER = "nats-user", "NATS_USER", Value "NAME", None, "User name";
    NATS_PASSWORD = "nats-password", "NATS_PASSWORD", Secret "PASSWORD", None,
        "Password; prefer the variable, other users of this machine can see flags";
    NATS_TOKEN = "nats-token", "NATS_TOKEN", Secret "TOKEN", None,
        "Token; prefer the variable, other users of this machine can see flags";
    NATS_CA = "nats-ca", "NATS_CA", Value "FILE", None,
        "Trust only the authorities in this PEM file, and connect with TLS only";
    NATS_CERT = "nats-cert", "NATS_CERT", Value "FILE", None, "Client certificate (PEM); with --nats-key";
    NATS_KEY = "nats-key", "NATS_KEY", Secret "FILE", None, "Key of the client certificate (PEM)";
    NATS_INBOX_PREFIX = "nats-inbox-prefix", "NATS_INBOX_PREFIX", Value "SUBJECT", None,
        "Where replies to this program arrive, instead of _INBOX; routers answer there if their --reply-prefix allows it";

    ROUTER_PREFIX = "router-prefix", "BEAMLINE_ROUTER_PREFIX", Value "SUBJECT", Some("beamline.router"),
        "First tokens of the router's subjects; streams, buckets and the queue group are named after it";
    EXEC_PREFIX = "exec-prefix", "BEAMLINE_EXEC_PREFIX", Value "SUBJECT", Some("caf.exec"),
        "First tokens of the executors' subjects";
    USAGE_PREFIX = "usage-prefix", "BEAMLINE_USAGE_PREFIX", Value "SUBJECT", Some("beamline.usage"),
        "First tokens of the usage subject";

    WORKER_NAME = "worker-name", "BEAMLINE_WORKER_NAME", Value "NAME", None,
        "This worker's name in logs and events; the default is the host's with the process id";
    HTTP_ADDR = "http-addr", "BEAMLINE_HTTP_ADDR", Value "ADDR:PORT", Some("127.0.0.1:9464"),
        "Where /metrics, /healthz, /readyz and the console are served";
    CONSOLE_ACTIONS = "console-actions", "BEAMLINE_CONSOLE_ACTIONS", Switch "BOOL", Some("false"),
        "Let whoever reaches the console act on breakers and rollouts; without it the console only shows";
    CONSOLE_HOST = "console-host", "BEAMLINE_CONSOLE_HOST", List "NAME", None,
        "A host name that the console is reached by, besides localhost and addresses; may be repeated";
    CONTROL_IDENTITY = "control-identity", "BEAMLINE_CONTROL_IDENTITY", Value "none|import", Some("none"),
        "Whether to record who sent a control request by the broker's word: import where such requests come through a service import alone";
    LOG_FORMAT = "log-format", "BEAMLINE_LOG_FORMAT", Value "json|text", Some("json"), "Form of the log lines";
    LOG_LEVEL = "log-level", "BEAMLINE_LOG_LEVEL", Value "LEVEL", Some("info"),
        "Least severe level that is logged: error, warn, info; debug and trace in debug builds only";
    POLICY_DIR = "policy-dir", "BEAMLINE_POLICY_DIR", Value "DIR", None,
        "Put the policies in this folder at start, where the bucket lacks them";
    REQUIRE_TENANT_SUBJECT = "require-tenant-subject", "BEAMLINE_REQUIRE_TENANT_SUBJECT", Switch "BOOL", Some("false"),
        "Refuse decide requests whose subject names no tenant";
    REPLY_PREFIX = "reply-prefix", "BEAMLINE_REPLY_PREFIX", List "SUBJECT", None,
        "Also answer to reply subjects that begin so, besides _INBOX. and _R_.; may be repeated";
    CIRCUIT_BREAKER_ENABLED = "circuit-breaker-enabled", "ROUTER_CIRCUIT_BREAKER_ENABLED", Value "BOOL", Some("true"),
        "The emergency switch of this worker alone: false refuses nothing";
    DECIDE_CONNECTIONS = "decide-connections", "BEAMLINE_DECIDE_CONNECTIONS", Value "N", Some("1"),
        "Connections that decide requests are spread over, 1 to 8";
    MAX_QUEUE_MS = "max-queue-ms", "BEAMLINE_MAX_QUEUE_MS", Value "MS", Some("1000"),
        "A request that waited longer in this worker is answered with overloaded";
    MAX_REQUEST_BYTES = "max-request-bytes", "BEAMLINE_MAX_REQUEST_BYTES", Value "SIZE", Some("64KiB"),
        "Longer request bodies are refused undecoded";
    CLAIM_WAIT_MS = "claim-wait-ms", "BEAMLINE_CLAIM_WAIT_MS", Value "MS", Some("50"),
        "How long a request waits at least for its probe claim before it takes the fallback; longer where the round trip to the log needs it, up to 1s";
    MAX_STALE_MS = "max-stale-ms", "BEAMLINE_MAX_STALE_MS", Value "MS", Some("30000"),
        "Once the log has not confirmed the state for so long, decisions are marked stale, and not made where another worker is there";
    USAGE_METERING = "usage-metering", "BEAMLINE_USAGE_METERING", Value "on|off", Some("on"),
        "Whether this worker takes part in sending usage events";
    ASSIGNMENT_DEADLINE_FACTOR = "assignment-deadline-factor", "BEAMLINE_ASSIGNMENT_DEADLINE_FACTOR", Value "N", Some("5"),
        "An assignment's deadline is the expected latency times this";
    ASSIGNMENT_DEADLINE_MIN_MS = "assignment-deadline-min-ms", "BEAMLINE_ASSIGNMENT_DEADLINE_MIN_MS", Value "MS", Some("5000"),
        "Shortest deadline of an assignment";
    ASSIGNMENT_DEADLINE_MAX_MS = "assignment-deadline-max-ms", "BEAMLINE_ASSIGNMENT_DEADLINE_MAX_MS", Value "MS", Some("60000"),
        "Longest deadline of an assignment";
    ASSIGNMENT_RETRY_MAX_ATTEMPTS = "assignment-retry-max-attempts", "BEAMLINE_ASSIGNMENT_RETRY_MAX_ATTEMPTS", Value "N", Some("2"),
        "options.retry.max_attempts of an assignment";
    ASSIGNMENT_RETRY_BACKOFF_MS = "assignment-retry-backoff-ms", "BEAMLINE_ASSIGNMENT_RETRY_BACKOFF_MS", Value "MS", Some("200"),
        "options.retry.backoff_ms of an assignment";
    REQUIRE_TENANT_ASSIGNMENTS = "require-tenant-assignments", "BEAMLINE_REQUIRE_TENANT_ASSIGNMENTS", Switch "BOOL", Some("false"),
        "Send assignments to their tenant's own subject unless a policy lists others, and refuse acknowledgements elsewhere";
    MAX_TRACKED_ASSIGNMENTS = "max-tracked-assignments", "BEAMLINE_MAX_TRACKED_ASSIGNMENTS", Value "N", Some("100000"),
        "Assignments whose result is awaited at once, shared by the tenants; more are refused as overloaded";
    REPLICAS = "replicas", "BEAMLINE_REPLICAS", Value "1|3|5", Some("1"),
        "Replicas of the streams and buckets that the router makes";
    LOG_MAX_AGE = "log-max-age", "BEAMLINE_LOG_MAX_AGE", Value "DURATION", Some("7d"),
        "How long the log keeps its entries";
    LOG_MAX_BYTES = "log-max-bytes", "BEAMLINE_LOG_MAX_BYTES", Value "SIZE", Some("4GiB"),
        "How large the log may grow";
    USAGE_MAX_AGE = "usage-max-age", "BEAMLINE_USAGE_MAX_AGE", Value "DURATION", Some("7d"),
        "How long the usage stream keeps its events";
    USAGE_MAX_BYTES = "usage-max-bytes", "BEAMLINE_USAGE_MAX_BYTES", Value "SIZE", Some("512MiB"),
        "How large the usage stream may grow; beyond it the oldest events go";
    USAGE_MIN_RETENTION = "usage-min-retention", "BEAMLINE_USAGE_MIN_RETENTION", Value "DURATION", Some("24h"),
        "Warn when the usage stream keeps its events for less than this at the present rate";
    EVENTS_MAX_AGE = "events-max-age", "BEAMLINE_EVENTS_MAX_AGE", Value "DURATION", Some("7d"),
        "How long the events stream keeps its events";
    EVENTS_MAX_BYTES = "events-max-bytes", "BEAMLINE_EVENTS_MAX_BYTES", Value "SIZE", Some("512MiB"),
        "How large the events stream may grow; beyond it the oldest events go";
    SNAPSHOT_EVERY = "snapshot-every", "BEAMLINE_SNAPSHOT_EVERY", Value "N", Some("100000"),
        "Entries of the log from one snapshot to the next; best the same on all workers, which compare theirs";
    FOLD_VERSION = "fold-version", "BEAMLINE_FOLD_VERSION", Value "N", None,
        "The newest version of the fold that this worker agrees to; without, the newest that it has";
    RECONCILE_INTERVAL_MS = "reconcile-interval-ms", "BEAMLINE_RECONCILE_INTERVAL_MS", Value "MS", Some("10000"),
        "How often the buckets are compared with the log, and streams and buckets looked after";
    SUBSCRIPTION_CAPACITY = "subscription-capacity", "BEAMLINE_SUBSCRIPTION_CAPACITY", Value "N", Some("65536"),
        "Messages that wait in one NATS subscription at most; more are dropped, counted and told";
    DRAIN_TIMEOUT_MS = "drain-timeout-ms", "BEAMLINE_DRAIN_TIMEOUT_MS", Value "MS", Some("10000"),
        "How long a drain may take after SIGTERM";

    TIMEOUT = "timeout", "BEAMLINE_TIMEOUT", Value "DURATION", Some("10s"),
        "How long to wait for the connection, and for each answer; a change may take 5s to be in force";
    ACTOR = "actor", "BEAMLINE_ACTOR", Value "TEXT", None, "Who acts, kept in the history of what is changed";
}

pub(super) const CONNECTION: [&Key; 10] = [
    &NATS_URL,
    &NATS_CREDS,
    &NATS_USER,
    &NATS_PASSWORD,
    &NATS_TOKEN,
    &NATS_CA,
    &NATS_CERT,
    &NATS_KEY,
    &NATS_INBOX_PREFIX,
    &ROUTER_PREFIX,
];

pub(super) const SERVE: [&Key; 39] = [
    &EXEC_PREFIX,
    &USAGE_PREFIX,
    &WORKER_NAME,
    &HTTP_ADDR,
    &CONSOLE_ACTIONS,
    &CONSOLE_HOST,
    &CONTROL_IDENTITY,
    &LOG_FORMAT,
    &LOG_LEVEL,
    &POLICY_DIR,
    &REQUIRE_TENANT_SUBJECT,
    &REQUIRE_TENANT_ASSIGNMENTS,
    &REPLY_PREFIX,
    &CIRCUIT_BREAKER_ENABLED,
    &DECIDE_CONNECTIONS,
    &MAX_QUEUE_MS,
    &MAX_REQUEST_BYTES,
    &CLAIM_WAIT_MS,
    &MAX_STALE_MS,
    &USAGE_METERING,
    &ASSIGNMENT_DEADLINE_FACTOR,
    &ASSIGNMENT_DEADLINE_MIN_MS,
    &ASSIGNMENT_DEADLINE_MAX_MS,
    &ASSIGNMENT_RETRY_MAX_ATTEMPTS,
    &ASSIGNMENT_RETRY_BACKOFF_MS,
    &MAX_TRACKED_ASSIGNMENTS,
    &REPLICAS,
    &LOG_MAX_AGE,
    &LOG_MAX_BYTES,
    &USAGE_MAX_AGE,
    &USAGE_MAX_BYTES,
    &USAGE_MIN_RETENTION,
    &EVENTS_MAX_AGE,
    &EVENTS_MAX_BYTES,
    &SNAPSHOT_EVERY,
    &FOLD_VERSION,
    &RECONCILE_INTERVAL_MS,
    &SUBSCRIPTION_CAPACITY,
    &DRAIN_TIMEOUT_MS,
];

pub(super) const CLIENT: [&Key; 2] = [&TIMEOUT, &ACTOR];

/// Every setting, in the order of the help: those of the connection, of `serve`, of the control verbs.
pub fn all_keys() -> impl Iterator<Item = &'static Key> {
    CONNECTION.into_iter().chain(SERVE).chain(CLIENT)
}
