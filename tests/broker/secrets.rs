//! Secrets stay where they are: credentials of recognisable value are given in every way there is, right
//! and wrong, and all that the program says is searched for them.

use std::path::Path;

use serde_json::json;

use crate::otlp::Collector;
use crate::support::{Broker, Caller, Launch, SOON, Terminal, Worker, bare, eventually, free_port};
use crate::traffic::policy;

/// In every secret, and in nothing else.
const MARK: &str = "s3cr3t";

const PAGES: [&str; 5] = ["/metrics", "/readyz", "/healthz", "/", "/api/v1/breakers"];

#[track_caller]
fn holds_none(what: &str, text: &str) {
    let place = std::panic::Location::caller();
    let line = text.lines().find(|line| line.to_lowercase().contains(MARK));
    assert!(line.is_none(), "{place}: {what}: {line:?}");
}

/// All that a worker lets be seen.
async fn told(worker: &Worker) -> String {
    let mut told = format!("{}\n{}\n", worker.stdout(), worker.stderr());
    for path in PAGES {
        if let Some(page) = worker.get(path).await {
            told.push_str(&format!("{}\n{}\n", page.head, page.body));
        }
    }
    told
}

fn loud(launch: Launch) -> Launch {
    launch.flag("--log-level", "trace")
}

#[tokio::test]
async fn who_is_let_in_tells_nobody_how() {
    let collector = Collector::start().await;
    let endpoint = format!("http://127.0.0.1:{}", collector.http);
    let user = Broker::with_config("authorization { user: u, password: \"s3cr3t-pw\" }").await;
    let token = Broker::with_config("authorization { token: \"s3cr3t-token\" }").await;
    let in_url = user.url().replace("nats://", "nats://u:s3cr3t-pw@");
    let in_url_token = token.url().replace("nats://", "nats://s3cr3t-token@");
    type Way<'a> = Box<dyn Fn(Launch) -> Launch + 'a>;
    let ways: [(&str, &Broker, Way<'_>); 6] = [
        ("variables", &user, Box::new(|l: Launch| l.env("NATS_USER", "u").env("NATS_PASSWORD", "s3cr3t-pw"))),
        (
            "flags",
            &user,
            Box::new(|l: Launch| l.flag("--nats-user", "u").flag("--nats-password", "s3cr3t-pw")),
        ),
        ("the URL", &user, Box::new(|l: Launch| l.env("NATS_URL", &in_url))),
        ("a token", &token, Box::new(|l: Launch| l.env("NATS_TOKEN", "s3cr3t-token"))),
        ("a token in the URL", &token, Box::new(|l: Launch| l.flag("--nats-url", &in_url_token))),
        (
            "text",
            &user,
            Box::new(|l: Launch| {
                l.env("NATS_USER", "u").env("NATS_PASSWORD", "s3cr3t-pw").flag("--log-format", "text")
            }),
        ),
    ];
    for (way, broker, settings) in ways {
        let traced = |l| {
            settings(loud(l))
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
                .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cr3t-otlp")
                .env("OTEL_BSP_SCHEDULE_DELAY", 50)
        };
        let mut worker = Worker::start(broker, traced).await;
        let options = async_nats::ConnectOptions::new();
        let options = if std::ptr::eq(broker, &token) {
            options.token("s3cr3t-token".to_owned())
        } else {
            options.user_and_password("u".to_owned(), "s3cr3t-pw".to_owned())
        };
        let caller = Caller::with(options, &broker.url()).await;
        let mut said = String::new();
        let body = policy(&["a"], json!({"enabled": true}));
        caller.put_policy("acme", &body).await;
        for subject in
            ["$SRV.INFO", "$SRV.STATS", "beamline.router.control.v1.policy.list", "beamline.router.v1.decide"]
        {
            let answer = caller.ask(subject, async_nats::HeaderMap::new(), "{}").await;
            said.push_str(&String::from_utf8_lossy(&answer.body));
            said.push_str(&format!("\n{:?}\n", answer.headers));
        }
        said.push_str(&told(&worker).await);
        assert_eq!(worker.stop().await, 0, "{way}");
        said.push_str(&worker.stdout());
        holds_none(way, &said);
        assert!(said.contains("worker_stopped"), "{way}: something was said");
    }
    eventually("spans arrive", SOON, async || collector.spans().len() >= 6).await;
    holds_none("traces", &collector.said());
    let top = Terminal::run(&user, (20, 100), &["top"], &[("NATS_URL", &in_url)]);
    top.says("breaker").await;
    holds_none("top", &top.bytes());
}

/// What is wrong, the variables and the flags that say so, and whether the worker ends with a fault: else
/// it goes on trying.
type Wrong<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], bool);

