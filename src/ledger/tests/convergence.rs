//! Two workers that apply the same log hold the same state, whatever else differs between them.

use super::snapshots::STREAM;
use super::steps::{overlay, rollout};
use super::upgrade::raise;
use super::*;
use crate::ledger::AHEAD;
use crate::log::{
    ArmTotals, EvidenceSettings, Fate, FoldVersion, JudgedWindow, Met, MetEntry, OverlaySettings, StepEntry,
    StepNumber, TallyEntry, WorkerRun,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

/// Short enough that windows close within a drawn log.
const EVIDENCE: EvidenceSettings =
    EvidenceSettings { block_ms: 20_000, settle_ms: 2_000, max_stale_ms: 60_000, sample_ppm: 700_000 };

/// An entry, and how long after the one before it it was stamped.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub(super) entry: Entry<'static>,
    gap_ms: i64,
}

impl Drawn {
    pub(super) fn stamp(&self, log: &mut Log) {
        log.at.stamp = Stamp(log.at.stamp.0.saturating_add_signed(self.gap_ms));
    }
}

const TENANTS: [&str; 3] = ["acme", "beta", "nobody"];
const PROVIDERS: [&str; 3] = ["a", "b", "local"];

fn documents() -> Vec<Option<Value>> {
    let mut with_target = document(&["a", "b"]);
    with_target["fallbacks"] = json!([{"to": "local"}]);
    let quick = json!({
        "enabled": true, "failure_threshold": 1, "success_threshold": 1, "half_open_max_calls": 1,
        "timeout_ms": 1_000, "probe_timeout_ms": 1_000, "error_rate_window_seconds": 1,
    });
    let odd = json!({
        "enabled": true, "failure_threshold": 2, "timeout_ms": 1_000, "backoff_multiplier": 2.0, "jitter_ratio": 0.3,
        "latency_threshold_ms": 500, "minimum_requests": 2, "ignored_error_codes": ["bad"], "enforce_percent": 30,
        "failure_statuses": ["error", "timeout", "cancelled"],
    });
    vec![
        Some(document(&["a", "b"])),
        Some(document(&["a"])),
        Some(with_target),
        Some(with_breaker(&["a", "b"], quick)),
        Some(with_breaker(&["a", "local"], odd)),
        Some(with_breaker(&["a", "b"], json!({"enabled": false}))),
        Some(json!({"providers": []})),
        None,
    ]
}

fn key() -> impl Strategy<Value = (&'static str, &'static str)> {
    (prop::sample::select(TENANTS.to_vec()), prop::sample::select(PROVIDERS.to_vec()))
}

fn revision() -> impl Strategy<Value = Revision> {
    (1_i64..4, 0_u64..20).prop_map(|(created, revision)| Revision { created, revision })
}

fn result() -> impl Strategy<Value = Entry<'static>> {
    let told = (
        prop::sample::select(Status::ALL.to_vec()),
        prop::option::of(0_u64..3_000),
        prop::option::of(0_u64..1_000_000),
        prop::option::of(Just("bad")),
        prop::option::weighted(0.2, 0_u64..20_000),
        prop::option::weighted(0.2, 0_u64..3_600_000),
    );
    (key(), 0_u64..8, any::<u16>(), prop::option::weighted(0.3, 0_u8..20), told).prop_map(
        |((tenant_id, provider_id), request, body, assignment, told)| {
            let (status, latency_ms, cost_nanos, error_code, retry_after_ms, written) = told;
            let assignment = assignment.map(|n| format!("x-{n}"));
            let identity = identity_of(tenant_id, assignment.as_deref(), &body.to_le_bytes());
            Entry::Result(Outcome {
                request_id: Some(format!("r{request}").into()),
                assignment_id: assignment.map(Cow::Owned),
                latency_ms,
                cost_nanos,
                error_code: error_code.map(Cow::Borrowed),
                retry_after_ms,
                timestamp_ms: written.map(|ms| START.0 + ms),
                ..outcome(tenant_id, provider_id, status, identity)
            })
        },
    )
}

