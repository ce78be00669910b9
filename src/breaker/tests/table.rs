//! The table of docs/breakers.md, a test for each row: `table::<state>::<input>`. The page says what
//! is to happen; the tests hold the machine to it.

use super::*;

const PAGE: &str = include_str!("../../../docs/breakers.md");
const HEADING: &str = "## Every state and every input";

macro_rules! rows {
    ($($state:ident: $($own:ident)*;)*) => {
        const STATES: &[(&str, &[&str])] = &[$((stringify!($state), $state::INPUTS)),*];
        $(each!(
            $state: a_success a_failure the_failure_that_fills_the_row
            the_failure_that_brings_the_error_rate_to_its_threshold
            the_slow_call_that_brings_the_slow_rate_to_its_threshold
            a_late_result a_late_failure_with_a_retry_hint a_result_that_counts_as_neither
            $($own)*
            a_claim a_claim_past_its_latest_stamp a_release_of_no_slot
            force_open force_closed auto reset
            other_settings settings_that_disable settings_that_enable
            flag_off flag_on the_clock_set_back
        );)*
    };
}

macro_rules! each {
    ($state:ident: $($input:ident)*) => {
        mod $state {
            pub(super) const INPUTS: &[&str] = &[$(stringify!($input)),*];
            $(#[test]
            fn $input() {
                super::holds(stringify!($state), stringify!($input));
            })*
        }
    };
}

rows! {
    closed:;
    open:;
    open_past_its_deadline:;
    half_open_with_a_free_slot:
        the_success_of_a_probe the_success_that_fills_success_threshold the_failure_of_a_probe
        a_slow_success_of_a_probe a_probe_that_counts_as_neither a_claim_of_a_request_that_holds_a_slot
        a_release_of_a_slot an_input_at_the_end_of_a_lease;
    half_open_full:
        the_success_of_a_probe the_success_that_fills_success_threshold the_failure_of_a_probe
        a_slow_success_of_a_probe a_probe_that_counts_as_neither a_claim_of_a_request_that_holds_a_slot
        a_release_of_a_slot an_input_at_the_end_of_a_lease;
    forced_open: an_input_at_the_end_of_its_ttl;
    forced_closed: an_input_at_the_end_of_its_ttl;
    disabled:;
    switched_off:;
}

/// What the page tells of a pair, and what the machine does: answer, window, next state, event.
type Row = [String; 4];

fn holds(state: &str, input: &str) {
    let told = page().remove(&(state.to_owned(), input.to_owned()));
    assert_eq!(told, Some(does(state, input)), "left: docs/breakers.md; right: the machine");
}

#[test]
fn the_page_has_a_row_for_each_pair_and_no_other() {
    let told: Vec<_> = page().into_keys().collect();
    let mut tested: Vec<(String, String)> = STATES
        .iter()
        .flat_map(|(s, inputs)| inputs.iter().map(|i| ((*s).to_owned(), (*i).to_owned())))
        .collect();
    tested.sort();
    assert_eq!(told, tested);
}

/// The page's rows by state and input, both as identifiers.
fn page() -> std::collections::BTreeMap<(String, String), Row> {
    let section = PAGE.split(HEADING).nth(1).unwrap().split("\n## ").next().unwrap();
    let name = |text: &str| text.trim().to_lowercase().replace([' ', '-'], "_").replace(['`', '\''], "");
    let mut rows = std::collections::BTreeMap::new();
    for state in section.split("\n### ").skip(1) {
        let (heading, body) = state.split_once('\n').unwrap();
        for line in body.lines().filter(|l| l.starts_with('|')).skip(2) {
            let cells: Vec<_> = line.split('|').map(|c| c.trim().replace('`', "")).collect();
            let row = std::array::from_fn(|n| cells[n + 2].clone());
            assert!(rows.insert((name(heading), name(&cells[1])), row).is_none(), "twice: {line}");
        }
    }
    rows
}

fn does(state: &str, input: &str) -> Row {
    let mut bench = in_state(state);
    assert_eq!(shown(&bench), state.replace('_', " ").replace("half open", "half-open"));
    let (before, effect) = give(&mut bench, input);
    let after = bench.breaker.counts(bench.now).requests;
    let answer = match (effect.judged, effect.verdict) {
        (Some(judged), _) => judged.disposition.as_str(),
        (_, Some(Verdict::Granted)) => "granted",
        (_, Some(Verdict::NotNeeded)) => "not needed",
        (_, Some(Verdict::Refused { .. })) => "refused",
        _ if effect.freed.is_some() => "freed",
        _ if effect.expired_leases > 0 => "expired",
        _ => "–",
    };
    let window = match after {
        0 if before > 0 => "emptied",
        n if n == before + 1 => "+1",
        n if n == before => "kept",
        n => panic!("{before} became {n}"),
    };
    let events: Vec<_> = effect
        .transitions
        .iter()
        .map(|t| format!("{} → {}: {}", t.from.as_str(), t.to.as_str(), t.cause.as_str()))
        .collect();
    let event = if events.is_empty() { "–".to_owned() } else { events.join("; ") };
    [answer.to_owned(), window.to_owned(), shown(&bench), event]
}

