//! Random settings and schedules of inputs. A step is drawn before the breaker is known, so it names
//! what matters by its meaning ("at the deadline", "the request that holds the second slot") and is
//! resolved against the breaker as it runs.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{DAY_MS, checked, outcome};
use crate::breaker::machine::Phase;
use crate::breaker::{Breaker, Claim, Effect, Input, SettingsDraft, State};
use crate::domain::{ClaimId, Outcome, Stamp, Status};

/// An input that owns what it holds.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Result(Outcome<'static>),
    Claim { request: String, claim: ClaimId, latest: Stamp, lease_ms: u64 },
    Release(ClaimId),
    Force { to: State, ttl_ms: Option<u64> },
    Unforce,
    Reset,
    Configure(SettingsDraft),
    Suspend(bool),
    ClockSetBack,
}

impl Event {
    pub(super) fn give(&self, breaker: &mut Breaker, now: Stamp) -> Effect {
        let input = match self {
            Self::Result(outcome) => Input::Result(outcome),
            Self::Claim { request, claim, latest, lease_ms } => Input::Claim(Claim {
                request_id: request,
                claim: *claim,
                latest: *latest,
                lease_ms: *lease_ms,
            }),
            Self::Release(claim) => Input::Release(*claim),
            Self::Force { to, ttl_ms } => Input::Force { to: *to, ttl_ms: *ttl_ms },
            Self::Unforce => Input::Unforce,
            Self::Reset => Input::Reset,
            Self::Configure(draft) => Input::Configure(checked(draft)),
            Self::Suspend(off) => Input::Suspend(*off),
            Self::ClockSetBack => Input::ClockSetBack,
        };
        breaker.apply(&input, now)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    gap: Gap,
    act: Act,
}

#[derive(Clone, Debug)]
enum Gap {
    Ms(u64),
    Days(u64),
    Bucket,
    Window,
    /// To this many milliseconds from the soonest of the deadlines that run, if any runs.
    Deadline(i64),
}

#[derive(Clone, Debug)]
enum Act {
    Result {
        status: Status,
        who: Who,
        began: Began,
        code: Option<&'static str>,
        retry_after_ms: Option<u64>,
        cost: Option<u64>,
    },
    Claim {
        who: Who,
        lease_ms: u64,
        latest: i64,
    },
    Release(Who),
    Force(State, Option<u64>),
    Unforce,
    Reset,
    Configure(SettingsDraft),
    Suspend(bool),
    ClockSetBack(u64),
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Nobody,
    Request(u8),
    /// Who holds the n-th slot.
    Slot(usize),
}

#[derive(Clone, Copy, Debug)]
enum Began {
    Unknown,
    Ms(u64),
    /// This long after the latest transition, as its latency tells.
    AfterTransition(i64),
    /// Written this long before (after, if negative) the stamp, with this latency.
    Written(i64, u64),
}

/// Gives a breaker each step in turn. `see` is given the breaker before and after, the input, its stamp
/// and its effect.
pub(super) fn run(
    breaker: &mut Breaker,
    start: Stamp,
    steps: &[Step],
    mut see: impl FnMut(&Breaker, &Breaker, &Event, Stamp, &Effect) -> Result<(), TestCaseError>,
) -> Result<Stamp, TestCaseError> {
    let mut now = start;
    for (n, step) in (0..).zip(steps) {
        now = step.when(breaker, now);
        let event = step.event(breaker, now, n);
        let before = breaker.clone();
        let effect = event.give(breaker, now);
        see(&before, breaker, &event, now, &effect)?;
    }
    Ok(now)
}

/// Who holds slots, in order.
pub(super) fn slots(breaker: &Breaker) -> Vec<(String, ClaimId, Stamp)> {
    match &breaker.phase {
        Phase::HalfOpen { leases, .. } => {
            leases.iter().map(|l| (l.request_id.to_string(), l.claim, l.deadline)).collect()
        }
        _ => Vec::new(),
    }
}

impl Step {
    fn when(&self, breaker: &Breaker, now: Stamp) -> Stamp {
        if let Act::ClockSetBack(ms) = self.act {
            return now.minus(ms).max(Stamp(DAY_MS));
        }
        let window_ms = breaker.settings().window_ms();
        match self.gap {
            Gap::Ms(ms) => now.plus(ms),
            Gap::Days(days) => now.plus(days * DAY_MS),
            Gap::Bucket => now.plus(window_ms / 10),
            Gap::Window => now.plus(window_ms),
            Gap::Deadline(offset) => {
                let leases = slots(breaker).into_iter().map(|(_, _, deadline)| deadline);
                let force = breaker.view(now).forced.and_then(|(_, until)| until);
                let near = now.0..now.plus(100 * DAY_MS).0;
                let soonest =
                    leases.chain(breaker.open_until()).chain(force).filter(|d| near.contains(&d.0)).min();
                soonest.map_or(now, |d| Stamp(d.0.saturating_add_signed(offset)).max(now))
            }
        }
    }

