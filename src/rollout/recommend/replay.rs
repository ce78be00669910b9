use std::borrow::Cow;
use std::sync::Arc;

use super::calls::{Call, Calls, End, Provider};
use super::outages::Outage;
use crate::breaker::{Breaker, Claim, Effect, Input, Position, Settings, State, Verdict};
use crate::domain::{ClaimId, Outcome, Stamp};

/// Calls that begin after an open and say whether it was needless.
const WITNESSES: usize = 10;
/// With fewer of them nothing is said.
const FEWEST_WITNESSES: usize = 5;

/// What one setting would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Closed circuits that opened. A failed probe makes no further open.
    pub opens: u64,
    /// Those while the provider was well.
    pub needless_opens: u64,
    /// Those that too few calls saw to tell.
    pub unexplained_opens: u64,
    /// Outages in which the circuit was open at some time.
    pub outages_detected: u64,
    /// Outages in which it never was.
    pub outages_missed: u64,
    /// From the first failure of each outage detected to the open, in milliseconds, shortest first.
    pub delays_ms: Vec<u64>,
    /// Successes that would have been refused, in thousandths: weighted.
    pub successes_refused_milli: u64,
    /// Failures that would have been spared, in thousandths: weighted.
    pub failures_spared_milli: u64,
}

impl Replayed {
    /// The delay that half of the outages detected do not exceed.
    #[must_use]
    pub fn median_delay_ms(&self) -> Option<u64> {
        self.delays_ms.get(self.delays_ms.len().checked_sub(1)? / 2).copied()
    }

    /// Failures spared less successes refused, in thousandths.
    #[must_use]
    pub fn gain_milli(&self) -> i128 {
        i128::from(self.failures_spared_milli) - i128::from(self.successes_refused_milli)
    }
}

/// What the replayed breaker said to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Passed,
    Probe,
    Refused,
}

/// A time in which a circuit was not closed.
#[derive(Clone, Copy, Debug)]
struct Opened {
    at: Stamp,
    /// The end of its first open time.
    until: Stamp,
    closed_at: Stamp,
}

/// The calls to one provider, made ready to be replayed.
pub(super) struct Schedule<'c> {
    calls: Vec<&'c Call>,
    weights: Vec<u64>,
    /// Begins and ends of calls in the order of time.
    events: Vec<Event>,
    /// When calls began that succeeded or failed, and whether they failed; in the order of time.
    own: Vec<(Stamp, bool)>,
    elsewhere: Vec<(Stamp, bool)>,
    outages: &'c [Outage],
}

/// At one moment what begins comes before what ends, so that a call which took no time begins before it ends; what
/// ends is in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Stamp,
    is_end: bool,
    call: usize,
}

impl<'c> Schedule<'c> {
    pub(super) fn new(all: &Calls, provider: &'c Provider, outages: &'c [Outage]) -> Self {
        let calls: Vec<&Call> = provider.own.iter().collect();
        let mut events = Vec::with_capacity(calls.len() * 2);
        let mut own = Vec::with_capacity(calls.len());
        for (number, call) in calls.iter().enumerate() {
            events.push(Event { at: call.began, is_end: false, call: number });
            events.push(Event { at: call.ended, is_end: true, call: number });
            if call.end != End::Neutral {
                own.push((call.began, call.end == End::Failed));
            }
        }
        events.sort_unstable();
        own.sort_unstable();
        let mut elsewhere: Vec<_> = provider.elsewhere.iter().map(|w| (w.began, w.failed)).collect();
        elsewhere.sort_unstable();
        let weights = calls.iter().map(|call| all.weight(call)).collect();
        Self { calls, weights, events, own, elsewhere, outages }
    }