/// A breaker in a state, with evidence: a success and a failure if it is closed.
fn in_state(state: &str) -> Bench {
    let mut bench = Bench::new(|d| {
        d.enabled = state != "disabled";
        (d.failure_threshold, d.minimum_requests) = (3, 5);
        (d.error_rate_threshold, d.slow_call_rate_threshold) = (0.6, 0.5);
        (d.error_rate_window_seconds, d.latency_threshold_ms) = (600, Some(100));
        (d.half_open_max_calls, d.success_threshold) = (2, 2);
    });
    bench.apply(Input::Reset);
    bench.after(10_000).successes(1).failures(1);
    let wait = match state {
        "open" | "open_past_its_deadline" | "half_open_with_a_free_slot" | "half_open_full" => {
            bench.trip();
            if state == "open" { 10_000 } else { 60_000 }
        }
        "forced_open" | "forced_closed" => {
            bench.force(if state == "forced_open" { State::Open } else { State::Closed }, Some(60_000));
            10_000
        }
        "switched_off" => {
            bench.apply(Input::Suspend(true));
            bench.successes(1).failures(1);
            0
        }
        "closed" | "disabled" => 0,
        _ => panic!("no such state: {state}"),
    };
    bench.after(wait);
    if state.starts_with("half_open") {
        bench.claim("first");
        bench.after(1_000);
    }
    if state == "half_open_full" {
        bench.claim("second");
    }
    bench
}

/// The states of the page, told by what everybody can see.
fn shown(bench: &Bench) -> String {
    let view = bench.view();
    match (view.suspended, view.forced, view.state) {
        (true, ..) => "switched off",
        (_, Some((State::Open, _)), _) => "forced open",
        (_, Some(_), _) => "forced closed",
        _ if !bench.breaker.settings().enabled() => "disabled",
        (.., State::Closed) => "closed",
        (.., State::Open) if view.remaining_ms == Some(0) => "open past its deadline",
        (.., State::Open) => "open",
        (.., State::HalfOpen)
            if view.half_open_in_flight < bench.breaker.settings().half_open_max_calls() =>
        {
            "half-open with a free slot"
        }
        (.., State::HalfOpen) => "half-open full",
    }
    .to_owned()
}

/// Gives the input, after what must come before it, and tells what the window held just before.
fn give(bench: &mut Bench, input: &str) -> (u32, Effect) {
    match input {
        "the_failure_that_fills_the_row" => {
            bench.failures(1);
        }
        "the_failure_that_brings_the_error_rate_to_its_threshold" => {
            bench.successes(1).failures(1);
        }
        "the_slow_call_that_brings_the_slow_rate_to_its_threshold" => {
            bench.result(Status::Success, slow);
            bench.result(Status::Success, slow);
        }
        "the_success_that_fills_success_threshold" => {
            let other = if bench.claim("third") == Verdict::Granted { "third" } else { "second" };
            bench.probe(other, Status::Success);
        }
        "an_input_at_the_end_of_its_ttl" => {
            bench.after(50_000);
        }
        "an_input_at_the_end_of_a_lease" => {
            bench.after(29_000);
        }
        "the_clock_set_back" => bench.now = bench.now.minus(DAY_MS),
        _ => {}
    }
    let before = bench.breaker.counts(bench.now).requests;
    (before, last(bench, input))
}

fn slow(outcome: &mut Outcome<'static>) {
    outcome.latency_ms = Some(500);
}

fn last(bench: &mut Bench, input: &str) -> Effect {
    let before_the_transition = bench.now.since(bench.view().last_transition.unwrap()) + 1;
    let claim = |request_id, latest| Claim { request_id, claim: ClaimId(60), latest, lease_ms: 0 };
    let now = bench.now;
    match input {
        "a_success" => bench.result(Status::Success, |_| {}),
        "a_failure"
        | "the_failure_that_fills_the_row"
        | "the_failure_that_brings_the_error_rate_to_its_threshold" => bench.result(Status::Error, |_| {}),
        "the_slow_call_that_brings_the_slow_rate_to_its_threshold" => bench.result(Status::Success, slow),
        "a_late_result" => bench.result(Status::Success, |o| o.latency_ms = Some(before_the_transition)),
        "a_late_failure_with_a_retry_hint" => bench.result(Status::Error, |o| {
            (o.latency_ms, o.retry_after_ms) = (Some(before_the_transition), Some(200_000));
        }),
        "a_result_that_counts_as_neither" => bench.result(Status::Cancelled, |_| {}),
        "the_success_of_a_probe" | "the_success_that_fills_success_threshold" => {
            bench.probe("first", Status::Success)
        }
        "the_failure_of_a_probe" => bench.probe("first", Status::Error),
        "a_slow_success_of_a_probe" => bench.result(Status::Success, |o| {
            slow(o);
            o.request_id = Some("first".into());
        }),
        "a_probe_that_counts_as_neither" => bench.probe("first", Status::Cancelled),
        "a_claim" => bench.apply(Input::Claim(claim("new", now))),
        "a_claim_past_its_latest_stamp" => bench.apply(Input::Claim(claim("new", now.minus(1)))),
        "a_claim_of_a_request_that_holds_a_slot" => bench.apply(Input::Claim(claim("first", now))),
        "a_release_of_a_slot" => bench.apply(Input::Release(ClaimId(1))),
        "a_release_of_no_slot" | "an_input_at_the_end_of_its_ttl" | "an_input_at_the_end_of_a_lease" => {
            bench.apply(Input::Release(ClaimId(70)))
        }
        "force_open" => bench.force(State::Open, None),
        "force_closed" => bench.force(State::Closed, None),
        "auto" => bench.apply(Input::Unforce),
        "reset" => bench.apply(Input::Reset),
        "other_settings" => bench.configure(|d| d.failure_threshold = 1),
        "settings_that_disable" => bench.configure(|d| d.enabled = false),
        "settings_that_enable" => bench.configure(|d| d.enabled = true),
        "flag_off" => bench.apply(Input::Suspend(true)),
        "flag_on" => bench.apply(Input::Suspend(false)),
        "the_clock_set_back" => bench.apply(Input::ClockSetBack),
        _ => panic!("no such input: {input}"),
    }
}
