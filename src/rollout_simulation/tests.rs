use std::convert::Infallible;

use serde_json::{Value, json};

use super::{Content, Course, Line, Report, Requests, Simulation, Surroundings, Survey, written};
use crate::domain::{RolloutId, Stamp, arm_hash, is_treated};
use crate::log::{Entry, FoldVersion, FoldVersionEntry, IdentityKey};
use crate::rollout::controller::{Criterion, HistoryWanted, Kind};
use crate::rollout::history::HistoryCount;

const HOUR_MS: u64 = 3_600_000;
/// A Sunday, 2026-11-01.
const BEGIN: u64 = 1_793_491_200_000;

/// Lines of a file.
#[derive(Clone, Debug, Default)]
struct Lines(Vec<String>, Vec<Report>);

impl Lines {
    fn add(&mut self, at: u64, kind: &str, entry: Value) {
        self.0.push(json!({"at": at, "kind": kind, "entry": entry}).to_string());
    }

    fn parsed(&self) -> Vec<Line<'_>> {
        let numbered = self.0.iter().zip(1..);
        numbered.map(|(text, number)| Line::parse(number, text).unwrap()).collect()
    }
}

impl Surroundings for Lines {
    type Error = Infallible;

    fn count(&mut self, wanted: &HistoryWanted, settle_ms: u64) -> Result<(Stamp, HistoryCount), Infallible> {
        let mut count = HistoryCount::new(settle_ms);
        for line in self.parsed() {
            if let Content::Entry(entry) = line.content
                && let Entry::Result(outcome) = *entry
                && (wanted.from..=wanted.to).contains(&line.at)
            {
                count.result(&outcome.tenant_id, outcome.request_id.as_deref(), outcome.status, line.at);
            }
        }
        Ok((wanted.from.max(Stamp(BEGIN)), count))
    }

    fn report(&mut self, report: Report) {
        self.1.push(report);
    }
}

/// A policy that says nothing of breakers, and ten requests a minute.
fn traffic(hours: u64, fails: impl Fn(u64, &str) -> bool) -> Lines {
    let mut lines = Lines::default();
    let providers = json!([{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]);
    let document = json!({"policy_id": "default", "providers": providers});
    lines.add(BEGIN, "policy", json!({"tenant_id": "acme", "document": document}));
    for n in 0..hours * 600 {
        let request_id = format!("r-{n}");
        let status = if fails(n, &request_id) { "error" } else { "success" };
        let provider = if n.is_multiple_of(2) { "a" } else { "b" };
        let result = json!({
            "tenant_id": "acme", "provider_id": provider, "request_id": request_id,
            "assignment_id": request_id, "status": status, "latency_ms": 200 + n % 40,
        });
        lines.add(BEGIN + n * 6_000, "result", result);
    }
    lines
}

/// One of a hundred fails.
fn one_percent(n: u64) -> bool {
    n % 101 == 7
}

fn is_treated_at_half(request_id: &str) -> bool {
    is_treated(arm_hash(request_id), 50)
}

fn plan() -> Value {
    json!({
        "kind": "PolicyRollout", "id": "cb", "history": "1h",
        "analysis": {"exercise": "no", "safe": {"margin": 0.05}, "latency": {"quantiles": []}},
        "phases": [{"name": "all", "tenants": {"percent": 100}, "ladder": [0, 50], "bake": "1h", "min": "3h",
            "max": "2d"}],
        "final_bake": "1h",
    })
}

fn course(lines: &Lines) -> Course {
    let mut survey = Survey::default();
    lines.parsed().iter().for_each(|line| survey.note(line));
    let start = (!survey.starts).then_some(Stamp(BEGIN + HOUR_MS));
    let rollout = RolloutId::try_new("cb").unwrap();
    Course { rollout, plan: plan(), start, approve: true, requests: survey.requests().unwrap() }
}

fn simulated(lines: &Lines) -> (Simulation<Lines>, Vec<Report>) {
    let mut simulation = Simulation::new(course(lines), lines.clone());
    for line in lines.parsed() {
        simulation.take(&line).unwrap();
    }
    let reports = std::mem::take(&mut simulation.surroundings_mut().1);
    (simulation, reports)
}

fn decided(reports: &[Report]) -> Vec<&'static str> {
    let kind = |report: &Report| match report {
        Report::Decision { decision, .. } => Some(decision.kind.as_str()),
        _ => None,
    };
    reports.iter().filter_map(kind).collect()
}

