//! From flags and variables to settings: each read once, every fault collected.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::env::Env;
use super::keys::{self, Key};
use super::reader::{Reader, SettingsFaults, Told};
use super::units::{bytes, integer, millis, span, switch};
use super::{
    AssignmentSettings, ClientArgs, ClientSettings, ConsoleSettings, ControlIdentity, DecideSettings, Kept,
    LedgerSettings, LogFormat, LogLevel, Logging, Names, NatsSettings, ServeArgs, Settings, SubjectPrefix,
};

/// Replies always allowed: the inboxes of the NATS clients, and those that a leaf node or gateway maps.
const INBOX_PREFIXES: [&str; 2] = ["_INBOX.", "_R_."];

impl Settings {
    /// Reads the settings of `serve`.
    ///
    /// # Errors
    /// All faults at once.
    pub fn resolve(args: &ServeArgs, env: &dyn Env) -> Result<Self, SettingsFaults> {
        let mut r = Reader::new(args.given(), env);
        let nats = NatsSettings::read(&mut r);
        let names = read_names(&mut r);
        let worker_name = read_worker_name(&mut r, env);
        let http_addr = r.read(&keys::HTTP_ADDR, |text| {
            text.parse::<SocketAddr>().map_err(|_| "want address:port, such as 127.0.0.1:9464".to_owned())
        });
        let control_identity = r.read(&keys::CONTROL_IDENTITY, |text| match text {
            "none" => Ok(ControlIdentity::None),
            "import" => Ok(ControlIdentity::Import),
            _ => Err("want none or import".to_owned()),
        });
        let console = read_console(&mut r);
        let logging = read_logging(&mut r);
        let decide = read_decide(&mut r, names.as_ref().ok());
        let assignments = read_assignments(&mut r);
        let ledger = read_ledger(&mut r);
        let policy_dir = r.optional(&keys::POLICY_DIR, |text| {
            let dir = PathBuf::from(text);
            if dir.is_dir() { Ok(dir) } else { Err("no such folder".to_owned()) }
        });
        let reconcile_interval = r.read(&keys::RECONCILE_INTERVAL_MS, millis(100, 600_000));
        let subscription_capacity = r.read(&keys::SUBSCRIPTION_CAPACITY, integer(1, 1 << 24));
        let drain_timeout = r.read(&keys::DRAIN_TIMEOUT_MS, millis(100, 600_000));
        let usage_metering = r.read(&keys::USAGE_METERING, switch);
        let day = Duration::from_secs(86_400);
        let usage_min_retention = r.read(&keys::USAGE_MIN_RETENTION, span(Duration::ZERO, day * 3_650));
        // A stream keeps nothing for longer than its age.
        let usage_min_retention = usage_min_retention.map(|least| match &ledger {
            Ok(ledger) => least.min(ledger.usage.max_age),
            Err(_) => least,
        });
        let circuit_breaker_enabled = r.read(&keys::CIRCUIT_BREAKER_ENABLED, switch);
        let assembled = || {
            Ok(Self {
                nats: nats?,
                names: names?,
                worker_name: worker_name?,
                control_identity: control_identity?,
                http_addr: http_addr?,
                console: console?,
                logging: logging?,
                decide: decide?,
                assignments: assignments?,
                ledger: ledger?,
                policy_dir: policy_dir?,
                reconcile_interval: reconcile_interval?,
                subscription_capacity: subscription_capacity?,
                drain_timeout: drain_timeout?,
                usage_metering: usage_metering?,
                usage_min_retention: usage_min_retention?,
                circuit_breaker_enabled: circuit_breaker_enabled?,
            })
        };
        let assembled = assembled();
        r.finish(assembled)
    }
}

impl ClientSettings {
    /// Reads the settings of the control verbs.
    ///
    /// # Errors
    /// All faults at once.
    pub fn resolve(args: &ClientArgs, env: &dyn Env) -> Result<Self, SettingsFaults> {
        let mut r = Reader::new(args.given(), env);
        let nats = NatsSettings::read(&mut r);
        let router = r.read(&keys::ROUTER_PREFIX, prefix);
        let exec = SubjectPrefix::try_new(keys::EXEC_PREFIX.default_text()).map_err(|_| Told);
        let usage = SubjectPrefix::try_new(keys::USAGE_PREFIX.default_text()).map_err(|_| Told);
        let timeout = r.read(&keys::TIMEOUT, span(Duration::from_millis(100), Duration::from_secs(600)));
        let actor = r.optional(&keys::ACTOR, |text| Ok(text.to_owned()));
        let assembled = || {
            Ok(Self {
                nats: nats?,
                names: Names::new(&router?, &exec?, &usage?),
                timeout: timeout?,
                actor: actor?,
            })
        };
        let assembled = assembled();
        r.finish(assembled)
    }
}

