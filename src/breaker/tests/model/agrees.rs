use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::Model;
use crate::breaker::tests::schedule::{Event, at_least, drafts, run, schedule};
use crate::breaker::tests::{START, checked};
use crate::breaker::{Breaker, Cause, Effect, Verdict};
use crate::domain::Stamp;

/// Disposition, verdict, transitions, slots, view and gate, after each input of any schedule, under
/// settings that change on the way.
#[test]
fn the_machine_does_what_the_model_does_over_any_schedule() {
    let seen = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(at_least(1_000));
    let agreed = runner.run(&(drafts(), any::<u64>(), schedule(120)), |(draft, seed, steps)| {
        let mut breaker = Breaker::new(checked(&draft), seed, START);
        let mut model = Model::new(draft, seed, START);
        run(&mut breaker, START, &steps, |before, breaker, event, now, effect| {
            prop_assert_eq!(effect, &model.apply(event, now), "effect of {:?} at {}", event, now.0);
            // A view may be asked for at any time after the last input.
            for later in [0, seed % 100_000] {
                let then = now.plus(later);
                prop_assert_eq!(
                    breaker.view(then),
                    model.view(then),
                    "{} ms after {:?} at {}",
                    later,
                    event,
                    now.0
                );
            }
            prop_assert_eq!(breaker.gate(), model.gate(), "gate after {:?} at {}", event, now.0);
            note(&mut seen.borrow_mut(), before, event, effect, now);
            Ok(())
        })?;
        Ok(())
    });
    if let Err(difference) = agreed {
        panic!("{difference}");
    }
    // The schedules are worth nothing if they miss what they are for.
    let seen = seen.into_inner();
    for what in EXPECTED {
        assert!(seen.contains(*what), "no schedule came to: {what}; seen {seen:?}");
    }
}

const EXPECTED: &[&str] = &[
    "applied",
    "ignored",
    "late",
    "probe applied",
    "probe ignored",
    "granted",
    "not needed",
    "refused open",
    "refused half_open",
    "freed",
    "expired",
    "hold",
    "two transitions",
    "failure_threshold_exceeded",
    "error_rate_threshold_exceeded",
    "latency_threshold_exceeded",
    "half_open_failure",
    "timeout_elapsed",
    "probes_succeeded",
    "forced",
    "force_lifted",
    "reset",
    "disabled",
    "flag",
    "set back",
    "third trip",
    "resized with evidence",
];

fn note(seen: &mut BTreeSet<String>, before: &Breaker, event: &Event, effect: &Effect, now: Stamp) {
    let mut see = |what: &str| {
        if !seen.contains(what) {
            seen.insert(what.to_owned());
        }
    };
    if let Some(judged) = effect.judged {
        see(judged.disposition.as_str());
        if judged.probe {
            see(&format!("probe {}", judged.disposition.as_str()));
        }
    }
    match effect.verdict {
        Some(Verdict::Granted) => see("granted"),
        Some(Verdict::NotNeeded) => see("not needed"),
        Some(Verdict::Refused { state, .. }) => see(&format!("refused {}", state.as_str())),
        None => {}
    }
    if effect.freed.is_some() {
        see("freed");
    }
    if effect.expired_leases > 0 {
        see("expired");
    }
    if effect.transitions.len() > 1 {
        see("two transitions");
    }
    for t in &effect.transitions {
        see(t.cause.as_str());
        if t.trips > 2 {
            see("third trip");
        }
        let hint = if let Event::Result(o) = event { o.retry_after_ms.unwrap_or(0) } else { 0 };
        if t.cause != Cause::Forced && hint > 0 && t.open_until.is_some_and(|until| until >= now.plus(hint)) {
            see("hold");
        }
    }
    match event {
        Event::ClockSetBack => see("set back"),
        Event::Configure(draft)
            if before.counts(now).requests > 0
                && draft.error_rate_window_seconds * 1_000 != before.settings().window_ms() =>
        {
            see("resized with evidence");
        }
        _ => {}
    }
}