fn windows(reports: &[Report]) -> Vec<(u64, u64)> {
    let window = |report: &Report| match report {
        Report::Window { number, status, .. } => Some((*number, status.evidence.units)),
        _ => None,
    };
    reports.iter().filter_map(window).collect()
}

#[test]
fn a_plan_of_hours_is_completed_where_both_arms_are_alike() {
    let (simulation, reports) = simulated(&traffic(10, |n, _| one_percent(n)));
    let course = ["start", "step", "step", "await_approval", "final_bake", "complete"];
    assert_eq!(decided(&reports), course);
    assert_eq!(simulation.status().unwrap().state, "completed");
    let windows = windows(&reports);
    let numbers: Vec<u64> = windows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..windows.len() as u64).collect::<Vec<_>>(), "each window, in order");
    assert!(windows.iter().map(|(_, units)| *units).max() > Some(600), "{windows:?}");
    let pages = simulation.pages();
    assert!(pages["EXECUTION_LOG.md"].contains("2026-11-01 09:5"), "{}", pages["EXECUTION_LOG.md"]);
}

#[test]
fn harm_of_the_treated_arm_rolls_back_and_is_proven_again_by_the_same_file() {
    let harmed =
        |n: u64, id: &str| one_percent(n) || (n > 1_500 && n.is_multiple_of(5) && is_treated_at_half(id));
    let lines = traffic(10, harmed);
    let (simulation, reports) = simulated(&lines);
    assert_eq!(decided(&reports), ["start", "step", "step", "roll_back"]);
    let status = simulation.status().unwrap();
    assert_eq!((status.state.as_str(), status.tenants[0].percent), ("rolled_back", 0));
    let (_, again) = simulated(&lines);
    assert_eq!(format!("{again:?}"), format!("{reports:?}"));
}

#[test]
fn an_outage_that_hits_both_arms_rolls_nobody_back() {
    let (simulation, reports) = simulated(&traffic(10, |n, _| one_percent(n) || (1_500..1_600).contains(&n)));
    assert_eq!(decided(&reports).last(), Some(&"complete"));
    assert_eq!(simulation.status().unwrap().state, "completed");
}

#[test]
fn requests_without_a_result_have_no_outcome() {
    let mut lines = Lines::default();
    let of_results = traffic(6, |n, _| one_percent(n));
    for (n, text) in of_results.0.iter().enumerate() {
        let line: Value = serde_json::from_str(text).unwrap();
        let Some(request_id) = line["entry"]["request_id"].as_str() else {
            lines.0.push(text.clone());
            continue;
        };
        let request = json!({"tenant_id": "acme", "request_id": request_id});
        lines.add(line["at"].as_u64().unwrap(), "request", request);
        // A tenth of the treated requests never get a result.
        if n > 1_500 && n.is_multiple_of(10) && is_treated_at_half(request_id) {
            continue;
        }
        lines.0.push(text.clone());
    }
    let (simulation, reports) = simulated(&lines);
    assert_eq!(decided(&reports), ["start", "step", "step"], "nothing passes");
    assert_eq!(simulation.status().unwrap().next.needs, ["low_coverage"]);
}

#[test]
fn workers_of_the_file_take_the_place_of_the_simulated_one() {
    let of_results = traffic(4, |n, _| one_percent(n));
    let tallied = |until: u64| {
        let mut lines = Lines::default();
        for text in &of_results.0 {
            let line: Value = serde_json::from_str(text).unwrap();
            let at = line["at"].as_u64().unwrap();
            lines.0.push(text.clone());
            if at < until {
                lines.add(at, "tally", json!({"worker": "w-1", "boot": 1, "met": 0}));
            }
        }
        simulated(&lines).1
    };
    let all = windows(&tallied(u64::MAX));
    assert_eq!(
        all.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        (0..all.len() as u64).collect::<Vec<_>>()
    );
    assert!(all.len() > 30, "{all:?}");
    // Without its worker a window is incomplete, and its units do not count.
    let half = windows(&tallied(BEGIN + 5 * HOUR_MS / 2));
    assert!(half.last().unwrap().1 < all.last().unwrap().1, "{half:?}");
}

