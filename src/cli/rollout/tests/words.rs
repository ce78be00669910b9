use clap::Parser as _;

use super::*;
use crate::cli::Cli;
use crate::cli::rollout::words::{explained, grouped, held, is_lack, next};
use crate::rollout::judge::{Hold, Lack, Reason, Verdict};

#[test]
fn every_reason_of_the_judge_is_explained() {
    let holds = [
        Hold::SampleRatio,
        Hold::LossRatio,
        Hold::MetricDiscontinuity,
        Hold::AccountsDiffer,
        Hold::UnexpectedOpen,
        Hold::RecoveryOverdue,
        Hold::Slower,
        Hold::IssueOpen,
    ];
    let lacks = [
        Lack::StaleTelemetry,
        Lack::LowCoverage,
        Lack::LatencyUndecided,
        Lack::OpenUnexplained,
        Lack::RecoveryPending,
        Lack::NotExercised,
        Lack::TooEarly,
    ];
    let reasons = [Reason::NoData, Reason::SampleRatio, Reason::InsufficientSample, Reason::Undecided];
    let words = holds.map(Hold::as_str).into_iter().chain(lacks.map(Lack::as_str));
    for lack in lacks {
        assert!(is_lack(lack.as_str()), "{}", lack.as_str());
    }
    for hold in holds {
        assert!(!is_lack(hold.as_str()), "{}", hold.as_str());
    }
    for word in words.chain(reasons.map(Reason::as_str)).chain([Verdict::Fail.reason()]) {
        assert!(explained(word).is_some(), "{word}");
    }
    assert_eq!(explained("alice: release freeze"), None);
}

#[test]
fn what_comes_next_is_a_time_a_command_or_a_lack() {
    let of = |fields: Value| next(&standing(fields).status);
    let one = |label, text: &str| vec![(label, text.to_owned())];
    assert_eq!(of(json!({})), one("next", "beamline-router rollout start cb-2026"));
    let early = json!({"next": {"when": 46 * HOUR, "needs": ["too_early"]}});
    assert_eq!(of(early), one("next", "the step ends in 1d22h at the earliest"));
    let bake = json!({"state": "final_bake", "next": {"when": 30 * HOUR, "needs": []}});
    assert_eq!(of(bake), one("next", "it is completed in 1d06h at the earliest"));
    let due = json!({"state": "running", "pending": 4, "next": {"when": null, "needs": []}});
    assert_eq!(of(due), one("next", "decision 4 is due, and not recorded yet"));
    let met =
        json!({"state": "running", "criteria": criteria(&json!({})), "next": {"when": null, "needs": []}});
    assert_eq!(of(met), one("next", "the step is about to end"));
    let preparing = json!({"state": "preparing", "next": {"when": null, "needs": ["history"]}});
    assert_eq!(of(preparing), one("next", "the history of the phase is counted from the log"));
    let unknown = json!({"next": {"when": null, "needs": ["something_new"]}});
    assert_eq!(of(unknown), one("missing", "something_new"));
}

#[test]
fn a_pause_says_how_it_ends() {
    let of = |reasons: &[&str], needs: &[&str], step: Option<u64>| {
        let fields = json!({
            "state": "paused", "phase": "all", "step": step, "reasons": reasons,
            "next": {"when": null, "needs": needs},
        });
        next(&standing(fields).status).into_iter().map(|(_, text)| text).collect::<Vec<_>>()
    };
    assert_eq!(
        of(&["pause", "alice: freeze"], &["resume"], Some(1)),
        ["beamline-router rollout resume cb-2026"]
    );
    for reasons in [&["loss_ratio"][..], &["suspend", "mixed_versions", "w-1: these workers do not: old-1"]] {
        let [anew] = of(reasons, &reasons[..1], Some(1)).try_into().unwrap();
        assert!(anew.contains("resume cb-2026") && anew.contains("anew"), "{anew}");
    }
    let [more] =
        of(&["undecided", "not_exercised"], &["undecided", "not_exercised"], Some(1)).try_into().unwrap();
    assert!(more.contains("extend cb-2026"), "{more}");
    let [itself] =
        of(&["issue_open", "too_early"], &["issue_open", "too_early"], Some(1)).try_into().unwrap();
    assert!(itself.contains("by itself"), "{itself}");
    assert_eq!(of(&["empty_cohort"], &[], Some(1))[0], "beamline-router rollout abort cb-2026");
    assert_eq!(of(&["1 of 5 tenants"], &["history"], None)[0], "beamline-router rollout resume cb-2026");
}

#[test]
fn shares_that_the_log_holds_at_0_are_no_pause() {
    let stale = json!({"state": "running", "reasons": ["stale_telemetry"]});
    assert_eq!(held(&standing(stale).status), "nothing enforced");
    let paused = json!({"state": "paused", "reasons": ["issue_open", "stale_telemetry"]});
    assert_eq!(held(&standing(paused).status), "paused");
}

#[test]
fn thousands_stand_apart() {
    for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(grouped(number), text);
    }
}

#[test]
fn a_command_line_that_cannot_be_meant_is_refused() {
    let parsed =
        |line: &str| Cli::try_parse_from(format!("beamline-router rollout {line}").split_whitespace());
    for line in [
        "start cb -w --json",
        "start -f plan.yaml --expected-seq 0 --reason x",
        "extend cb --by 36h",
        "promote cb --override exercise --reason x",
        "rollback cb --tenant acme.eu",
        "issue cb open text",
        "history cb",
        "history cb --limit 20",
    ] {
        assert!(parsed(line).is_ok(), "{line}");
    }
    for line in [
        "start",
        "start cb -f plan.yaml",
        "start CB",
        "extend cb --by 0s",
        "extend cb --by soon",
        "promote cb --override harm --reason x",
        "promote cb --override exercise",
        "rollback cb --tenant <b>",
        "drill cb --tenant a --provider b",
        "issue cb ended text",
        "history cb --limit 0",
        "put",
    ] {
        assert!(parsed(line).is_err(), "{line}");
    }
}