fn entry() -> impl Strategy<Value = Entry<'static>> {
    let claim = || {
        let takes = prop::option::weighted(0.2, (0_u64..8).prop_map(ClaimId));
        (key(), 0_u64..8, prop::bool::weighted(0.9), 0_u64..40_000, takes).prop_map(
            |((t, p), claim, wanted, lease_ms, takes)| {
                let latest = if wanted { Stamp(u64::MAX) } else { START };
                ClaimEntry { lease_ms, takes, ..claim_entry(t, p, claim, latest) }
            },
        )
    };
    let forced = prop::sample::select(vec![ForceTo::Open, ForceTo::Closed, ForceTo::Auto, ForceTo::Auto]);
    let policy = (key(), revision(), prop::sample::select(documents()), any::<bool>());
    let flag = (revision(), prop::sample::select(TENANTS.to_vec()), any::<bool>(), prop::bool::weighted(0.7));
    prop_oneof![
        20 => result(),
        8 => claim().prop_map(Entry::Claim),
        2 => claim().prop_map(Entry::Release),
        2 => (key(), 0_u8..8, 0_u8..20).prop_map(|((t, p), r, x)| {
            Entry::Ended(ended(t, p, &format!("r{r}"), &format!("x-{x}")))
        }),
        3 => policy.prop_map(|((t, _), revision, document, first)| {
            policy_entry(t, if first { "p" } else { "q" }, revision, document)
        }),
        2 => flag.prop_map(|(revision, t, world, on)| {
            flag_entry(if world { Scope::Global } else { scope_of(t) }, revision, on)
        }),
        2 => (key(), forced, prop::option::of(0_u64..20_000)).prop_map(|((t, p), to, ttl_ms)| {
            Entry::Force(command(t, p, Some(to), ttl_ms))
        }),
        1 => key().prop_map(|(t, p)| Entry::Reset(command(t, p, None, None))),
        1 => Just(Entry::Rejected),
        1 => Just(Entry::Unknown),
        1 => (1_u32..=FoldVersion::NEWEST.0).prop_map(raise),
        2 => a_step(),
        2 => met(),
        8 => a_tally(),
    ]
}

fn run() -> impl Strategy<Value = WorkerRun> {
    (0_u64..2).prop_map(|boot| WorkerRun { worker: "w".to_owned(), boot })
}

fn a_step() -> impl Strategy<Value = Entry<'static>> {
    let shares = (0_u8..=100, prop::option::weighted(0.7, 0_u8..=100), prop::bool::weighted(0.1));
    let number = (prop::bool::weighted(0.9), 0_u64..10);
    let id = prop::sample::select(vec!["cb", "cb", "cb", "other"]);
    (id, number, shares, prop::bool::weighted(0.9)).prop_map(|(id, (made, n), shares, runs)| {
        let (acme, beta, completed) = shares;
        let named: Vec<_> = [("acme", acme)].into_iter().chain(beta.map(|share| ("beta", share))).collect();
        let settings = OverlaySettings { evidence: EVIDENCE, completed, ..overlay(&named) };
        Entry::Step(StepEntry {
            rollout: rollout(id),
            number: StepNumber { made: i64::from(made), n },
            at_seq: n,
            overlay: runs.then_some(settings),
        })
    })
}

fn met() -> impl Strategy<Value = Entry<'static>> {
    let fates = vec![Fate::NoProvider, Fate::FellBack, Fate::Probed, Fate::Spared];
    let one = (0_u64..8, prop::sample::select(fates), any::<bool>()).prop_map(|(request, fate, retry)| Met {
        hash: crate::domain::arm_hash(&format!("r{request}")),
        fate,
        retry,
    });
    (key(), run(), 0_u64..8, prop::collection::vec(one, 1..4)).prop_map(|((t, _), run, number, met)| {
        Entry::Met(MetEntry { tenant_id: tenant(t), policy_id: policy_id("p"), run, number, met })
    })
}

/// Its position is how far the worker is behind.
fn a_tally() -> impl Strategy<Value = Entry<'static>> {
    let judged = prop::option::weighted(0.3, 0_u64..20);
    (run(), 0_u64..3, 0_u64..8, any::<[u8; 2]>(), judged, prop::bool::weighted(0.05)).prop_map(
        |(run, behind, met, asked, judged, last)| {
            let window = |number| (rollout("cb"), JudgedWindow { number, end: START.plus(number * 20_000) });
            let totals = ArmTotals { asked: asked.map(u64::from), ..ArmTotals::default() };
            Entry::Tally(TallyEntry {
                run,
                position: behind,
                met,
                enforcing: met > 0,
                judged: judged.map(window).into_iter().collect(),
                tenants: [(tenant("acme"), totals)].into(),
                last,
            })
        },
    )
}

