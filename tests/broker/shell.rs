//! The commands, run as a person or a script would, against a live worker.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Broker, Done, Stage, cli, free_port, request};

fn policy(provider: &str) -> Value {
    json!({"policy_id": "default", "providers": [{"name": provider, "weight": 100}]})
}

fn write(folder: &Path, name: &str, document: &Value) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, document.to_string()).unwrap();
    path
}

/// The one line that machines read.
fn body(done: &Done) -> Value {
    assert_eq!(done.stdout.lines().count(), 1, "{done:?}");
    serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"))
}

#[tokio::test]
async fn the_life_of_a_policy_from_a_shell() {
    let stage = Stage::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file =
        |name: &str, document: &Value| write(folder.path(), name, document).to_str().unwrap().to_owned();
    let sh = async |args: &[&str]| cli(&stage.broker, args).await;
    let (a, b) = (file("a.json", &policy("a")), file("b.json", &policy("b")));

    let done = sh(&["policy", "put", "-f", &a, "--tenant", "acme", "--json", "--actor", "me"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let first = body(&done)["revision"].as_u64().unwrap().to_string();
    let done = sh(&["policy", "put", "-f", &b, "--tenant", "acme", "--expected-revision", "0"]).await;
    assert_eq!(done.code, 4, "a conflict: {done:?}");
    assert!(done.stderr.contains("conflict"));
    let done = sh(&["policy", "put", "-f", &b, "--tenant", "acme", "--expected-revision", &first]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(stage.caller.decided(&request("acme", "r")).await["provider_id"], "b");

    let done = sh(&["policy", "get", "--tenant", "acme"]).await;
    assert_eq!(done.code, 0);
    assert_eq!(serde_json::from_str::<Value>(&done.stdout).unwrap(), policy("b"));
    let done = sh(&["policy", "get", "--tenant", "acme", "--effective", "--json"]).await;
    assert_eq!(body(&done)["effective"]["circuit_breaker"]["failure_threshold"], 5);
    let done = sh(&["policy", "get", "--tenant", "nobody"]).await;
    assert_eq!(done.code, 5, "{done:?}");

    let patch = r#"{"circuit_breaker": {"enabled": true}}"#;
    assert_eq!(sh(&["policy", "patch", "--tenant", "acme", "--patch", patch]).await.code, 0);
    let done =
        sh(&["policy", "patch", "--tenant", "acme", "--patch", r#"{"circuit_breaker": {"timeout_ms": 1}}"#])
            .await;
    assert_eq!(done.code, 1, "refused: {done:?}");
    assert!(done.stderr.contains("/circuit_breaker/timeout_ms"), "{}", done.stderr);

    let done = sh(&["policy", "list"]).await;
    assert_eq!(done.code, 0);
    let lines: Vec<_> = done.stdout.lines().collect();
    assert!(
        lines[0].starts_with("TENANT") && lines[1].starts_with("acme") && lines.len() == 2,
        "{}",
        done.stdout
    );
    let done = sh(&["policy", "history", "--tenant", "acme", "--json"]).await;
    assert_eq!(body(&done)["revisions"].as_array().unwrap().len(), 3);
    let done = sh(&["policy", "history", "--tenant", "acme"]).await;
    assert!(done.stdout.contains("me"), "who acted: {}", done.stdout);
    assert_eq!(sh(&["policy", "rollback", "--tenant", "acme", "--revision", &first]).await.code, 0);
    assert_eq!(stage.caller.decided(&request("acme", "r")).await["provider_id"], "a");
    assert_eq!(sh(&["policy", "rollback", "--tenant", "acme", "--revision", "999"]).await.code, 5);
    assert_eq!(sh(&["policy", "delete", "--tenant", "acme"]).await.code, 0);
    assert_eq!(sh(&["policy", "delete", "--tenant", "acme"]).await.code, 5);
    let done = sh(&["policy", "list", "--json"]).await;
    assert_eq!(body(&done), json!({"ok": true, "policies": []}));
}

#[tokio::test]
async fn what_people_wrote_is_shown_without_what_a_terminal_obeys() {
    // A cursor moved by a C1 control, and words that are shown in another order.
    const BAD: &str = "a\u{9b}2J\u{202e}live\u{2066}\u{200f}";
    let stage = Stage::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut document = policy("a");
    document["version"] = json!(BAD);
    let file = write(folder.path(), "a.json", &document);
    let sh = async |args: &[&str]| {
        let done = cli(&stage.broker, args).await;
        assert_eq!(done.code, 0, "{done:?}");
        let shown = format!("{}{}", done.stdout, done.stderr);
        assert!(!shown.contains(|c: char| BAD.contains(c) && !c.is_ascii()), "{args:?}: {shown:?}");
        done
    };
    let put = ["policy", "put", "--tenant", "acme", "-f", file.to_str().unwrap()];
    sh(&[&put[..], &["--actor", BAD, "--reason", BAD]].concat()).await;
    let of = ["--tenant", "acme"];
    let done = sh(&[&["policy", "get"][..], &of].concat()).await;
    assert_eq!(serde_json::from_str::<Value>(&done.stdout).unwrap(), document);
    let done = sh(&[&["policy", "get", "--json"][..], &of].concat()).await;
    assert_eq!(body(&done)["policy"], document);
    let done = sh(&[&["policy", "history", "--json"][..], &of].concat()).await;
    let first = &body(&done)["revisions"][0];
    assert_eq!((&first["actor"], &first["reason"]), (&json!(BAD), &json!(BAD)));
    let done = sh(&[&["policy", "history"][..], &of].concat()).await;
    assert!(done.stdout.contains("a\u{fffd}2J\u{fffd}live"), "{}", done.stdout);
    sh(&["policy", "list"]).await;
}

#[tokio::test]
async fn a_folder_is_validated_and_applied_and_applied_again_without_a_change() {
    let stage = Stage::start().await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "acme/default.json", &policy("a"));
    write(folder.path(), "other/default.json", &policy("b"));
    let path = folder.path().to_str().unwrap();
    let sh = async |args: &[&str]| cli(&stage.broker, args).await;
    assert_eq!(sh(&["policy", "validate", "-f", path]).await.code, 0);
    let outcomes = |done: &Done| {
        let files = body(done)["files"].as_array().unwrap().clone();
        files.iter().map(|f| f["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for outcome in ["created", "unchanged"] {
        let done = sh(&["policy", "apply", "-f", path, "--json"]).await;
        assert_eq!((done.code, outcomes(&done)), (0, vec![outcome.to_owned(); 2]), "{done:?}");
    }
    write(folder.path(), "other/default.json", &policy("c"));
    let done = sh(&["policy", "apply", "-f", path, "--json"]).await;
    assert_eq!(outcomes(&done), ["unchanged", "updated"]);
    assert_eq!(stage.caller.decided(&request("other", "r")).await["provider_id"], "c");

    write(folder.path(), "bad/default.json", &json!({"policy_id": "default", "providers": []}));
    let done = sh(&["policy", "validate", "-f", path]).await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stdout.contains("/providers"), "{}", done.stdout);
    let done = sh(&["policy", "apply", "-f", path, "--json"]).await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(outcomes(&done).contains(&"failed".to_owned()));
    assert_eq!(sh(&["policy", "apply", "-f", "/no/such/file"]).await.code, 2);
    assert_eq!(sh(&["policy", "put", "-f", path]).await.code, 2, "which file, whose tenant");
}

#[tokio::test]
async fn breakers_and_flags_from_a_shell() {
    let stage = Stage::start().await;
    let mut document = policy("a");
    document["circuit_breaker"] = json!({"enabled": true, "failure_threshold": 2, "timeout_ms": 60000});
    stage.caller.put_policy("acme", &document).await;
    stage.fail("acme", "a", 2).await;
    let sh = async |args: &[&str]| cli(&stage.broker, args).await;
    let of = ["--tenant", "acme", "--provider", "a"];
    let with = |words: &[&'static str]| [words, &of].concat();

    let done = sh(&["breaker", "list", "--state", "open"]).await;
    assert_eq!(done.code, 0);
    let lines: Vec<_> = done.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("acme") && lines[1].contains("open"), "{}", done.stdout);
    let done = sh(&with(&["breaker", "get", "--json"])).await;
    assert_eq!(body(&done)["breaker"]["state"], "open");
    let done = sh(&["breaker", "get", "--tenant", "acme", "--provider", "nobody"]).await;
    assert_eq!(done.code, 5, "{done:?}");
    assert_eq!(sh(&with(&["breaker", "reset"])).await.code, 0);
    stage.state_is("acme", "a", "closed").await;
    assert_eq!(sh(&with(&["breaker", "force", "open", "--ttl", "10m"])).await.code, 0);
    stage.state_is("acme", "a", "open").await;
    assert_eq!(sh(&with(&["breaker", "force", "auto"])).await.code, 0);

    assert_eq!(sh(&["flag", "set", "off"]).await.code, 2, "for whom?");
    assert_eq!(sh(&["flag", "set", "off", "--global"]).await.code, 0);
    assert_eq!(sh(&["flag", "set", "off", "--tenant", "acme"]).await.code, 0);
    let done = sh(&["flag", "get"]).await;
    assert_eq!(done.code, 0);
    assert_eq!(done.stdout.lines().filter(|l| l.contains("off")).count(), 2, "{}", done.stdout);
    assert_eq!(sh(&["flag", "set", "on", "--global"]).await.code, 0);
    let done = sh(&["flag", "get", "--tenant", "acme", "--json"]).await;
    assert_eq!(body(&done)["flags"][0]["circuit_breaker_enabled"], false);
}

#[tokio::test]
async fn silence_has_an_exit_code_of_its_own() {
    let nowhere = Broker::prepare(free_port(), "");
    let done = cli(&nowhere, &["policy", "list", "--timeout", "1s"]).await;
    assert_eq!(done.code, 3, "no broker: {done:?}");
    let empty = Broker::start().await;
    let done = cli(&empty, &["policy", "list", "--timeout", "1s"]).await;
    assert_eq!(done.code, 3, "no router: {done:?}");
    assert!(done.stdout.is_empty() && !done.stderr.is_empty());
    for bad in
        [&["policy", "list", "--timeout", "never"][..], &["policy", "lst"], &["breaker", "get"], &["x"]]
    {
        assert_eq!(cli(&empty, bad).await.code, 2, "{bad:?}");
    }
    for command in [&["--help"][..], &["policy", "--help"], &["policy", "put", "--help"], &["--version"]] {
        let done = cli(&empty, command).await;
        assert_eq!(done.code, 0, "{command:?}");
        assert!(!done.stdout.is_empty());
    }
    let done = cli(&empty, &["policy", "put", "--help"]).await;
    assert!(
        done.stdout.contains("Examples:") && done.stdout.contains("beamline-router policy put"),
        "{}",
        done.stdout
    );
}