#[test]
fn an_operator_starts_drills_and_rolls_back_by_lines_of_the_file() {
    let mut lines = Lines::default();
    let of_results = traffic(5, |n, _| one_percent(n));
    let mut commands = [
        (HOUR_MS, json!({"verb": "start"})),
        (HOUR_MS, json!({"verb": "approve"})),
        (3 * HOUR_MS, json!({"verb": "drill", "tenant": "acme", "provider": "a", "for_ms": 60_000})),
        (4 * HOUR_MS, json!({"verb": "rollback", "actor": "ops", "reason": "enough"})),
    ]
    .into_iter()
    .peekable();
    for text in &of_results.0 {
        let at = serde_json::from_str::<Value>(text).unwrap()["at"].as_u64().unwrap();
        while let Some((when, command)) = commands.next_if(|(when, _)| BEGIN + when <= at) {
            lines.add(BEGIN + when, "command", command);
        }
        lines.0.push(text.clone());
    }
    let (simulation, reports) = simulated(&lines);
    let refused = reports.iter().filter(|report| matches!(report, Report::Refused { .. }));
    let refused: Vec<String> = refused.map(|report| format!("{report:?}")).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("approve: is not possible while the rollout is"), "{refused:?}");
    let Some(Report::Decision { decision, .. }) =
        reports.iter().rfind(|report| matches!(report, Report::Decision { .. }))
    else {
        panic!("{reports:?}")
    };
    assert_eq!((&decision.kind, decision.reasons.last().unwrap().as_str()), (&Kind::RollBack, "ops: enough"));
    let status = simulation.status().unwrap();
    assert_eq!(status.state, "rolled_back");
    let drilled = reports.iter().any(|report| match report {
        Report::Window { status, .. } => status
            .criteria
            .iter()
            .any(|c| c.name == Criterion::Exercise && c.figures.get("closed") == Some(&1)),
        _ => false,
    });
    assert!(drilled, "the breaker opened and closed");
}