fn prefix(text: &str) -> Result<SubjectPrefix, String> {
    SubjectPrefix::try_new(text).map_err(|fault| fault.to_string())
}

/// The prefixes, and whether they keep out of each other's way.
///
/// A client may name an assignment subject below `<exec>.assign.`: nothing that the router obeys or
/// keeps may lie there. And what the router's own streams capture below `<router>.v1` and
/// `<router>.control` must be the router's only.
fn read_names(r: &mut Reader<'_>) -> Result<Names, Told> {
    let router = r.read(&keys::ROUTER_PREFIX, prefix);
    let exec = r.read(&keys::EXEC_PREFIX, prefix);
    let usage = r.read(&keys::USAGE_PREFIX, prefix);
    let (router, exec, usage) = (router?, exec?, usage?);
    let mut sound = true;
    for (key, inner, outer, parts) in [
        (&keys::ROUTER_PREFIX, &router, &exec, ["assign", "result"]),
        (&keys::USAGE_PREFIX, &usage, &exec, ["assign", "result"]),
        (&keys::EXEC_PREFIX, &exec, &router, ["v1", "control"]),
        (&keys::USAGE_PREFIX, &usage, &router, ["v1", "control"]),
    ] {
        for part in parts {
            if inner.lies_under(&format!("{outer}.{part}")) {
                r.fault(key, format!("{inner} must not lie under {outer}.{part}"));
                sound = false;
            }
        }
    }
    if sound { Ok(Names::new(&router, &exec, &usage)) } else { Err(Told) }
}

/// The name of this worker; by default the host's with the process id, so that two on a host differ.
fn read_worker_name(r: &mut Reader<'_>, env: &dyn Env) -> Result<String, Told> {
    let given = r.optional(&keys::WORKER_NAME, |text| {
        if (1..=64).contains(&text.len()) && text.bytes().all(is_name_byte) {
            Ok(text.to_owned())
        } else {
            Err("want 1 to 64 of the characters A-Z a-z 0-9 _ -".to_owned())
        }
    })?;
    Ok(given.unwrap_or_else(|| {
        let host = env
            .var("HOSTNAME")
            .ok()
            .flatten()
            .or_else(|| std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).ok())
            .unwrap_or_default();
        let host: String = host
            .trim()
            .chars()
            .take(48)
            .map(|c| if u8::try_from(c).is_ok_and(is_name_byte) { c } else { '-' })
            .collect();
        let host = if host.is_empty() { "host" } else { &host };
        format!("{host}-{}", std::process::id())
    }))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Host names, without the port: browsers tell the name by which they reached a page, and a name that
/// is not ours may be a stranger's that was made to lead here.
fn read_console(r: &mut Reader<'_>) -> Result<ConsoleSettings, Told> {
    let actions = r.read(&keys::CONSOLE_ACTIONS, switch);
    let hosts = r.list(&keys::CONSOLE_HOST, |text| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if (1..=253).contains(&text.len()) && text.bytes().all(fits) {
            Ok(text.to_ascii_lowercase())
        } else {
            Err("want a host name without scheme and port, such as router.example.com".to_owned())
        }
    });
    Ok(ConsoleSettings { actions: actions?, hosts: hosts? })
}

fn read_logging(r: &mut Reader<'_>) -> Result<Logging, Told> {
    let format = r.read(&keys::LOG_FORMAT, |text| match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("want json or text".to_owned()),
    });
    let level = r.read(&keys::LOG_LEVEL, |text| match text {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => Err("want error, warn, info, debug or trace".to_owned()),
    });
    Ok(Logging { format: format?, level: level? })
}

