//! `rollout`, run as a person or a script would. What answers is played, so that each answer can be had.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Broker, Caller, Done, Terminal, cli};

const CONTROL: &str = "beamline.router.control.v1.";

/// A router that answers from a list, the last one again and again.
struct Played {
    broker: Broker,
    answers: Arc<Mutex<BTreeMap<String, VecDeque<Value>>>>,
    /// Verbs and bodies, in the order in which they came.
    requests: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Played {
    async fn start() -> Self {
        let broker = Broker::start().await;
        let client = Caller::connect(&broker).await.client;
        let mut asked = client.subscribe(format!("{CONTROL}rollout.*")).await.unwrap();
        client.flush().await.unwrap();
        let played = Self { broker, answers: Arc::default(), requests: Arc::default() };
        let (answers, requests) = (Arc::clone(&played.answers), Arc::clone(&played.requests));
        tokio::spawn(async move {
            while let Some(message) = asked.next().await {
                let verb = message.subject.strip_prefix(&format!("{CONTROL}rollout.")).unwrap().to_owned();
                let body = serde_json::from_slice(&message.payload).unwrap();
                let answer = {
                    let mut answers = answers.lock().unwrap();
                    let answers = answers.get_mut(&verb);
                    let next =
                        answers.and_then(|a| if a.len() > 1 { a.pop_front() } else { a.front().cloned() });
                    next.unwrap_or_else(|| refused("not_found", json!({})))
                };
                requests.lock().unwrap().push((verb, body));
                let to = message.reply.unwrap();
                client.publish(to, answer.to_string().into()).await.unwrap();
            }
        });
        played
    }

    fn answers(&self, verb: &str, answers: impl IntoIterator<Item = Value>) {
        self.answers.lock().unwrap().insert(verb.to_owned(), answers.into_iter().collect());
    }

    /// What was asked since the last call.
    fn requests(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    async fn sh(&self, args: &[&str]) -> Done {
        cli(&self.broker, &[&["rollout"], args].concat()).await
    }
}

fn refused(code: &str, details: Value) -> Value {
    json!({"ok": false, "error": {"code": code, "message": "not so", "details": details}})
}

fn changed(state: &str, seq: u64) -> Value {
    json!({"ok": true, "rollout": "cb-2026", "seq": seq, "state": state, "percent": 0})
}

fn status(state: &str, seq: u64) -> Value {
    json!({
        "ok": true, "rollout": "cb-2026", "seq": seq, "state": state, "reasons": [], "phase": null, "step": null,
        "percent": 0, "tenants": [], "already_enforced": [], "criteria": [], "qualified_ms": 0, "min_ms": 0,
        "max_ms": 0, "next": {"when": null, "needs": []}, "pending": null, "issues": [], "graduating": false,
        "evidence": {"harm_e": 0, "safe_e": 0, "units": 0, "needed": 0},
    })
}

fn plan() -> Value {
    let phase = json!({
        "name": "canary", "tenants": {"count": 1}, "ladder": [10, 50], "bake": "12h", "min": "3d", "max": "7d",
    });
    json!({"kind": "PolicyRollout", "id": "cb-2026", "phases": [phase]})
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_plan_in_yaml_is_put_and_that_plan_is_started() {
    let router = Played::start().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = "\
kind: PolicyRollout
id: cb-2026
phases:
- {name: canary, tenants: {count: 1}, ladder: [10, 50], bake: 12h, min: 3d, max: 7d}
";
    let file = write(folder.path(), "plan.yaml", yaml);
    router.answers("put", [changed("draft", 3)]);
    router.answers("start", [changed("preparing", 4)]);
    let done = router.sh(&["start", "-f", &file, "--reason", "ticket 42", "--actor", "me", "--json"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let answers: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers, [changed("draft", 3), changed("preparing", 4)]);
    assert_eq!(
        router.requests(),
        [
            ("put".to_owned(), json!({"plan": plan(), "actor": "me", "reason": "ticket 42"})),
            (
                "start".to_owned(),
                json!({"rollout": "cb-2026", "expected_seq": 3, "actor": "me", "reason": "ticket 42"})
            ),
        ]
    );
    // A plan with faults is not started.
    let faults = json!({"faults": [{"path": "/phases/0/max", "message": "must not be below min"}]});
    router.answers("put", [refused("invalid_request", faults)]);
    let done = router.sh(&["start", "-f", &file]).await;
    assert_eq!((done.code, router.requests().len()), (1, 1), "{done:?}");
    assert!(done.stderr.contains(&format!("{file}: /phases/0/max: must not be below min")), "{done:?}");
    // A file that is no YAML reaches no router.
    let broken = write(folder.path(), "broken.yaml", "id: a\nid: b\n");
    let done = router.sh(&["put", "-f", &broken]).await;
    assert_eq!((done.code, router.requests().len()), (2, 0), "{done:?}");
    assert!(
        done.stderr.contains("broken.yaml: not YAML:") && done.stderr.contains("line 2, column 1"),
        "{done:?}"
    );
}

#[tokio::test]
async fn each_verb_asks_for_what_its_flags_say() {
    let router = Played::start().await;
    let of = |fields: Value| {
        let mut body = json!({"rollout": "cb"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    let cases: [(&[&str], &str, Value); 12] = [
        (&["start", "cb", "--expected-seq", "1"], "start", of(json!({"expected_seq": 1}))),
        (&["approve", "cb", "--reason", "fine"], "approve", of(json!({"reason": "fine"}))),
        (
            &["promote", "cb", "--override", "exercise", "--reason", "drilled"],
            "promote",
            of(json!({"override": "exercise", "reason": "drilled"})),
        ),
        (&["extend", "cb", "--by", "1d12h"], "extend", of(json!({"by": "36h"}))),
        (&["pause", "cb"], "pause", of(json!({}))),
        (&["resume", "cb", "--expected-seq", "7"], "resume", of(json!({"expected_seq": 7}))),
        (&["rollback", "cb"], "rollback", of(json!({}))),
        (&["rollback", "cb", "--tenant", "acme"], "rollback", of(json!({"tenant_id": "acme"}))),
        (
            &["drill", "cb", "--tenant", "acme", "--provider", "openai", "--for", "30s"],
            "drill",
            of(json!({"tenant_id": "acme", "provider_id": "openai", "for": "30s"})),
        ),
        (&["issue", "cb", "open", "slow"], "issue", of(json!({"change": "open", "text": "slow"}))),
        (&["graduate", "cb"], "graduate", of(json!({}))),
        (&["delete", "cb"], "delete", of(json!({}))),
    ];
    for (args, verb, body) in cases {
        router.answers(verb, [changed("running", 8)]);
        let done = router.sh(args).await;
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (0, "cb-2026 is running, at 0 %, seq 8\n"),
            "{args:?}: {done:?}"
        );
        assert_eq!(router.requests(), [(verb.to_owned(), body)], "{args:?}");
    }
    router.answers("abort", [refused("conflict", json!({"seq": 9}))]);
    assert_eq!(router.sh(&["abort", "cb", "--expected-seq", "8"]).await.code, 4);
    router.answers("abort", [refused("invalid_request", json!({"refusal": "wrong_state"}))]);
    assert_eq!(router.sh(&["abort", "cb"]).await.code, 1);
    assert_eq!(router.sh(&["get", "nobody"]).await.code, 5);
}

#[tokio::test]
async fn a_plan_that_cannot_pass_is_told_by_the_exit_code() {
    let router = Played::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "plan.json", &plan().to_string());
    let phase = |verdict: &str| json!({"phase": "canary", "tenants": 1, "units_needed": 18_400, "needed_ms": 172_800_000, "milli_per_minute": 9_000, "verdict": verdict});
    let lint = |verdict: &str| json!({"ok": true, "rollout": "cb", "plan": {}, "warnings": ["w"], "phases": [phase(verdict)]});
    router.answers("lint", [lint("fits"), lint("too_little_traffic")]);
    let done = router.sh(&["lint", "-f", &file]).await;
    assert!(
        done.code == 0 && done.stdout.contains("18,400") && done.stderr.contains("warning: w"),
        "{done:?}"
    );
    let done = router.sh(&["lint", "-f", &file]).await;
    assert!(done.code == 1 && done.stderr.contains("too few requests"), "{done:?}");
    let phases = json!([{"phase": "canary", "tenants": ["acme"]}]);
    let unmet = json!([{"phase": "half", "why": "nobody is left"}]);
    router.answers(
        "plan",
        [
            json!({"ok": true, "phases": phases, "unmet": []}),
            json!({"ok": true, "phases": phases, "unmet": unmet}),
        ],
    );
    let done = router.sh(&["plan", "-f", &file]).await;
    assert!(done.code == 0 && done.stdout.contains("acme"), "{done:?}");
    let done = router.sh(&["plan", "-f", &file]).await;
    assert!(
        done.code == 1 && done.stderr.contains("phase half does not find its tenants: nobody is left"),
        "{done:?}"
    );
}

#[tokio::test]
async fn a_script_waits_for_the_end_of_a_rollout() {
    let router = Played::start().await;
    router.answers(
        "get",
        [json!({"ok": true, "rollout": "cb-2026", "seq": 1, "state": "draft", "plan": plan()})],
    );
    for (state, code) in
        [("completed", 0), ("running", 10), ("paused", 10), ("aborted", 11), ("awaiting_approval", 13)]
    {
        router.answers("status", [status(state, 1)]);
        let done = router.sh(&["status", "cb-2026"]).await;
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.stdout.starts_with(&format!("cb-2026: {state}, seq 1\n")), "{done:?}");
    }
    // What is the same is printed once; a router that is away for a while ends nothing.
    let course = || {
        let away = refused("unavailable", json!({}));
        [status("running", 1), status("running", 1), away, status("running", 2), status("rolled_back", 3)]
    };
    router.answers("status", course());
    let done = router.sh(&["status", "cb-2026", "-w"]).await;
    assert_eq!(done.code, 11, "{done:?}");
    let headings: Vec<_> = done.stdout.lines().filter(|line| line.starts_with("cb-2026")).collect();
    assert_eq!(
        headings,
        ["cb-2026: running, seq 1", "cb-2026: running, seq 2", "cb-2026: rolled_back, seq 3"]
    );
    assert!(done.stderr.contains("unavailable"), "{done:?}");

    router.requests();
    router.answers("start", [changed("preparing", 1)]);
    router.answers("status", course());
    let done = router.sh(&["start", "cb-2026", "-w", "--json"]).await;
    assert_eq!(done.code, 11, "{done:?}");
    let seqs: Vec<Value> =
        done.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].clone()).collect();
    assert_eq!(seqs, [1, 1, 2, 3], "the start, and each change");
    // One that is gone is waited for no more.
    router.answers("status", [status("running", 1), refused("not_found", json!({}))]);
    assert_eq!(router.sh(&["status", "cb-2026", "-w"]).await.code, 5);
}

#[tokio::test]
async fn a_person_watches_until_it_ends_or_a_key_is_pressed() {
    let router = Played::start().await;
    router.answers(
        "get",
        [json!({"ok": true, "rollout": "cb-2026", "seq": 1, "state": "running", "plan": plan()})],
    );
    let running = || {
        let mut running = status("running", 5);
        let fields = json!({"phase": "canary", "step": 1, "percent": 50, "min_ms": 1_000, "max_ms": 9_000});
        running.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        running
    };
    router.answers("status", [running()]);
    let watch = ["rollout", "status", "cb-2026", "-w"];
    let mut screen = Terminal::run(&router.broker, (24, 80), &watch, &[]);
    screen.says("> canary").await;
    screen.says("+10   [50]").await;
    screen.says("q quit").await;
    router.answers("status", [refused("unavailable", json!({}))]);
    screen.says("what is shown is").await;
    assert!(screen.screen().contains("> canary"), "what was seen stays: {}", screen.screen());
    router.answers("status", [running()]);
    screen.says("q quit").await;
    screen.press("q");
    assert_eq!(screen.ends().await, 10);
    assert!(screen.screen().contains("cb-2026: running, phase canary (1 of 1)"), "{}", screen.screen());

    let mut screen = Terminal::run(&router.broker, (24, 80), &watch, &[("NO_COLOR", "1")]);
    screen.says("> canary").await;
    router.answers("status", [status("completed", 9)]);
    assert_eq!(screen.ends().await, 0);
    assert!(!screen.bytes().contains("\u{1b}[38;5;"), "no colour where there should be none");
    let mut screen = Terminal::run(&router.broker, (24, 80), &["rollout", "status", "cb-2026"], &[]);
    assert_eq!(screen.ends().await, 0);
    assert!(screen.screen().contains("+ final bake"), "{}", screen.screen());
}