#[tokio::test]
async fn who_is_not_let_in_is_not_told_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let broker = Broker::with_config("authorization { user: u, password: \"s3cr3t-pw\" }").await;
    let url = broker.url();
    let dead = format!("127.0.0.1:{}", free_port());
    let at = |user: &str| url.replace("nats://", &format!("nats://{user}@"));
    let pem = "-----BEGIN PRIVATE KEY-----\ns3cr3tAAAAB3NzaC1yc2E\n-----END PRIVATE KEY-----\n";
    let creds = "-----BEGIN NATS USER JWT-----\ns3cr3t.jwt\n------END NATS USER JWT------\n\
                 -----BEGIN USER NKEY SEED-----\nSUS3CR3TSEED\n------END USER NKEY SEED------\n";
    let (key, creds) = (file("key.pem", pem), file("creds", creds));
    let wrong_user = at("u:s3cr3t-wrong");
    let two_users = format!("{},nats://v:s3cr3t-two@{dead}", at("u:s3cr3t-pw"));
    let no_port = format!("nats://u:s3cr3t-pw@{dead}:s3cr3t");
    let otlp_user = format!("http://u:s3cr3t-otlp@{dead}");
    let otlp = format!("http://{dead}");
    let ways: [Wrong<'_>; 17] = [
        ("a wrong password", &[("NATS_USER", "u"), ("NATS_PASSWORD", "s3cr3t-wrong")], &[], false),
        ("a wrong password in the URL", &[("NATS_URL", &wrong_user)], &[], false),
        ("a wrong token", &[("NATS_TOKEN", "s3cr3t-token")], &[], false),
        ("a password without a user", &[("NATS_PASSWORD", "s3cr3t-pw")], &[], true),
        (
            "two identities",
            &[("NATS_TOKEN", "s3cr3t-token"), ("NATS_USER", "u"), ("NATS_PASSWORD", "s3cr3t-pw")],
            &[],
            true,
        ),
        ("two users in the URL", &[("NATS_URL", &two_users)], &[], true),
        ("a URL that is none", &[("NATS_URL", &no_port)], &[], true),
        ("a URL with another scheme", &[("NATS_URL", "gopher://u:s3cr3t-pw@host")], &[], true),
        ("a seed that is none", &[("NATS_CREDS", &creds)], &[], true),
        ("a key that is none", &[("NATS_CERT", &key), ("NATS_KEY", &key)], &[], true),
        ("an authority that is none", &[("NATS_CA", &key)], &[], true),
        ("a path that is a secret", &[("NATS_CREDS", "s3cr3t-not-a-path")], &[], true),
        (
            "OTLP headers",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &otlp),
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cr3t"),
            ],
            &[],
            false,
        ),
        (
            "OTLP headers that are none",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &otlp),
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer s3cr3t"),
            ],
            &[],
            true,
        ),
        ("a user in the OTLP endpoint", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &otlp_user)], &[], false),
        (
            "settings that are wrong",
            &[("NATS_PASSWORD", "s3cr3t-pw"), ("BEAMLINE_REPLICAS", "two")],
            &[],
            true,
        ),
        (
            "a flag twice",
            &[],
            &["--nats-user", "u", "--nats-password", "s3cr3t-a", "--nats-password", "s3cr3t-b"],
            true,
        ),
    ];
    for (way, env, args, ends) in ways {
        let launch = |l: Launch| {
            let l = args.chunks(2).fold(loud(l), |l, pair| l.flag(pair[0], pair[1]));
            env.iter().fold(l.env("OTEL_BSP_SCHEDULE_DELAY", 50), |l, (name, value)| l.env(name, value))
        };
        let mut worker = Worker::launch(&broker, launch);
        if ends {
            assert!([1, 2].contains(&worker.exit_code(SOON).await), "{way}: {}", worker.stdout());
        } else {
            // It said why it does not get on.
            eventually(way, SOON, async || {
                let said = worker.logs();
                said.iter().any(|l| l["event"] == "nats_client_error" || l["event"] == "nats_server_error")
            })
            .await;
        }
        let mut said = told(&worker).await;
        assert!(said.len() > 40, "{way}: something was said");
        if worker.runs() {
            assert_eq!(worker.stop().await, 0, "{way}");
        }
        said.push_str(&worker.stdout());
        said.push_str(&worker.stderr());
        holds_none(way, &said);
    }
}

#[tokio::test]
async fn the_command_line_repeats_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let env = [
        ("NATS_USER", "u"),
        ("NATS_PASSWORD", "s3cr3t-pw"),
        ("NATS_TOKEN", "s3cr3t-token"),
        ("NATS_URL", "nats://u:s3cr3t-url@127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cr3t"),
    ];
    let lines: [&[&str]; 18] = [
        &["--help"],
        &["serve", "--help"],
        &["top", "--help"],
        &["policy", "--help"],
        &["policy", "list", "--help"],
        &["serve"],
        &["policy", "list", "--timeout", "1s"],
        &["breaker", "list", "--nats-password", "s3cr3t-flag"],
        &["top", "--once", "--nats-token=s3cr3t-flag"],
        &["serve", "--nats-password", "s3cr3t-a", "--nats-token", "s3cr3t-b"],
        &["serve", "--nats-password", "s3cr3t-a", "--nats-password", "s3cr3t-b"],
        &["policy", "list", "--nats-url", "nats://u:s3cr3t@host:port"],
        &["top", "--nats-url", "nats://u:s3cr3t@[::1", "--once"],
        &["flag", "get", "--nats-token"],
        &["serve", "--nats-pasword=s3cr3t-typo"],
        &["serve", "--nats-pasword", "s3cr3t-typo"],
        &["serve", "--nats-key", "-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----"],
        &["serve", "--nats-creds", "SUs3cr3tSEED"],
    ];
    for line in lines {
        let done = bare(line, &env, Path::new(folder.path())).await;
        assert!(!done.stdout.is_empty() || !done.stderr.is_empty(), "{line:?}");
        holds_none(&format!("{line:?}"), &format!("{}\n{}", done.stdout, done.stderr));
    }
    // Each way of its own, with nothing else that is wrong.
    for (name, value) in env {
        for line in [&["policy", "list", "--timeout", "1s"][..], &["top", "--once", "--timeout", "1s"]] {
            let closed = [("NATS_URL", "nats://127.0.0.1:1"), (name, value)];
            let done = bare(line, &closed, Path::new(folder.path())).await;
            assert_ne!(done.code, 0, "{line:?}");
            holds_none(name, &format!("{}\n{}", done.stdout, done.stderr));
        }
    }
}
