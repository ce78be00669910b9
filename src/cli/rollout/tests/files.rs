use std::path::Path;

use super::*;
use crate::cli::rollout::plan_file;

fn parsed(name: &str, text: &str) -> Result<Value, String> {
    plan_file::parse(Path::new(name), text).map_err(|fault| fault.to_string())
}

const PLAN: &str = "\
kind: PolicyRollout
id: cb-2026                    # a comment
circuit_breaker: {failure_threshold: 5, timeout_ms: 30000}
cohort: {seed: 1, include: [\"*\"], exclude: []}
facts:
  acme: {critical: false, owner: team-a@example.com, notified: 2026-11-20}
analysis:
  exercise: no
  coverage: 0.95
  safe: {margin: auto}
phases:
- {name: canary, tenants: {count: 1}, ladder: [0, 10, 50], bake: 12h, min: 3d, max: 7d}
";

#[test]
fn yaml_becomes_the_document_that_json_would_be() {
    let expected = json!({
        "kind": "PolicyRollout", "id": "cb-2026",
        "circuit_breaker": {"failure_threshold": 5, "timeout_ms": 30000},
        "cohort": {"seed": 1, "include": ["*"], "exclude": []},
        "facts": {"acme": {"critical": false, "owner": "team-a@example.com", "notified": "2026-11-20"}},
        "analysis": {"exercise": "no", "coverage": 0.95, "safe": {"margin": "auto"}},
        "phases": [
            {"name": "canary", "tenants": {"count": 1}, "ladder": [0, 10, 50], "bake": "12h", "min": "3d", "max": "7d"}
        ],
    });
    for name in ["plan.yaml", "plan.yml", "-"] {
        assert_eq!(parsed(name, PLAN).as_ref(), Ok(&expected), "{name}");
    }
    assert!(plan::parse(&expected).is_ok());
    for name in ["plan.json", "-"] {
        assert_eq!(parsed(name, &expected.to_string()).as_ref(), Ok(&expected), "{name}");
    }
}

#[test]
fn what_yaml_readers_understand_differently_stays_text() {
    let text = "[yes, on, No, true, 2026-11-20, 007, 1_000, 12:30, 1e3, ~, 'x']";
    let read = json!(["yes", "on", "No", true, "2026-11-20", "007", "1_000", "12:30", 1000.0, null, "x"]);
    assert_eq!(parsed("p.yaml", text), Ok(read));
}

#[test]
fn a_fault_names_the_file_the_line_and_the_column() {
    for (text, line, column, what) in [
        ("id: a\nphases:\n- {name: b\nx: y\n", 3, 3, "unclosed"),
        ("id: a\nfacts: {}\nid: b\n", 3, 1, "duplicate mapping key `id`"),
        ("id: a\nhistory: .inf\n", 2, 10, "not a finite number"),
        ("id: !thing b\n", 1, 12, "unsupported tag `!thing`"),
        ("id: a\n---\nid: b\n", 3, 1, "only single YAML document"),
        ("id: a\n\tx: b\n", 1, 5, "a tab"),
        ("a: *nobody\n", 1, 4, "unknown value"),
    ] {
        let fault = parsed("p.yaml", text).expect_err(text);
        let place = format!("line {line}, column {column}");
        assert!(fault.starts_with("p.yaml: not YAML: ") && fault.contains(&place), "{text}: {fault}");
        assert!(fault.contains(what), "{text}: {fault}");
        assert!(!fault.contains('\n'), "{fault}");
    }
    let fault = parsed("p.json", "{\"id\": \"a\",\n \"id\" 1}").expect_err("a fault");
    assert!(fault.starts_with("p.json: not JSON: ") && fault.contains("line 2 column"), "{fault}");
    let fault = parsed("p.json", r#"{"id": "a", "id": "b"}"#).expect_err("a fault");
    assert!(fault.contains("/id: occurs more than once"), "{fault}");
}

#[test]
fn aliases_repeat_no_more_than_a_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..8 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        text.push_str(&format!("a{n}: &a{n} [{}]\n", before.trim_end_matches(", ")));
    }
    let fault = parsed("p.yaml", &text).expect_err("too many");
    assert!(fault.contains("too large or too complex"), "{fault}");
}

#[test]
fn a_file_that_is_too_long_or_not_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.yaml");
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    let fault = plan_file::read(&path).expect_err("too long");
    assert!(fault.message.contains("longer than 1048576 bytes"), "{fault}");
    assert!(plan_file::read(&dir.path().join("nowhere.yaml")).expect_err("not there").unreadable);
    std::fs::write(&path, PLAN).unwrap();
    assert_eq!(plan_file::read(&path).unwrap()["id"], "cb-2026");
}
