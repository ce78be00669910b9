//! What the settings promise, with a map as the environment.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};

use super::*;

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flags(line: &[&str]) -> ServeArgs {
    let command = ServeArgs::augment_args(Command::new("serve"));
    let matches = command.try_get_matches_from([&["serve"], line].concat()).expect("known flags");
    ServeArgs::from_arg_matches(&matches).expect("flags are text")
}

fn serve(line: &[&str], pairs: &[(&str, &str)]) -> Result<Settings, SettingsFaults> {
    Settings::resolve(&flags(line), &env(pairs))
}

fn faulty(line: &[&str], pairs: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let faults = serve(line, pairs).expect_err("a fault").0;
    faults.into_iter().map(|fault| (fault.flag, fault.to_string())).collect()
}

#[test]
fn nothing_given_gives_the_defaults_of_the_contract() {
    let settings = serve(&[], &[]).expect("defaults are sound");
    assert_eq!(settings.nats.servers[0].as_str(), "nats://127.0.0.1:4222");
    assert_eq!(settings.nats.auth, Auth::Anonymous);
    assert_eq!(settings.http_addr.to_string(), "127.0.0.1:9464");
    assert_eq!(settings.logging, Logging { format: LogFormat::Json, level: LogLevel::Info });
    assert_eq!(settings.names.decide, "beamline.router.v1.decide");
    assert_eq!(settings.decide.claim_wait, Duration::from_millis(50));
    assert_eq!(settings.decide.max_queue, Duration::from_secs(1));
    assert_eq!(settings.decide.max_request_bytes, 64 << 10);
    assert_eq!(settings.decide.reply_prefixes, ["_INBOX.", "_R_."]);
    assert!(!settings.decide.require_tenant_subject);
    assert_eq!(
        settings.assignments,
        AssignmentSettings {
            deadline_factor: 5,
            deadline_min: Duration::from_secs(5),
            deadline_max: Duration::from_secs(60),
            require_tenant: false,
            max_tracked: 100_000,
            retry_max_attempts: 2,
            retry_backoff: Duration::from_millis(200),
        }
    );
    assert_eq!(
        settings.ledger,
        LedgerSettings {
            replicas: 1,
            log: Kept { max_age: Duration::from_secs(604_800), max_bytes: 4 << 30 },
            usage: Kept { max_age: Duration::from_secs(604_800), max_bytes: 512 << 20 },
            events: Kept { max_age: Duration::from_secs(604_800), max_bytes: 512 << 20 },
            snapshot_every: 100_000,
            fold_version: None,
        }
    );
    assert_eq!(settings.usage_min_retention, Duration::from_secs(86_400));
    assert!(settings.usage_metering && settings.circuit_breaker_enabled);
    assert!(settings.worker_name.ends_with(&format!("-{}", std::process::id())));
}

#[test]
fn the_console_only_shows_unless_told_otherwise() {
    assert_eq!(serve(&[], &[]).expect("sound").console, ConsoleSettings::default());
    let vars = [("BEAMLINE_CONSOLE_HOST", "Router.example.com,router")];
    let console = serve(&["--console-actions"], &vars).expect("sound").console;
    assert_eq!((console.actions, console.hosts), (true, vec!["router.example.com".into(), "router".into()]));
    assert_eq!(faulty(&["--console-host", "http://x"], &[])[0].0, "console-host");
    assert_eq!(faulty(&["--console-host", "x:9464"], &[])[0].0, "console-host");
}

#[test]
fn a_flag_outranks_its_variable_and_an_empty_variable_is_none() {
    let vars = [("BEAMLINE_CLAIM_WAIT_MS", "70"), ("BEAMLINE_MAX_QUEUE_MS", "300"), ("NATS_CREDS", "")];
    let settings = serve(&["--claim-wait-ms", "60"], &vars).expect("sound");
    assert_eq!(settings.decide.claim_wait, Duration::from_millis(60));
    assert_eq!(settings.decide.max_queue, Duration::from_millis(300));
    assert_eq!(settings.nats.auth, Auth::Anonymous);
}

#[test]
fn switches_are_read_in_the_words_that_people_use() {
    assert!(serve(&["--require-tenant-subject"], &[]).expect("sound").decide.require_tenant_subject);
    let off =
        serve(&["--usage-metering=off"], &[("ROUTER_CIRCUIT_BREAKER_ENABLED", "false")]).expect("sound");
    assert!(!off.usage_metering && !off.circuit_breaker_enabled);
}

#[test]
fn all_faults_are_told_at_once_each_with_flag_and_variable() {
    let faults = faulty(
        &["--claim-wait-ms", "0", "--log-format", "xml", "--exec-prefix", "caf.*"],
        &[("BEAMLINE_REPLICAS", "2"), ("NATS_PASSWORD", "hunter2"), ("NATS_CERT", "/nowhere/cert.pem")],
    );
    let named: Vec<_> = faults.iter().map(|(flag, _)| *flag).collect();
    assert_eq!(
        named,
        ["nats-cert", "nats-password", "exec-prefix", "log-format", "claim-wait-ms", "replicas"]
    );
    let (_, text) = &faults[4];
    assert_eq!(text, "--claim-wait-ms (BEAMLINE_CLAIM_WAIT_MS): \"0\": want a whole number from 1 to 5000");
}