/// A log of all kinds of entries that begins with a policy, so that most of it means something.
pub(super) fn random_log(most: usize) -> impl Strategy<Value = Vec<Drawn>> {
    let gap = prop_oneof![
        20 => 0_i64..1_500,
        6 => 0_i64..40_000,
        3 => -2_000_i64..0,
        1 => prop::sample::select(vec![-601_000_i64, 86_400_000]),
    ];
    let first = |t| Drawn {
        entry: policy_entry(
            t,
            "p",
            Revision { created: 1, revision: 1 },
            Some(document(&["a", "b", "local"])),
        ),
        gap_ms: 0,
    };
    prop::collection::vec((entry(), gap).prop_map(|(entry, gap_ms)| Drawn { entry, gap_ms }), 1..most)
        .prop_map(move |rest| {
            let mut log: Vec<Drawn> = [first("acme"), first("beta")].into_iter().chain(rest).collect();
            for (position, drawn) in (0..).zip(&mut log) {
                if let Entry::Tally(tally) = &mut drawn.entry {
                    // The entry itself stands at the next position.
                    tally.position = u64::saturating_sub(position, tally.position);
                }
            }
            log
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn workers_that_applied_the_same_log_hold_the_same_state(
        entries in random_log(150),
        caught_up in any::<u64>(),
        asked in any::<(u64, u64)>(),
        behind_ms in 0_i64..3_000_000,
    ) {
        let mut one = Log::with(OFFSET, true);
        let mut other = Log::with(Offset(OFFSET.0 - behind_ms), false);
        for (n, drawn) in entries.iter().enumerate() {
            other.live = caught_up >> (n % 64) & 1 == 1;
            drawn.stamp(&mut one);
            drawn.stamp(&mut other);
            if n % 7 == 0 {
                // Some of what it looks at is gone, or new, when it comes to it.
                one.fold.foresee(entries[n..].iter().map(|d| &d.entry).take(AHEAD), one.at.stamp);
            }
            let (here, there) = (one.apply(drawn.entry.clone()), other.apply(drawn.entry.clone()));
            prop_assert_eq!(here.what, there.what);
            let told = |moved: &[super::super::Moved]| -> Vec<_> {
                moved.iter().map(|m| (m.cell.tenant_id.clone(), m.cell.provider_id.clone(), m.policy_id.clone(), m.transition)).collect()
            };
            prop_assert_eq!(told(&here.moved), told(&there.moved));
            for (log, when) in [(&mut one, asked.0), (&mut other, asked.1)] {
                if when >> (n % 64) & 1 == 1 {
                    log.fold.digest();
                }
            }
        }
        prop_assert_eq!(one.fold.digest(), other.fold.digest());
        prop_assert_eq!(one.fold.digest(), one.recomputed());
        prop_assert_eq!(one.fold.evidence(), other.fold.evidence());
        prop_assert_eq!(one.fold.snapshot(STREAM), other.fold.snapshot(STREAM));
        prop_assert_eq!(one.fold.now(), other.fold.now());
        prop_assert_eq!(one.fold.at(), other.fold.at());
        prop_assert_eq!(one.standing(), other.standing());
        one.state.for_each_breaker(|here| {
            let there = other.cell(here.tenant_id.as_str(), here.provider_id.as_str());
            assert_eq!(here.lock().breaker, there.lock().breaker);
            assert_eq!(here.lock().policy_id, there.lock().policy_id);
        });
        for tenant_id in TENANTS {
            for policy in ["p", "q"] {
                let revision = |log: &Log| log.state.catalog().find(tenant_id, policy).map(|r| r.revision);
                prop_assert_eq!(revision(&one), revision(&other));
            }
        }
    }

    /// What requests are told comes from the state alone: a worker that applied the log entry by entry
    /// shows the same gates and means as one that began at another hour of its own clock.
    #[test]
    fn workers_that_applied_the_same_log_tell_requests_the_same(entries in random_log(60), behind_ms in 0_i64..3_000_000) {
        let mut one = Log::with(OFFSET, true);
        let mut other = Log::with(Offset(OFFSET.0 - behind_ms), false);
        for drawn in &entries {
            for log in [&mut one, &mut other] {
                drawn.stamp(log);
                log.apply(drawn.entry.clone());
            }
            one.state.for_each_breaker(|here| {
                let there = other.cell(here.tenant_id.as_str(), here.provider_id.as_str());
                assert_eq!(here.read(one.tick()), there.read(other.tick()));
                assert_eq!(here.observed(one.tick()), there.observed(other.tick()));
            });
        }
    }

    /// Over a time in which nothing slides out of the shortest window.
    #[test]
    fn the_means_that_requests_see_are_those_of_the_window(entries in random_log(80)) {
        let mut log = Log::new();
        for drawn in &entries {
            log.after(drawn.gap_ms.clamp(0, 5).unsigned_abs());
            log.apply(drawn.entry.clone());
            log.state.for_each_breaker(|cell| {
                let counts = cell.lock().breaker.counts(log.at.stamp);
                let observed = cell.observed(log.tick());
                assert_eq!(observed.latency_ms, counts.mean_latency_ms());
                assert_eq!(observed.cost_nanos, counts.mean_cost_nanos());
            });
        }
    }
}

/// What is drawn must reach the evidence, or equal evidence says little.
#[test]
fn drawn_logs_close_windows_with_units_opens_and_untreated_tenants() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut units, mut opens, mut untreated, mut left, mut judged) = (0, 0, 0, 0, 0);
    for _ in 0..200 {
        let entries = random_log(120).new_tree(&mut runner).unwrap().current();
        let mut log = Log::new();
        let mut closed = 0;
        for drawn in &entries {
            drawn.stamp(&mut log);
            closed += log.apply(drawn.entry.clone()).windows_closed;
        }
        let blocks = log.fold.evidence().all_closed();
        judged += closed - blocks.len() as u64;
        for block in blocks {
            units += block
                .rows
                .iter()
                .map(|row| row.plain[0] + row.plain[2] + row.met[0] + row.met[2])
                .sum::<u64>();
            opens += block.opens.len();
            untreated += block.untreated_tenants.len();
            left += block.left.len();
        }
    }
    let all = (units, opens, untreated, left, judged);
    assert!(units > 100 && opens > 10 && untreated > 100 && left > 3 && judged > 10, "{all:?}");
}