    /// Replays the calls through a breaker of these settings and adds what it would have done.
    pub(super) fn replay(&self, settings: &Arc<Settings>, into: &mut Replayed) {
        let start = self.events.first().map_or(Stamp(0), |event| event.at);
        let mut breaker = Breaker::new(Arc::clone(settings), 0, start);
        let mut admissions = vec![Admission::Passed; self.calls.len()];
        let mut opened: Vec<Opened> = Vec::new();
        for event in &self.events {
            let (Some(call), Some(admission)) = (self.calls.get(event.call), admissions.get_mut(event.call))
            else {
                continue;
            };
            let effect = if event.is_end {
                if *admission == Admission::Refused {
                    continue;
                }
                let outcome = Outcome {
                    request_id: (*admission == Admission::Probe).then(|| Cow::Owned(name(event.call))),
                    latency_ms: call.latency_ms,
                    error_code: call.error_code.as_deref().map(Cow::Borrowed),
                    retry_after_ms: call.retry_after_ms,
                    ..Outcome::of("", "", call.status, 0)
                };
                let elapsed_ms = event.at.since(call.began);
                breaker.apply(&Input::Ended { outcome: &outcome, elapsed_ms }, event.at)
            } else {
                let claims = match breaker.gate().position {
                    Position::Pass => continue,
                    Position::Refuse { until } => until.is_some_and(|until| event.at >= until),
                    Position::Probe { .. } => true,
                };
                let effect = if claims { claim(&mut breaker, event) } else { Effect::default() };
                *admission = match effect.verdict {
                    Some(Verdict::Granted) => Admission::Probe,
                    Some(Verdict::NotNeeded) => Admission::Passed,
                    Some(Verdict::Refused { .. }) | None => Admission::Refused,
                };
                if *admission == Admission::Refused {
                    let weight = self.weights.get(event.call).copied().unwrap_or(0);
                    match call.end {
                        End::Succeeded => into.successes_refused_milli += weight,
                        End::Failed => into.failures_spared_milli += weight,
                        End::Neutral => {}
                    }
                }
                effect
            };
            for transition in &effect.transitions {
                match (transition.from, transition.to) {
                    (State::Closed, State::Open) => opened.push(Opened {
                        at: transition.at,
                        until: transition.open_until.unwrap_or(transition.at),
                        closed_at: Stamp(u64::MAX),
                    }),
                    (_, State::Closed) => {
                        if let Some(last) = opened.last_mut() {
                            last.closed_at = transition.at;
                        }
                    }
                    _ => {}
                }
            }
        }
        self.judge_opens(&opened, into);
        self.judge_outages(&opened, into);
    }

    fn judge_opens(&self, opened: &[Opened], into: &mut Replayed) {
        for open in opened {
            into.opens += 1;
            match is_needless(&self.own, open).or_else(|| is_needless(&self.elsewhere, open)) {
                Some(true) => into.needless_opens += 1,
                Some(false) => {}
                None => into.unexplained_opens += 1,
            }
        }
    }

    fn judge_outages(&self, opened: &[Opened], into: &mut Replayed) {
        for outage in self.outages {
            // The first that had not closed again before the outage began.
            let first = opened.partition_point(|open| open.closed_at <= outage.from);
            match opened.get(first).filter(|open| open.at <= outage.to) {
                Some(open) => {
                    into.outages_detected += 1;
                    into.delays_ms.push(open.at.since(outage.from));
                }
                None => into.outages_missed += 1,
            }
        }
    }
}

/// Whether fewer than half of the first calls failed that began after an open, within its first open time; `None`
/// where there are too few.
fn is_needless(calls: &[(Stamp, bool)], open: &Opened) -> Option<bool> {
    let first = calls.partition_point(|(began, _)| *began <= open.at);
    let seen = calls.iter().skip(first).take_while(|(began, _)| *began < open.until).take(WITNESSES);
    let (mut all, mut failed) = (0, 0);
    for (_, call_failed) in seen {
        all += 1;
        failed += usize::from(*call_failed);
    }
    (all >= FEWEST_WITNESSES).then_some(failed * 2 < all)
}

/// By which a probe is known. Each call has a name of its own, since a request may make several.
fn name(call: usize) -> String {
    call.to_string()
}

fn claim(breaker: &mut Breaker, event: &Event) -> Effect {
    let claim = Claim {
        request_id: &name(event.call),
        claim: ClaimId(u64::try_from(event.call).unwrap_or(u64::MAX)),
        latest: event.at,
        lease_ms: 0,
    };
    breaker.apply(&Input::Claim(claim), event.at)
}