#[test]
fn a_line_with_a_fault_says_what_is_wrong() {
    for (line, fault) in [
        ("{", "EOF while parsing"),
        (r#"[1,"mark",null,null]"#, "want a JSON object"),
        (r#"{"kind":"mark"}"#, "missing field `at`"),
        (r#"{"at":"yesterday","kind":"mark"}"#, "at: want RFC 3339"),
        (r#"{"at":1,"kind":"merge","entry":{}}"#, "there is no kind \"merge\""),
        (r#"{"at":1,"kind":"step","entry":{}}"#, "makes its own step"),
        (r#"{"at":1,"kind":"result"}"#, "entry: is missing"),
        (r#"{"at":1,"kind":"result","entry":{"tenant_id":"t","provider_id":"p"}}"#, "status"),
        (r#"{"at":1,"kind":"mark","more":1}"#, "unknown field `more`"),
        (r#"{"at":1,"kind":"mark","identity":1}"#, "identity: only a result"),
        (r#"{"at":1,"kind":"request","entry":{"tenant_id":"t"}}"#, "missing field `request_id`"),
        (
            r#"{"at":1,"kind":"request","entry":{"tenant_id":"t","request_id":"r","x":1}}"#,
            "unknown field `x`",
        ),
        (r#"{"at":1,"kind":"policy","entry":{"tenant_id":"t","document":{}}}"#, "policy t/default: "),
        (r#"{"at":1,"kind":"command","entry":{"verb":"graduate"}}"#, "writes no documents"),
        (r#"{"at":1,"kind":"command","entry":{"verb":"start","actor":1}}"#, "actor: want a string"),
    ] {
        let found = Line::parse(1, line).unwrap_err();
        assert!(found.contains(fault), "{line}: {found}");
    }
}

#[test]
fn times_are_milliseconds_or_rfc_3339() {
    for at in ["1793491200250", "\"2026-11-01T00:00:00.250Z\"", "\"2026-11-01T01:00:00.25+01:00\""] {
        let text = format!(r#"{{"at":{at},"kind":"mark"}}"#);
        assert_eq!(Line::parse(1, &text).unwrap().at, Stamp(BEGIN + 250));
    }
}

#[test]
fn a_file_says_in_one_way_what_workers_answered() {
    let mut lines = Lines::default();
    let requests = |lines: &Lines| {
        let mut survey = Survey::default();
        lines.parsed().iter().for_each(|line| survey.note(line));
        survey.requests()
    };
    assert_eq!(requests(&lines), Ok(Requests::Implied));
    lines.add(1, "request", json!({"tenant_id": "t", "request_id": "r"}));
    assert_eq!(requests(&lines), Ok(Requests::Listed));
    lines.add(1, "tally", json!({"worker": "w", "boot": 1, "met": 0}));
    assert!(requests(&lines).is_err());
    lines.0.remove(0);
    assert_eq!(requests(&lines), Ok(Requests::Tallied));
}

#[test]
fn entries_of_a_log_are_written_as_they_are_read() {
    let mut lines = Lines::default();
    let all = json!({
        "tenant_id": "acme", "provider_id": "a", "request_id": "r", "assignment_id": "x", "status": "timeout",
        "latency_ms": 7, "cost": 0.001_25, "error_code": "504", "retry_after_ms": 3, "timestamp": 9,
        "job": {"type": "text"}, "trace_id": "t",
    });
    lines.add(1, "result", all);
    lines.add(2, "result", json!({"tenant_id": "acme", "provider_id": "a", "status": "success"}));
    lines.add(3, "policy", json!({"tenant_id": "acme"}));
    lines.add(4, "flag", json!({"scope": "global", "circuit_breaker_enabled": false}));
    lines.add(5, "force", json!({"tenant_id": "acme", "provider_id": "a", "to": "open", "ttl_ms": 5}));
    lines.add(6, "reset", json!({"tenant_id": "acme", "provider_id": "a"}));
    lines.add(
        7,
        "tally",
        json!({"worker": "w", "boot": 1, "met": 0, "tenants": {"acme": {
        "asked": [1, 2], "no_provider": [0, 0], "fell_back": [0, 0], "spared": [0, 1]}}}),
    );
    lines.add(
        8,
        "met",
        json!({"tenant_id": "acme", "policy_id": "p", "worker": "w", "boot": 1, "number": 1,
        "met": [{"hash": 5, "fate": "spared"}]}),
    );
    lines.add(9, "mark", json!(null));
    let identity_key = IdentityKey([1, 2]);
    let secret = Entry::FoldVersion(FoldVersionEntry { version: FoldVersion(2), identity_key });
    assert_eq!(written(&secret, Stamp(1)), None);
    for line in lines.parsed() {
        let Content::Entry(entry) = &line.content else { panic!("{line:?}") };
        let text = written(entry, line.at).unwrap().to_string();
        let again = Line::parse(99, &text).unwrap();
        assert_eq!(format!("{again:?}"), format!("{line:?}"), "{text}");
    }
}

#[test]
fn too_many_tenants_pause_the_rollout() {
    let mut lines = traffic(2, |n, _| one_percent(n));
    let policies = std::mem::take(&mut lines.0);
    for n in 0..10_001 {
        let document = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 1}]});
        lines.add(BEGIN, "policy", json!({"tenant_id": format!("t-{n}"), "document": document}));
    }
    lines.0.extend(policies);
    let (simulation, reports) = simulated(&lines);
    assert_eq!(decided(&reports), ["start", "pause"]);
    let reasons = simulation.status().unwrap().reasons;
    assert!(reasons[0].contains("10002 tenants have policies, and a rollout knows 10000"), "{reasons:?}");
}