    fn event(&self, breaker: &Breaker, now: Stamp, n: u64) -> Event {
        let held = |at: usize| {
            let slots = slots(breaker);
            slots.get(at % slots.len().max(1)).cloned()
        };
        match &self.act {
            Act::Result { status, who, began, code, retry_after_ms, cost } => {
                let mut o = outcome(*status);
                o.request_id = match *who {
                    Who::Nobody => None,
                    Who::Request(r) => Some(format!("r{r}").into()),
                    Who::Slot(at) => held(at).map(|(request, ..)| request.into()),
                };
                let last = breaker.view(now).last_transition.unwrap_or(now);
                (o.latency_ms, o.timestamp_ms) = match *began {
                    Began::Unknown => (None, None),
                    Began::Ms(ms) => (Some(ms), None),
                    Began::AfterTransition(ms) => {
                        (Some(now.since(Stamp(last.0.saturating_add_signed(ms)))), None)
                    }
                    Began::Written(ago, latency) => (Some(latency), Some(now.0.saturating_add_signed(-ago))),
                };
                o.error_code = code.map(Into::into);
                o.retry_after_ms = *retry_after_ms;
                o.cost_nanos = *cost;
                Event::Result(o)
            }
            Act::Claim { who, lease_ms, latest } => {
                let request = match *who {
                    Who::Slot(at) => held(at).map_or_else(|| "r0".to_owned(), |(request, ..)| request),
                    Who::Request(r) => format!("r{r}"),
                    Who::Nobody => format!("n{n}"),
                };
                let latest = Stamp(now.0.saturating_add_signed(*latest));
                Event::Claim { request, claim: ClaimId(n), latest, lease_ms: *lease_ms }
            }
            Act::Release(Who::Slot(at)) => {
                Event::Release(held(*at).map_or(ClaimId(n), |(_, claim, _)| claim))
            }
            Act::Release(_) => Event::Release(ClaimId(u64::MAX)),
            Act::Force(to, ttl_ms) => Event::Force { to: *to, ttl_ms: *ttl_ms },
            Act::Unforce => Event::Unforce,
            Act::Reset => Event::Reset,
            Act::Configure(draft) => Event::Configure(draft.clone()),
            Act::Suspend(off) => Event::Suspend(*off),
            Act::ClockSetBack(_) => Event::ClockSetBack,
        }
    }
}

// ---- what is drawn ----

pub(super) fn settings() -> impl Strategy<Value = Arc<crate::breaker::Settings>> {
    drafts().prop_map(|d| checked(&d))
}

/// Small thresholds, so that a hundred steps go through many states.
pub(super) fn drafts() -> impl Strategy<Value = SettingsDraft> {
    let shares = || select(vec![0.05, 0.25, 1.0 / 3.0, 0.5, 0.75, 1.0]);
    let judging =
        (prop::bool::weighted(0.9), 1u64..7, shares(), select(vec![1u64, 2, 10, 60, 3_600]), 1u64..9);
    let recovering = (
        select(vec![1_000u64, 2_500, 30_000, 300_000]),
        1u64..5,
        1u64..5,
        select(vec![1_000u64, 7_000, 300_000]),
    );
    let slow = (prop::option::of(select(vec![1u64, 500, 1_000])), shares());
    let waiting = (
        select(vec![1.0, 1.5, 2.0, 10.0]),
        select(vec![0u64, 1_000, 100_000, 3_300_000]),
        select(vec![0.0, 0.0, 0.1, 0.5]),
    );
    let reading = (
        select(vec![
            vec![Status::Error, Status::Timeout],
            vec![Status::Timeout],
            vec![],
            Status::ALL[1..].to_vec(),
        ]),
        select(vec![vec![], vec!["bad_request".to_owned()]]),
        select(vec![0u64, 50, 100]),
    );
    (judging, recovering, slow, waiting, reading).prop_map(|(judging, recovering, slow, waiting, reading)| {
        SettingsDraft {
            enabled: judging.0,
            failure_threshold: judging.1,
            error_rate_threshold: judging.2,
            error_rate_window_seconds: judging.3,
            minimum_requests: judging.4,
            timeout_ms: recovering.0,
            success_threshold: recovering.1,
            half_open_max_calls: recovering.2,
            probe_timeout_ms: recovering.3,
            latency_threshold_ms: slow.0,
            slow_call_rate_threshold: slow.1,
            backoff_multiplier: waiting.0,
            max_timeout_ms: recovering.0 + waiting.1,
            jitter_ratio: waiting.2,
            failure_statuses: reading.0,
            ignored_error_codes: reading.1,
            enforce_percent: reading.2,
        }
    })
}

/// Up to `most` steps; half of the schedules are free of operators, so that the breaker's own
/// judgement is seen at length.
pub(super) fn schedule(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let calm = (gap(), prop_oneof![8 => result(), 5 => claim(), 1 => release()]);
    let busy = (gap(), prop_oneof![16 => result(), 9 => claim(), 2 => release(), 7 => command()]);
    let step = |(gap, act)| Step { gap, act };
    prop_oneof![vec(calm.prop_map(step), 1..most), vec(busy.prop_map(step), 1..most)]
}

fn gap() -> impl Strategy<Value = Gap> {
    prop_oneof![
        6 => Just(Gap::Ms(0)),
        6 => (1u64..2_000).prop_map(Gap::Ms),
        2 => (2_000u64..400_000).prop_map(Gap::Ms),
        1 => (1u64..=100).prop_map(Gap::Days),
        1 => Just(Gap::Bucket),
        1 => Just(Gap::Window),
        4 => (-1i64..=1).prop_map(Gap::Deadline),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![1 => Just(Who::Nobody), 1 => (0u8..6).prop_map(Who::Request), 3 => (0usize..4).prop_map(Who::Slot)]
}

fn result() -> impl Strategy<Value = Act> {
    let status = prop_oneof![
        5 => Just(Status::Success),
        5 => Just(Status::Error),
        1 => Just(Status::Timeout),
        1 => Just(Status::Cancelled)
    ];
    let began = prop_oneof![
        3 => Just(Began::Unknown),
        4 => (0u64..1_500).prop_map(Began::Ms),
        1 => (-1i64..=1).prop_map(Began::AfterTransition),
        1 => (-5_000i64..70_000, 0u64..1_500).prop_map(|(ago, latency)| Began::Written(ago, latency)),
    ];
    let code = select(vec![None, None, Some("bad_request"), Some("overloaded")]);
    let retry = prop_oneof![3 => Just(None), 1 => (0u64..400_000).prop_map(Some), 1 => Just(Some(u64::MAX))];
    (status, who(), began, code, retry, prop::option::of(0u64..5_000_000)).prop_map(
        |(status, who, began, code, retry_after_ms, cost)| Act::Result {
            status,
            who,
            began,
            code,
            retry_after_ms,
            cost,
        },
    )
}

fn claim() -> impl Strategy<Value = Act> {
    let who = prop_oneof![2 => Just(Who::Nobody), 2 => (0u8..6).prop_map(Who::Request), 1 => (0usize..4).prop_map(Who::Slot)];
    (who, select(vec![0u64, 5_000, 61_000]), select(vec![-1i64, 0, 1, 50, 50]))
        .prop_map(|(who, lease_ms, latest)| Act::Claim { who, lease_ms, latest })
}

fn release() -> impl Strategy<Value = Act> {
    prop_oneof![3 => (0usize..4).prop_map(|at| Act::Release(Who::Slot(at))), 1 => Just(Act::Release(Who::Nobody))]
}

fn command() -> impl Strategy<Value = Act> {
    let ttl = prop_oneof![Just(None), (0u64..100_000).prop_map(Some), Just(Some(u64::MAX))];
    prop_oneof![
        2 => (select(State::ALL.to_vec()), ttl).prop_map(|(to, ttl_ms)| Act::Force(to, ttl_ms)),
        2 => Just(Act::Unforce),
        1 => Just(Act::Reset),
        4 => drafts().prop_map(Act::Configure),
        1 => Just(Act::Suspend(true)),
        3 => Just(Act::Suspend(false)),
        1 => prop_oneof![300_000u64..400_000, Just(10 * DAY_MS), Just(u64::MAX)].prop_map(Act::ClockSetBack),
    ]
}

/// A configuration that runs at least so many cases; `PROPTEST_CASES` can only raise it.
pub(super) fn at_least(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(cases), ..config }
}
