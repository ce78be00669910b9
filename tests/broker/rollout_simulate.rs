//! `rollout simulate`, run as a person would. It needs no broker.

use std::fmt::Write as _;
use std::path::Path;

use beamline_router::rollout_simulation::Line;
use serde_json::{Value, json};

use crate::support::{Done, bare};

const PAGE: &str = include_str!("../../docs/rollout-simulate.md");

const PLAN: &str = "\
kind: PolicyRollout
id: cb-2026
history: 1h
analysis: {exercise: no, safe: {margin: 0.05}, latency: {quantiles: []}}
phases:
- {name: canary, tenants: {count: 1}, ladder: [0, 50], bake: 1h, min: 3h, max: 2d}
final_bake: 1h
";

/// Ten requests a minute for some hours of 2026-11-01; one of a hundred fails.
fn entries(hours: u64) -> String {
    let line =
        |at: u64, kind: &str, entry: Value| json!({"at": at, "kind": kind, "entry": entry}).to_string();
    let begin = 1_793_491_200_000;
    let document = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
    let mut text = line(begin, "policy", json!({"tenant_id": "acme", "document": document})) + "\n";
    for n in 0..hours * 600 {
        let status = if n % 101 == 7 { "error" } else { "success" };
        let result = json!({
            "tenant_id": "acme", "provider_id": "a", "request_id": format!("r-{n}"),
            "assignment_id": format!("a-{n}"), "status": status, "latency_ms": 200,
        });
        writeln!(text, "{}", line(begin + n * 6_000, "result", result)).unwrap();
    }
    text
}

async fn simulate(folder: &Path, entries: &str, args: &[&str]) -> Done {
    std::fs::write(folder.join("plan.yaml"), PLAN).unwrap();
    std::fs::write(folder.join("entries.jsonl"), entries).unwrap();
    let common = ["rollout", "simulate", "-f", "plan.yaml", "entries.jsonl"];
    bare(&[&common, args].concat(), &[], folder).await
}

#[tokio::test]
async fn a_plan_of_hours_is_shown_window_by_window_and_ends_with_its_pages() {
    let folder = tempfile::tempdir().unwrap();
    let done = simulate(folder.path(), &entries(10), &["--approve", "--out", "pages"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    for expected in [
        "2026-11-01T01:00:00Z  decision 1: start (",
        "window 0: running, phase canary (1 of 1), step 1 of 2, 0 %: inconclusive; harm ",
        "decision 4: phase 1 awaits approval",
        "cb-2026: completed, seq ",
    ] {
        assert!(done.stdout.contains(expected), "{expected}: {}", done.stdout);
    }
    assert!(folder.path().join("pages/EXECUTION_LOG.md").exists());
    assert!(folder.path().join("pages/daily/2026-11-01.md").exists());

    let done = simulate(folder.path(), &entries(10), &["--json"]).await;
    assert_eq!(done.code, 13, "without --approve it waits: {done:?}");
    let lines: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(lines.len(), of("window").len() + of("decision").len() + of("end").len());
    assert_eq!(of("window")[3]["number"], 3);
    assert_eq!(of("decision")[0]["decision"]["kind"], "start");
    assert_eq!(
        (&of("end")[0]["status"]["state"], &of("end")[0]["verdict"]),
        (&json!("awaiting_approval"), &json!("pass"))
    );
}

#[tokio::test]
async fn faults_name_their_lines_and_a_rollout_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let faulty = entries(2) + "\n{\"at\":1,\"kind\":\"merge\",\"entry\":{}}\nno entry\n";
    let done = simulate(folder.path(), &faulty, &[]).await;
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    for fault in [
        "entries.jsonl: line 1203: entry: there is no kind \"merge\"",
        "entries.jsonl: line 1204: want a JSON object",
    ] {
        assert!(done.stderr.contains(fault), "{fault}: {}", done.stderr);
    }
    let year = entries(2) + "\n{\"at\":\"9999-12-31T00:00:00Z\",\"kind\":\"mark\"}\n";
    let done = simulate(folder.path(), &year, &[]).await;
    let fault = "line 1203: at: is more than 366 days after the line before";
    assert!(done.code == 2 && done.stderr.contains(fault), "{done:?}");
    let marked = format!("\u{feff}{}", entries(2).replace('\n', "\r\n"));
    assert_eq!(simulate(folder.path(), &marked, &[]).await.code, 10);
    let args = ["rollout", "simulate", "-f", "plan.yaml", "."];
    let done = bare(&args, &[], folder.path()).await;
    assert!(done.code == 2 && done.stderr.contains("is no regular file"), "{done:?}");
    for (hours, args, expected) in [
        (1, &[][..], "ends before the rollout starts"),
        (2, &["--start", "2027-01-01T00:00:00Z"][..], "ends before the rollout starts"),
        (0, &["--start", "tomorrow"][..], "want RFC 3339"),
    ] {
        let done = simulate(folder.path(), &entries(hours), args).await;
        assert_eq!(done.code, 2, "{args:?}");
        assert!(done.stderr.contains(expected), "{expected}: {}", done.stderr);
    }
}

#[test]
fn the_lines_on_the_page_can_be_read() {
    let blocks = PAGE.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert!(lines.len() >= 7, "{lines:?}");
    for line in lines {
        Line::parse(1, line).unwrap_or_else(|fault| panic!("{line}: {fault}"));
    }
}