fn read_decide(r: &mut Reader<'_>, names: Option<&Names>) -> Result<DecideSettings, Told> {
    let connections = r.read(&keys::DECIDE_CONNECTIONS, integer(1, 8));
    let require_tenant_subject = r.read(&keys::REQUIRE_TENANT_SUBJECT, switch);
    let max_queue = r.read(&keys::MAX_QUEUE_MS, millis(1, 60_000));
    let max_request_bytes = r.read(&keys::MAX_REQUEST_BYTES, bytes(1 << 10, 64 << 20));
    let claim_wait = r.read(&keys::CLAIM_WAIT_MS, millis(1, 5_000));
    let max_stale = r.read(&keys::MAX_STALE_MS, millis(5_000, 86_400_000));
    let extra = r.list(&keys::REPLY_PREFIX, |text| {
        let reply = prefix(text.strip_suffix('.').unwrap_or(text))?;
        // A client chooses its reply subject: were one below a prefix of ours allowed, it could make
        // the router publish to the router.
        let ours = names.map(Names::prefixes).unwrap_or_default();
        match ours.iter().find(|p| p.lies_under(reply.as_str()) || reply.lies_under(p.as_str())) {
            Some(ours) => Err(format!("replies there could reach {ours}")),
            None => Ok(format!("{reply}.")),
        }
    });
    let mut reply_prefixes: Vec<String> = INBOX_PREFIXES.map(str::to_owned).into();
    reply_prefixes.extend(extra?);
    Ok(DecideSettings {
        connections: connections?,
        require_tenant_subject: require_tenant_subject?,
        max_queue: max_queue?,
        max_request_bytes: max_request_bytes?,
        claim_wait: claim_wait?,
        max_stale: max_stale?,
        reply_prefixes,
    })
}

fn read_assignments(r: &mut Reader<'_>) -> Result<AssignmentSettings, Told> {
    let deadline_factor = r.read(&keys::ASSIGNMENT_DEADLINE_FACTOR, integer(1, 100));
    let deadline_min = r.read(&keys::ASSIGNMENT_DEADLINE_MIN_MS, millis(100, 3_600_000));
    let deadline_max = r.read(&keys::ASSIGNMENT_DEADLINE_MAX_MS, millis(100, 3_600_000));
    let require_tenant = r.read(&keys::REQUIRE_TENANT_ASSIGNMENTS, switch);
    let max_tracked = r.read(&keys::MAX_TRACKED_ASSIGNMENTS, integer(1, 10_000_000));
    let retry_max_attempts = r.read(&keys::ASSIGNMENT_RETRY_MAX_ATTEMPTS, integer(0, 100));
    let retry_backoff = r.read(&keys::ASSIGNMENT_RETRY_BACKOFF_MS, millis(0, 600_000));
    let settings = AssignmentSettings {
        deadline_factor: deadline_factor?,
        deadline_min: deadline_min?,
        deadline_max: deadline_max?,
        require_tenant: require_tenant?,
        max_tracked: max_tracked?,
        retry_max_attempts: retry_max_attempts?,
        retry_backoff: retry_backoff?,
    };
    if settings.deadline_max < settings.deadline_min {
        return Err(r.fault(
            &keys::ASSIGNMENT_DEADLINE_MAX_MS,
            format!(
                "below the {} of --{}",
                settings.deadline_min.as_millis(),
                keys::ASSIGNMENT_DEADLINE_MIN_MS.flag
            ),
        ));
    }
    Ok(settings)
}

fn read_ledger(r: &mut Reader<'_>) -> Result<LedgerSettings, Told> {
    let replicas = r.read(&keys::REPLICAS, |text| match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("want 1, 3 or 5".to_owned()),
    });
    let day = Duration::from_secs(86_400);
    // Snapshots are an hour apart at most: what is older than two hours is in one.
    let max_age = r.read(&keys::LOG_MAX_AGE, span(Duration::from_secs(7_200), day * 3_650));
    let max_bytes = r.read(&keys::LOG_MAX_BYTES, bytes(1 << 20, 1 << 50));
    let usage = read_kept(r, &keys::USAGE_MAX_AGE, &keys::USAGE_MAX_BYTES);
    let events = read_kept(r, &keys::EVENTS_MAX_AGE, &keys::EVENTS_MAX_BYTES);
    let snapshot_every = r.read(&keys::SNAPSHOT_EVERY, integer(100, 100_000_000));
    let fold_version = r.optional(&keys::FOLD_VERSION, integer(1, u64::from(u32::MAX)));
    Ok(LedgerSettings {
        replicas: replicas?,
        log: Kept { max_age: max_age?, max_bytes: max_bytes? },
        usage: usage?,
        events: events?,
        snapshot_every: snapshot_every?,
        fold_version: fold_version?,
    })
}

/// The limits of a stream of events. The broker wants them older than the time in which it knows copies, five minutes.
fn read_kept(r: &mut Reader<'_>, max_age: &'static Key, max_bytes: &'static Key) -> Result<Kept, Told> {
    let age = r.read(max_age, span(Duration::from_secs(3_600), Duration::from_secs(3_650 * 86_400)));
    let bytes = r.read(max_bytes, bytes(1 << 20, 1 << 50));
    Ok(Kept { max_age: age?, max_bytes: bytes? })
}
