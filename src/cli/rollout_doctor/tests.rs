use std::collections::BTreeSet;

use super::checks::{self, ALERTS, Check, PolicyFacts, Verdict};
use super::prometheus::Rule;
use super::results::ResultCount;
use super::trial;
use crate::domain::{Outcome, Status};
use crate::log::Entry;
use crate::nats::log_reader::Unread;
use crate::nats::workers::WorkerInfo;

const RULES: &str = include_str!("../../../deploy/prometheus/rules.yml");

fn is(check: &Check, verdict: Verdict, word: &str) {
    assert!(check.verdict == verdict && check.found.contains(word), "{check:?}");
    assert_eq!(
        check.advice.is_none(),
        verdict == Verdict::Pass,
        "who does not pass is told what to do: {check:?}"
    );
}

#[test]
fn the_alerts_are_those_of_the_rules() {
    let named = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    assert_eq!(named.collect::<BTreeSet<_>>(), BTreeSet::from(ALERTS));
}

#[test]
fn alerts_must_all_be_loaded_and_sound() {
    let rules = |without: usize, health: &str| {
        let rule = |name: &&str| Rule { name: (*name).to_owned(), health: health.to_owned() };
        Ok(ALERTS[without..].iter().map(rule).collect())
    };
    let all = format!("all {}", ALERTS.len());
    is(&checks::alerts(&rules(0, "ok")), Verdict::Pass, &all);
    is(&checks::alerts(&rules(0, "unknown")), Verdict::Pass, &all);
    is(&checks::alerts(&rules(1, "ok")), Verdict::Fail, "RouterAbsent");
    is(&checks::alerts(&rules(8, "ok")), Verdict::Fail, "and 3 more");
    is(&checks::alerts(&rules(0, "err")), Verdict::Fail, "cannot evaluate");
}

fn counted(all: u64, without_request: u64, without_latency: u64) -> ResultCount {
    let mut count = ResultCount::default();
    for n in 0..all {
        let outcome = Outcome {
            request_id: (n >= without_request).then(|| "r".into()),
            latency_ms: (n >= without_latency).then_some(5),
            ..Outcome::of("acme", "openai", Status::Success, n)
        };
        count.take(&Entry::Result(outcome));
        count.take(&Entry::Mark);
    }
    count
}

#[test]
fn ninety_nine_of_a_hundred_results_must_name_their_request() {
    is(&checks::request_ids(&counted(200, 0, 0)), Verdict::Pass, "100.0 % of 200");
    is(&checks::request_ids(&counted(200, 2, 0)), Verdict::Pass, "99.0 %");
    is(
        &checks::request_ids(&counted(200, 3, 0)),
        Verdict::Fail,
        "98.5 % of 200 results have request_id; 3 of acme/openai",
    );
    is(&checks::request_ids(&counted(0, 0, 0)), Verdict::Warn, "no results");
}

#[test]
fn latencies_may_be_few_and_must_not_be_missing() {
    is(&checks::latencies(&counted(200, 0, 2)), Verdict::Pass, "99.0 %");
    is(&checks::latencies(&counted(200, 0, 3)), Verdict::Warn, "98.5 %");
    is(&checks::latencies(&counted(200, 0, 200)), Verdict::Fail, "0.0 %");
}

#[test]
fn each_policy_needs_another_way() {
    let policies = |survive: &[bool]| -> Vec<PolicyFacts> {
        let facts = survive.iter().enumerate();
        facts
            .map(|(n, survives)| PolicyFacts { name: format!("t{n}/default"), survives_refusal: *survives })
            .collect()
    };
    is(&checks::fallbacks(&policies(&[true, true])), Verdict::Pass, "all 2");
    is(&checks::fallbacks(&policies(&[true, false])), Verdict::Fail, "1 of 2 policies have none: t1/default");
    is(&checks::fallbacks(&[]), Verdict::Fail, "no policies");
}

#[test]
fn workers_must_be_of_one_version_and_support_rollouts() {
    let worker = |name: &str, version: &str, rollouts: Option<&str>| WorkerInfo {
        id: name.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        rollouts: rollouts.map(str::to_owned),
        fold: crate::log::FoldVersion::FIRST,
        decides: true,
    };
    let good = worker("w1", "0.1.0", Some("1"));
    is(
        &checks::workers(&[good.clone(), worker("w2", "0.1.0", Some("1"))]),
        Verdict::Pass,
        "2 of version 0.1.0",
    );
    is(&checks::workers(&[good.clone(), worker("w2", "0.1.0", None)]), Verdict::Fail, "w2");
    is(&checks::workers(&[good.clone(), worker("w2", "0.2.0", Some("1"))]), Verdict::Fail, "0.1.0, 0.2.0");
    is(&checks::workers(&[good, worker("w2", "0.1.0", Some("2"))]), Verdict::Fail, "versions");
    is(&checks::workers(&[]), Verdict::Fail, "none answers");
}

#[test]
fn a_stream_that_is_not_read_says_what_is_lacking() {
    is(&checks::log("LOG", &Ok(7)), Verdict::Pass, "7 entries");
    let denied = checks::log("LOG", &Err(Unread::Denied("Permissions Violation".to_owned())));
    is(&denied, Verdict::Fail, "Permissions Violation");
    assert!(denied.advice.unwrap().contains("rights on LOG"));
    let missing = || Err(Unread::Missing("ROLLOUTS".to_owned()));
    is(&checks::rollouts("ROLLOUTS", &missing(), Ok::<_, &String>(0)), Verdict::Fail, "no stream ROLLOUTS");
    let silent = Err(Unread::Silent { subject: "x".to_owned() });
    is(&checks::rollouts("ROLLOUTS", &silent, Ok::<_, &String>(2)), Verdict::Warn, "2 rollouts");
    is(&checks::rollouts("ROLLOUTS", &silent, Err(&"away".to_owned())), Verdict::Fail, "away");
}

#[test]
fn the_plan_of_the_trial_has_no_faults() {
    crate::rollout::plan::parse(&trial::plan()).unwrap();
}
