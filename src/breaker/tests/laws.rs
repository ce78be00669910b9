//! What holds over any schedule of inputs, said without a second breaker.

use proptest::prelude::*;

use super::schedule::{Event, Step, at_least, run, schedule, settings, slots};
use super::{Bench, START, draft, outcome};
use crate::breaker::{Breaker, Cause, Effect, Input, Position, State, Verdict};
use crate::domain::{ClaimId, Disposition, Stamp, Status};

type Checked = Result<(), TestCaseError>;

fn over(
    settings: std::sync::Arc<crate::breaker::Settings>,
    seed: u64,
    steps: &[Step],
    law: impl FnMut(&Breaker, &Breaker, &Event, Stamp, &Effect) -> Checked,
) -> Result<(Breaker, Stamp), TestCaseError> {
    let mut breaker = Breaker::new(settings, seed, START);
    let end = run(&mut breaker, START, steps, law)?;
    Ok((breaker, end))
}

/// Who holds slots that have not run out.
fn live(breaker: &Breaker, now: Stamp) -> Vec<String> {
    slots(breaker)
        .into_iter()
        .filter(|(_, _, deadline)| *deadline > now)
        .map(|(request, ..)| request)
        .collect()
}

fn forced(breaker: &Breaker, now: Stamp) -> Option<(State, Option<Stamp>)> {
    breaker.view(now).forced
}

