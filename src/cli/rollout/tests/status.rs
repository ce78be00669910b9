use serde_json::json;

use super::*;
use crate::cli::exit::Exit;
use crate::cli::rollout::picture::{Room, picture};
use crate::cli::rollout::plain;

/// The picture as text, each line without blanks at its end.
pub(super) fn drawn(standing: &Standing, width: usize, height: Option<usize>) -> String {
    let lines = picture(standing, Room { width, height, colour: false });
    lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn both(standing: &Standing) -> String {
    format!("{}\n\n---\n\n{}", drawn(standing, 100, None), plain::lines(standing).join("\n"))
}

#[test]
fn a_running_rollout_shows_where_it_is_and_what_is_missing() {
    insta::assert_snapshot!(both(&standing(running())));
}

#[test]
fn a_pause_shows_its_reasons() {
    let fields = json!({
        "state": "paused", "reasons": ["unexpected_open", "issue_open"], "issues": ["acme: more 503 than usual"],
        "criteria": criteria(&json!({
            "unexpected_opens": ["fail", "unexpected_open", {"drill": 0, "expected": 0, "unexpected": 2}],
            "issues": ["fail", "issue_open", {"open": 1}],
        })),
        "next": {"when": null, "needs": ["unexpected_open", "issue_open"]},
    });
    insta::assert_snapshot!(both(&standing(with(running(), fields))));
}

#[test]
fn a_rollout_that_is_rolled_back_shows_whom_it_harmed() {
    let fields = json!({
        "seq": 12, "state": "rolled_back",
        "tenants": [tenant("acme", "rolled_back", 0, 12_345, 5_200_000_000)],
        "next": {"when": null, "needs": ["delete"]},
    });
    insta::assert_snapshot!(both(&standing(fields)));
}

#[test]
fn a_phase_that_has_passed_shows_the_verb_that_moves_it_on() {
    let fields = json!({
        "state": "awaiting_approval", "phase": "canary", "step": 2, "criteria": criteria(&json!({})),
        "tenants": [tenant("acme", "on_ladder", 50, 12_345, -1_000_000), tenant("beta", "waiting", 0, 7, 0)],
        "evidence": {"harm_e": -2_000_000_000, "safe_e": 3_200_000_000_i64, "units": 20_000, "needed": 18_400},
        "qualified_ms": 4 * DAY, "min_ms": 3 * DAY, "max_ms": 7 * DAY,
        "next": {"when": null, "needs": ["approve"]},
    });
    insta::assert_snapshot!(both(&standing(with(running(), fields))));
}

#[test]
fn a_completed_rollout_shows_that_all_has_passed() {
    let fields = json!({
        "seq": 20, "state": "completed", "tenants": [tenant("acme", "passed", 100, 12_345, 0)],
        "next": {"when": null, "needs": ["graduate"]},
    });
    insta::assert_snapshot!(both(&standing(fields)));
}

#[test]
fn a_step_without_data_is_inconclusive_and_not_safe() {
    let fields = json!({
        "seq": 4, "state": "running", "phase": "canary", "step": 0, "percent": 0,
        "tenants": [tenant("acme", "on_ladder", 0, 0, 0)],
        "criteria": criteria(&json!({
            "harm": ["pass", "", {"log_e": 0}],
            "safe": ["inconclusive", "no_data", {"log_e": 0}],
            "latency": ["inconclusive", "latency_undecided", {"p50_low": i64::MIN, "p50_high": i64::MAX}],
            "coverage": ["inconclusive", "low_coverage", {"permille": 0}],
            "telemetry": ["inconclusive", "stale_telemetry", {"stale_ms": 1_500_000}],
        })),
        "min_ms": 12 * HOUR, "max_ms": 7 * DAY,
        "next": {"when": null, "needs": ["stale_telemetry", "low_coverage", "no_data"]},
        "evidence": {"harm_e": 0, "safe_e": 0, "units": 0, "needed": 1},
    });
    insta::assert_snapshot!(both(&standing(fields)));
}

#[test]
fn the_final_bake_is_judged_for_harm_alone() {
    let fields = json!({
        "seq": 18, "state": "final_bake", "tenants": [tenant("acme", "passed", 95, 12_345, 0)],
        "next": {"when": 30 * HOUR, "needs": []},
        "evidence": {"harm_e": 1_000_000_000, "safe_e": 0, "units": 5_000, "needed": 0},
    });
    insta::assert_snapshot!(both(&standing(fields)));
}

#[test]
fn a_small_screen_keeps_what_needs_a_look() {
    let standing = standing(running());
    for height in [1, 5, 12, 23, 24, 30, 40] {
        let screen = drawn(&standing, 80, Some(height));
        assert!(screen.lines().count() <= height, "{height}\n{screen}");
    }
    insta::assert_snapshot!(drawn(&standing, 80, Some(24)));
}

#[test]
fn more_tenants_than_fit_are_counted() {
    let ids: Vec<Value> =
        (0..1_000).map(|n| tenant(&format!("t-{n:03}"), "on_ladder", 50, 10, 1_000_000 * n)).collect();
    let standing = standing(with(running(), json!({"tenants": ids})));
    let screen = drawn(&standing, 80, Some(40));
    // The greatest evidence of harm comes first.
    assert!(screen.contains("t-999") && !screen.contains("t-000"), "{screen}");
    assert_eq!(screen.lines().count(), 40);
    let named = screen.lines().filter(|line| line.starts_with("t-")).count();
    assert!(screen.ends_with(&format!("and {} more", 1_000 - named)), "{screen}");
    let plain = plain::lines(&standing);
    assert!(plain.last().unwrap().contains("and 980 more tenants"), "{plain:?}");
}

#[test]
fn what_people_wrote_moves_no_cursor() {
    let fields = json!({"reasons": ["pause", "a\u{1b}[2J: b\u{202e}c"], "issues": ["x\ny\u{9b}"], "state": "paused\u{7}"});
    let screen = drawn(&standing(with(running(), fields)), 80, None);
    assert!(screen.contains("a\u{fffd}[2J: b\u{fffd}c") && screen.contains("x\u{fffd}y\u{fffd}"), "{screen}");
    assert!(!screen.chars().any(|c| c.is_control() && c != '\n'), "{screen}");
}

#[test]
fn without_a_plan_that_can_be_read_the_rest_is_shown() {
    let standing = Standing { plan: None, ..standing(running()) };
    let text = both(&standing);
    assert!(text.contains("cannot read the plan") && text.contains("phase all, step 2, 50 %"), "{text}");
    assert!(text.contains("insufficient_sample") && text.contains("acme"), "{text}");
}

#[test]
fn the_exit_code_says_how_it_stands() {
    for (state, exit, ended) in [
        ("draft", Exit::Undecided, false),
        ("preparing", Exit::Undecided, false),
        ("running", Exit::Undecided, false),
        ("paused", Exit::Undecided, false),
        ("final_bake", Exit::Undecided, false),
        ("awaiting_approval", Exit::AwaitsApproval, false),
        ("completed", Exit::Done, true),
        ("rolled_back", Exit::RolledBack, true),
        ("aborted", Exit::RolledBack, true),
        ("deleted", Exit::NotFound, true),
        ("something_new", Exit::Undecided, false),
    ] {
        let standing = standing(json!({"state": state}));
        assert_eq!((standing.exit(), standing.has_ended()), (exit, ended), "{state}");
    }
    let code = |exit: Exit| std::process::ExitCode::from(exit);
    for (exit, number) in [(Exit::Undecided, 10), (Exit::RolledBack, 11), (Exit::AwaitsApproval, 13)] {
        assert_eq!(code(exit), std::process::ExitCode::from(number));
    }
}

#[test]
fn only_news_is_a_difference() {
    let before = standing(running());
    let older = criteria(&json!({
        "safe": ["inconclusive", "insufficient_sample", {"log_e": 1_498_000_000}],
        "exercise": ["inconclusive", "not_exercised", {"closed": 0, "late": 0}],
        "telemetry": ["pass", "", {"stale_ms": 4_000}],
    }));
    assert!(!standing(with(running(), json!({"criteria": older}))).differs(&before));
    assert!(standing(with(running(), json!({"seq": 10}))).differs(&before));
    assert!(standing(with(running(), json!({"qualified_ms": 27 * HOUR}))).differs(&before));
    let stale = criteria(&json!({"telemetry": ["inconclusive", "stale_telemetry", {"stale_ms": 900_000}]}));
    assert!(standing(with(running(), json!({"criteria": stale}))).differs(&before));
}
