use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::*;

const CHANGES: u64 = 3_000;
const READERS: usize = 3;

/// Runs a writer, and readers beside it until it is done.
fn beside(writer: impl FnOnce() + Send, reader: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                // At least once, however fast the writer was.
                loop {
                    reader();
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        writer();
        done.store(true, Ordering::Release);
    });
}

#[test]
fn no_reader_sees_half_of_one_gate_and_half_of_another() {
    let cell = cell("acme", "a", |_| {});
    // Its open time and its enforced share are tied: a torn gate would untie them.
    let write = |n: u64| {
        let share = n % 100;
        let tied = settings(|d| (d.enforce_percent, d.timeout_ms) = (share, 1_000 + share));
        let mut guarded = cell.lock();
        guarded.breaker.apply(&Input::Configure(tied), START);
        let to = if n.is_multiple_of(7) { breaker::State::Closed } else { breaker::State::Open };
        guarded.breaker.apply(&Input::Force { to, ttl_ms: Some(1_000 + share) }, START);
        cell.publish(&guarded, OFFSET);
    };
    write(1);
    beside(
        || (0..CHANGES).for_each(write),
        || match cell.read(NOW) {
            Reading::Pass => {}
            Reading::Refuse { state, retry_after_ms, enforce_percent } => {
                assert_eq!(state, breaker::State::Open);
                assert_eq!(retry_after_ms, 1_000 + u64::from(enforce_percent));
            }
            Reading::Claim { .. } => panic!("never past its end at this tick"),
        },
    );
}

#[test]
fn no_reader_sees_a_policy_without_its_breakers_or_misses_one_that_stands() {
    let state = State::new(true);
    let two = |version: u64| {
        let (first, second) = if version.is_multiple_of(2) { ("a", "b") } else { ("c", "d") };
        let document = json!({
            "policy_id": "p", "version": version.to_string(),
            "providers": [{"name": first, "weight": 1}, {"name": second, "weight": 1}],
        });
        let policy = parse(&document).unwrap().policy;
        let cells = policy.candidates().iter().map(|c| cell("acme", c.provider.as_str(), |_| {})).collect();
        Arc::new(Routable { policy: Arc::new(policy), revision: version, cells, step: None })
    };
    let versions: Vec<_> = (0..20).map(two).collect();
    // Neighbours enough that some share the shard.
    let neighbours: Vec<_> = (0..2_000).map(|n| tenant(&format!("neighbour-{n}"))).collect();
    state.catalog().put(&tenant("acme"), Arc::clone(&versions[0]));
    beside(
        || {
            for (n, neighbour) in (0..CHANGES as usize).zip(neighbours.iter().cycle()) {
                state.catalog().put(&tenant("acme"), Arc::clone(&versions[n % 20]));
                state.catalog().put(neighbour, Arc::clone(&versions[0]));
                state.catalog().remove(neighbour, &policy_id("p"));
            }
        },
        || {
            let found = state.catalog().find("acme", "p").expect("it always stands");
            assert_eq!(found.policy.version(), found.revision.to_string());
            let named: Vec<_> = found.policy.candidates().iter().map(|c| &c.provider).collect();
            let held: Vec<_> = found.cells.iter().map(|c| &c.provider_id).collect();
            assert_eq!(named, held);
        },
    );
}

#[test]
fn readers_find_the_breakers_that_stand_while_others_come_and_go() {
    let state = State::new(true);
    state.insert(cell("acme", "m", |_| {}));
    beside(
        || {
            for n in 0..CHANGES {
                let passing = if n.is_multiple_of(2) { "a" } else { "z" };
                state.insert(cell("acme", passing, |_| {}));
                state.remove(&tenant("acme"), &provider(passing));
            }
        },
        || {
            assert_eq!(state.breaker("acme", "m").expect("it always stands").provider_id.as_str(), "m");
            assert!((1..=2).contains(&state.breakers_of("acme").len()));
        },
    );
    assert_eq!(state.breaker_count(), 1);
}

#[test]
fn threads_together_hold_no_more_reservations_than_there_are_free_slots() {
    const FREE: u32 = 2;
    let cell = cell("acme", "a", |_| {});
    let (held, granted) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..CHANGES {
                    if let Some(reservation) = cell.reserve_claim(FREE) {
                        assert!(held.fetch_add(1, Ordering::SeqCst) < FREE);
                        granted.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                        held.fetch_sub(1, Ordering::SeqCst);
                        drop(reservation);
                    }
                }
            });
        }
    });
    assert!(granted.into_inner() >= FREE);
    assert!(cell.reserve_claim(1).is_some());
}

#[test]
fn of_many_refusals_at_once_one_log_line_is_due() {
    let bench = Bench::open(|_| {});
    let due = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    if bench.cell().count_fail_fast(NOW).is_some() {
                        due.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(due.into_inner(), 1);
    assert_eq!(bench.refusals(), (4_000, 0));
}