proptest! {
    #![proptest_config(at_least(150))]

    #[test]
    fn slots_never_exceed_the_cap_as_it_was_when_each_was_granted(s in settings(), seed: u64, steps in schedule(100)) {
        over(s, seed, &steps, |before, after, _, now, effect| {
            let held = live(after, now);
            let cap = after.settings().half_open_max_calls() as usize;
            if effect.verdict == Some(Verdict::Granted) {
                prop_assert!(held.len() <= cap, "{} of {cap}", held.len());
                let requests: std::collections::BTreeSet<_> = held.iter().collect();
                prop_assert_eq!(requests.len(), held.len(), "one slot a request");
            } else if !matches!(effect.transitions.first(), Some(t) if t.cause == Cause::ForceLifted) {
                prop_assert!(held.len() <= slots(before).len(), "only a grant takes a slot");
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_forced_state_moves_only_by_force_or_its_ttl(s in settings(), seed: u64, steps in schedule(100)) {
        over(s, seed, &steps, |before, after, event, now, _| {
            let Some((to, until)) = forced(before, now) else { return Ok(()) };
            let by_force = matches!(event, Event::Force { .. } | Event::Unforce);
            if !by_force && until.is_none_or(|until| now < until) {
                prop_assert_eq!(forced(after, now).map(|f| f.0), Some(to));
                prop_assert_eq!(after.state(), if after.view(now).suspended { State::Closed } else { to });
            }
            if until.is_some_and(|until| now >= until) && !matches!(event, Event::Force { .. }) {
                prop_assert_eq!(forced(after, now), None);
            }
            Ok(())
        })?;
    }

    #[test]
    fn open_grants_nothing_and_stays_open_until_its_deadline(s in settings(), seed: u64, steps in schedule(100)) {
        over(s, seed, &steps, |before, after, event, now, effect| {
            let shown = before.view(now);
            if shown.state != State::Open || shown.remaining_ms == Some(0) {
                return Ok(());
            }
            prop_assert_ne!(effect.verdict, Some(Verdict::Granted));
            if let Event::Result(_) | Event::Claim { .. } | Event::Release(_) | Event::ClockSetBack = event {
                prop_assert_eq!(after.state(), State::Open);
                prop_assert!(after.view(now).remaining_ms != Some(0));
            }
            Ok(())
        })?;
    }

    #[test]
    fn the_window_is_empty_after_a_close_and_so_is_the_row(s in settings(), seed: u64, steps in schedule(100)) {
        over(s, seed, &steps, |_, after, _, now, effect| {
            // A result that ends a force by its stamp is itself the first to be counted afterwards.
            let counted = u32::from(effect.judged.is_some_and(|j| j.disposition == Disposition::Applied));
            for t in &effect.transitions {
                let lifted = t.cause == Cause::ForceLifted;
                let flag = t.cause == Cause::Flag && forced(after, now).is_none();
                let closes = matches!(t.cause, Cause::ProbesSucceeded | Cause::Disabled | Cause::Reset);
                if closes || flag || lifted {
                    let view = after.view(now);
                    let left = if lifted { counted } else { 0 };
                    prop_assert!(view.window.requests <= left && view.failures_in_a_row <= left, "{:?}", t.cause);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn equal_inputs_make_equal_breakers_with_equal_digests(s in settings(), seed: u64, steps in schedule(100)) {
        let mut twin = Breaker::new(s.clone(), seed, START);
        over(s, seed, &steps, |_, after, event, now, effect| {
            prop_assert_eq!(effect, &event.give(&mut twin, now));
            prop_assert_eq!(after, &twin);
            prop_assert_eq!(after.digest(), twin.digest());
            Ok(())
        })?;
    }

    #[test]
    fn the_digest_differs_after_an_input_exactly_if_the_breaker_does(s in settings(), seed: u64, steps in schedule(100)) {
        let mut all = std::collections::HashMap::new();
        over(s, seed, &steps, |before, after, event, _, _| {
            prop_assert_eq!(before == after, before.digest() == after.digest(), "{:?}", event);
            // Nor does it equal that of any other state on the way.
            let same = all.entry(after.digest()).or_insert_with(|| after.clone());
            prop_assert_eq!(&*same, after);
            Ok(())
        })?;
    }

    #[test]
    fn one_flipped_result_makes_another_digest(s in settings(), seed: u64, steps in schedule(60), at: prop::sample::Index) {
        let digests = |flip: Option<u64>| {
            let mut n = 0;
            let mut applied = Vec::new();
            let mut breaker = Breaker::new(s.clone(), seed, START);
            let mut twin = breaker.clone();
            run(&mut breaker, START, &steps, |_, _, event, now, _| {
                let mut event = event.clone();
                if let (true, Event::Result(o)) = (flip == Some(n), &mut event) {
                    o.cost_nanos = Some(o.cost_nanos.unwrap_or(0) + 1);
                }
                let effect = event.give(&mut twin, now);
                let kept = effect.judged.is_some_and(|j| j.disposition == Disposition::Applied) && effect.transitions.is_empty();
                applied.push((twin.digest(), kept));
                n += 1;
                Ok(())
            }).map(|_| applied)
        };
        let honest = digests(None)?;
        let judged: Vec<_> = (0u64..).zip(&honest).filter(|(_, (_, kept))| *kept).map(|(n, _)| n).collect();
        if !judged.is_empty() {
            let n = *at.get(&judged);
            let flipped = digests(Some(n))?;
            prop_assert_ne!(honest[n as usize].0, flipped[n as usize].0);
        }
    }

    /// The gate is all that the decide path sees.
    #[test]
    fn the_gate_agrees_with_what_a_claim_is_then_told(s in settings(), seed: u64, steps in schedule(100), wait in 0u64..100_000) {
        over(s, seed, &steps, |_, after, _, now, _| {
            for now in [now, now.plus(wait)] {
                let event = Event::Claim { request: "new".into(), claim: ClaimId(u64::MAX), latest: now, lease_ms: 0 };
                let mut asked = after.clone();
                let verdict = event.give(&mut asked, now).verdict.unwrap();
                let full = live(after, now).len() >= after.settings().half_open_max_calls() as usize;
                match after.gate().position {
                    Position::Pass => prop_assert_eq!(verdict, Verdict::NotNeeded),
                    Position::Refuse { until } if until.is_none_or(|until| now < until) => {
                        let is_refused = matches!(verdict, Verdict::Refused { state: State::Open, .. });
                        prop_assert!(is_refused, "{:?}", verdict);
                        if let (Some(until), Verdict::Refused { retry_after_ms, .. }) = (until, verdict) {
                            prop_assert_eq!(retry_after_ms, until.since(now));
                        }
                    }
                    // Past the end of an open time it is granted; past a force's, what its settings say.
                    Position::Refuse { .. } => prop_assert_eq!(
                        verdict, if after.settings().enabled() { Verdict::Granted } else { Verdict::NotNeeded }
                    ),
                    Position::Probe { free, next_expiry } => {
                        prop_assert_eq!(verdict == Verdict::Granted, !full);
                        if free > 0 {
                            prop_assert_eq!(verdict, Verdict::Granted);
                        } else if next_expiry.is_none_or(|at| now < at) {
                            prop_assert_ne!(verdict, Verdict::Granted);
                        }
                    }
                }
            }
            Ok(())
        })?;
    }

    /// A result that is not applied changes no evidence; one that is late changes at most how long an
    /// open circuit is held.
    #[test]
    fn what_is_ignored_or_late_judges_nothing(s in settings(), seed: u64, steps in schedule(100)) {
        over(s, seed, &steps, |before, after, event, now, effect| {
            let (Event::Result(_), Some(judged)) = (event, effect.judged) else { return Ok(()) };
            if judged.disposition == Disposition::Applied || !effect.transitions.is_empty() {
                return Ok(());
            }
            let (was, is) = (before.view(now), after.view(now));
            prop_assert_eq!(was.window, is.window);
            prop_assert_eq!(was.failures_in_a_row, is.failures_in_a_row);
            prop_assert_eq!(was.successes_in_a_row, is.successes_in_a_row);
            prop_assert_eq!(was.state, is.state);
            prop_assert!(is.remaining_ms >= was.remaining_ms);
            if judged.disposition == Disposition::Late {
                prop_assert!(!judged.probe);
                prop_assert_eq!(was.half_open_in_flight, is.half_open_in_flight);
            }
            Ok(())
        })?;
    }

    /// Whatever happened, once the provider is well and nobody forces anything the circuit closes:
    /// no schedule wedges it.
    #[test]
    fn whatever_happened_it_closes_once_its_provider_is_well(s in settings(), seed: u64, steps in schedule(100)) {
        let (mut breaker, end) = over(s, seed, &steps, |_, _, _, _, _| Ok(()))?;
        Event::Unforce.give(&mut breaker, end);
        Event::Suspend(false).give(&mut breaker, end);
        // Longer than any open time and any lease.
        let mut now = end.plus(4_000_000);
        for n in 0..10 {
            if breaker.state() == State::Closed {
                break;
            }
            let request = format!("well-{n}");
            let claim = Event::Claim { request: request.clone(), claim: ClaimId(1_000 + n), latest: now, lease_ms: 0 };
            prop_assert_eq!(claim.give(&mut breaker, now).verdict, Some(Verdict::Granted));
            now = now.plus(1);
            let mut good = outcome(Status::Success);
            good.request_id = Some(request.into());
            prop_assert!(Event::Result(good).give(&mut breaker, now).judged.unwrap().probe);
        }
        prop_assert_eq!(breaker.state(), State::Closed);
    }

    /// Nor does any input panic, with numbers as large as they come and a clock that jumps anywhere.
    #[test]
    fn no_number_is_too_large(
        s in settings(), seed: u64,
        steps in prop::collection::vec((0u8..9, extreme(), extreme(), extreme(), any::<bool>()), 1..60),
    ) {
        let mut breaker = Breaker::new(s.clone(), seed, Stamp(0));
        for (kind, at, a, b, flag) in steps {
            let now = Stamp(at);
            let event = match kind {
                0..=2 => {
                    let mut o = outcome(if flag { Status::Success } else { Status::Error });
                    (o.latency_ms, o.cost_nanos, o.timestamp_ms, o.retry_after_ms) = (Some(a), Some(b), Some(b), Some(a));
                    o.request_id = Some("probe".into());
                    Event::Result(o)
                }
                3 => Event::Claim { request: "probe".into(), claim: ClaimId(a), latest: Stamp(b), lease_ms: a },
                4 => Event::Release(ClaimId(a)),
                5 => Event::Force { to: if flag { State::Open } else { State::HalfOpen }, ttl_ms: Some(a) },
                6 => Event::Unforce,
                7 => Event::Configure(draft(|d| d.error_rate_window_seconds = 1 + a % 3_600)),
                _ => Event::ClockSetBack,
            };
            event.give(&mut breaker, now);
            let then = Stamp(b);
            let counts = breaker.view(then).window;
            let _ = (counts.mean_latency_ms(), counts.mean_cost_nanos(), counts.error_rate());
            let _ = (breaker.gate(), breaker.digest());
        }
    }
}

fn extreme() -> impl Strategy<Value = u64> {
    let near = |n: u64| (0u64..3).prop_map(move |d| n.saturating_sub(d));
    prop_oneof![near(2), near(u64::MAX), near(1 << 63), near(1 << 32), any::<u64>(), Just(START.0)]
}

#[test]
fn the_mean_of_a_saturated_sum_is_no_overflow() {
    let mut bench = Bench::new(|_| {});
    for _ in 0..3 {
        bench.result(Status::Success, |o| (o.cost_nanos, o.latency_ms) = (Some(u64::MAX), Some(u64::MAX)));
    }
    assert_eq!(bench.breaker.counts(bench.now).mean_cost_nanos(), u64::MAX / 3);
}

#[test]
fn the_same_results_in_another_order_make_another_row_and_so_another_digest() {
    let mut one = Bench::new(|_| {});
    let mut other = one.clone();
    one.successes(1).failures(1);
    other.failures(1).successes(1);
    assert_eq!(one.window(), other.window());
    assert_ne!(one.breaker.digest(), other.breaker.digest());
}

#[test]
fn forces_with_the_longest_ttls_differ_in_their_digests() {
    let with = |ttl_ms| {
        let mut bench = Bench::new(|_| {});
        bench.force(State::Open, ttl_ms);
        bench.breaker
    };
    assert_ne!(with(Some(u64::MAX)).digest(), with(Some(u64::MAX - 1)).digest());
    assert_ne!(with(Some(0)).digest(), with(None).digest());
}

/// A provider that fails for a year reopens millions of times; what is left of the open time is asked
/// for at every input.
#[test]
fn a_multiplier_too_small_to_lengthen_the_wait_costs_no_steps() {
    let settings = super::checked(&draft(|d| (d.timeout_ms, d.backoff_multiplier) = (1_000, 1.000_1)));
    for trip in 0..100 {
        assert_eq!(settings.open_ms(u32::MAX, trip, 1), 1_000);
    }
}

#[test]
fn an_idle_gap_of_any_length_costs_no_more_than_a_short_one() {
    let mut bench = Bench::new(|d| d.minimum_requests = 10_000);
    for gap in [0, 1, u64::from(u32::MAX), u64::MAX / 4, u64::MAX / 4] {
        bench.after(gap).success();
        bench.apply(Input::Release(ClaimId(1)));
        assert_eq!(bench.breaker.counts(bench.now).requests, if gap < 2 { bench.window().0 } else { 1 });
    }
}