#[test]
fn usage_is_wanted_for_no_longer_than_its_stream_keeps_it() {
    let wanted = |args: &[&str]| serve(args, &[]).expect("sound").usage_min_retention.as_secs();
    assert_eq!(wanted(&["--usage-max-age", "12h"]), 12 * 3_600);
    assert_eq!(wanted(&["--usage-max-age", "12h", "--usage-min-retention", "3h"]), 3 * 3_600);
}

#[test]
fn secrets_are_shown_nowhere() {
    let vars = [("NATS_URL", "nats://me:hunter2@a:4222,nats://b"), ("BEAMLINE_WORKER_NAME", "w1")];
    let settings = serve(&[], &vars).expect("sound");
    assert!(!format!("{settings:?}").contains("hunter2"));
    match &settings.nats.auth {
        Auth::User { name, password } => assert_eq!((name.as_str(), password.expose()), ("me", "hunter2")),
        other => panic!("{other:?}"),
    }
    let servers: Vec<_> = settings.nats.servers.iter().map(ServerUrl::as_str).collect();
    assert_eq!(servers, ["nats://a:4222", "nats://b:4222"]);

    for (_, text) in faulty(&["--nats-url", "http://me:hunter2@a"], &[("NATS_TOKEN", "hunter2")]) {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn urls_are_checked_and_brought_into_one_form() {
    for (given, want) in [
        ("localhost", "nats://localhost:4222"),
        ("tls://nats.example.com:443/", "tls://nats.example.com:443"),
        ("nats://[::1]", "nats://[::1]:4222"),
        ("nats://[::1]:5222", "nats://[::1]:5222"),
    ] {
        let settings = serve(&["--nats-url", given], &[]).expect("sound");
        assert_eq!(settings.nats.servers[0].as_str(), want);
    }
    for given in
        ["", ",", "ws://a", "nats://", "nats://a:0", "nats://a:70000", "nats://a/b", "nats://[x]", "a b"]
    {
        assert_eq!(faulty(&["--nats-url", given], &[])[0].0, "nats-url", "{given}");
    }
}

#[test]
fn a_token_and_escapes_in_a_url_are_understood() {
    let token = serve(&["--nats-url", "nats://s%40crat@a"], &[]).expect("sound");
    assert_eq!(token.nats.auth, Auth::Token(Secret::new("s@crat".to_owned())));
    assert_eq!(faulty(&["--nats-url", "nats://u:%zz@a"], &[])[0].0, "nats-url");
    assert_eq!(faulty(&["--nats-url", "nats://u:a@a,nats://u:b@b"], &[])[0].0, "nats-url");
}

#[test]
fn two_identities_are_a_fault() {
    let faults = faulty(&["--nats-user", "me"], &[("NATS_TOKEN", "t")]);
    assert_eq!(faults.len(), 1);
    assert_eq!(
        faults[0].1,
        "--nats-token (NATS_TOKEN): says who we are a second time, after --nats-user (NATS_USER)"
    );
}

#[test]
fn prefixes_keep_out_of_each_others_way() {
    assert_eq!(faulty(&["--router-prefix", "caf.exec.assign.x"], &[])[0].0, "router-prefix");
    assert_eq!(faulty(&["--usage-prefix", "beamline.router.v1.events"], &[])[0].0, "usage-prefix");
    assert_eq!(faulty(&["--exec-prefix", "beamline.router.control"], &[])[0].0, "exec-prefix");
    assert!(serve(&["--router-prefix", "caf", "--usage-prefix", "caf"], &[]).is_ok());
}

#[test]
fn replies_may_not_be_sent_to_the_router_itself() {
    let settings = serve(&["--reply-prefix", "inbox.acme", "--reply-prefix", "rpc."], &[]).expect("sound");
    assert_eq!(settings.decide.reply_prefixes, ["_INBOX.", "_R_.", "inbox.acme.", "rpc."]);
    let listed = serve(&[], &[("BEAMLINE_REPLY_PREFIX", "a, b")]).expect("sound");
    assert_eq!(listed.decide.reply_prefixes.len(), 4);
    for text in ["beamline", "beamline.router.control", "caf.exec", "beamline.usage", ">"] {
        assert_eq!(faulty(&["--reply-prefix", text], &[])[0].0, "reply-prefix", "{text}");
    }
}

#[test]
fn the_longest_deadline_is_not_below_the_shortest() {
    let faults = faulty(&["--assignment-deadline-min-ms", "70000"], &[]);
    assert_eq!(faults[0].0, "assignment-deadline-max-ms");
}

#[test]
fn every_variable_is_the_twin_of_its_flag() {
    for key in all_keys() {
        let twin = key.flag.to_ascii_uppercase().replace('-', "_");
        let own = twin.starts_with("NATS_") && key.env == twin;
        let named = key.env == "ROUTER_CIRCUIT_BREAKER_ENABLED" && key.flag == "circuit-breaker-enabled";
        assert!(own || named || key.env == format!("BEAMLINE_{twin}"), "{key:?}");
    }
}

#[test]
fn the_control_verbs_need_only_their_own_settings() {
    let vars = env(&[("BEAMLINE_REPLICAS", "2"), ("BEAMLINE_ROUTER_PREFIX", "eu.router")]);
    let settings = ClientSettings::resolve(&ClientArgs::default(), &vars).expect("sound");
    assert_eq!(settings.names.control("flag.get"), "eu.router.control.v1.flag.get");
    assert_eq!(settings.timeout, Duration::from_secs(10));
}
