//! Micro-benchmarks: `cargo bench --bench micro`, or `cargo bench --bench micro -- fold` for some of them.
//!
//! Figures are nanoseconds of one operation. Where a benchmark names a number it is how many breakers stand;
//! which of them an operation meets is drawn uniformly, so that a large number costs the cache misses that it
//! costs in life.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark that cannot go on panics")]
#![allow(clippy::disallowed_methods, reason = "the harness reads the clock")]

mod world;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use beamline_router::breaker::{Sample, Window};
use beamline_router::domain::{Reason, Stamp};
use beamline_router::ledger::AHEAD;
use beamline_router::log::Entry;
use beamline_router::routing::{Choice, Trail, decide};
use beamline_router::state::Asking;
use beamline_router::wire::{Content, Scratch, decode_request, decode_result};
use bytes::BytesMut;
use divan::Bencher;
use tikv_jemallocator::Jemalloc;
use world::{NOW, PROVIDERS, Path, RULES, START, World, encode, mixed, outcome, request, tenant};

/// The program's.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() {
    divan::main();
}

/// Tenants of the benchmarks of the decide path.
const TENANTS: u64 = 1_000;

/// Operations of a sample, and samples: enough that reading the clock and cold code do not count.
const SIZE: u32 = 1_024;
const COUNT: u32 = 300;

/// Results before those that are measured: more than the fold remembers.
const WARM: u64 = 1_100_000;

/// Numbers in turn, also over threads.
struct Turn(AtomicU64);

impl Turn {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

mod path {
    use super::*;

    #[divan::bench(sample_size = SIZE, sample_count = COUNT)]
    fn decode_request_json(bencher: Bencher<'_, '_>) {
        let turn = Turn::new();
        let mut scratch = Scratch::default();
        bencher.with_inputs(|| request(&tenant(turn.next() % TENANTS), turn.next())).bench_local_refs(
            |body| {
                let read = decode_request(Content::Json, body.as_bytes(), None, &RULES, &mut scratch);
                black_box(read.unwrap().request_id.len())
            },
        );
    }

    #[divan::bench(sample_size = SIZE, sample_count = COUNT)]
    fn decode_result_json(bencher: Bencher<'_, '_>) {
        let body = br#"{"assignment_id":"6dc8a721-db88-4e75-a1bb-a1a0d8f0773a","request_id":"r-1","tenant_id":"acme","provider_id":"openai","status":"success","job":{"type":"text.generate"},"latency_ms":850,"cost":0.012,"timestamp":1795316364705}"#;
        bencher.bench_local(|| decode_result(Content::Json, black_box(body), None).unwrap().identity);
    }

    /// The policy's look-up, the draw, and the breakers of the candidates looked at.
    #[divan::bench(args = [true, false], sample_size = SIZE, sample_count = COUNT)]
    fn decide_with_breakers(bencher: Bencher<'_, '_>, breakers: bool) {
        let world = World::new(TENANTS, breakers);
        let turn = Turn::new();
        let bodies: Vec<String> = (0..TENANTS).map(|n| request(&tenant(n), n)).collect();
        let mut scratches: Vec<Scratch> = bodies.iter().map(|_| Scratch::default()).collect();
        let mut requests = Vec::new();
        for (body, scratch) in bodies.iter().zip(&mut scratches) {
            requests.push(decode_request(Content::Json, body.as_bytes(), None, &RULES, scratch).unwrap());
        }
        bencher.bench_local(|| {
            let request = &requests[(turn.next() % TENANTS) as usize];
            let routable = world.state.catalog().find(&request.tenant_id, &request.policy_id).unwrap();
            let mut asking = Asking::new(&world.state, &routable, &request.request_id, NOW, &[]);
            let routed = decide(&routable.policy, request, &mut asking, &mut Trail::default());
            black_box(&routed);
            asking.settle(|_, _| {});
        });
    }

    #[divan::bench(sample_size = SIZE, sample_count = COUNT)]
    fn encode_reply_json(bencher: Bencher<'_, '_>) {
        let world = World::new(1, true);
        let routable = &world.routables()[0];
        let mut out = BytesMut::new();
        let choice = Choice {
            candidate: 0,
            reason: Reason::Weighted,
            probe: false,
            sticky_key: None,
            backoff_ms: None,
        };
        bencher.bench_local(|| {
            encode(routable, &choice, black_box("0b0f7c1e-6c0e-4e43-9a65-6a1f6f0b8a31"), None, &mut out);
            black_box(out.split().freeze())
        });
    }

    #[divan::bench(sample_size = SIZE, sample_count = COUNT)]
    fn decode_decide_encode(bencher: Bencher<'_, '_>) {
        let world = World::new(TENANTS, true);
        let turn = Turn::new();
        let mut path = Path::default();
        bencher
            .with_inputs(|| request(&tenant(turn.next() % TENANTS), turn.next()))
            .bench_local_refs(|body| path.run(&world.state, body.as_bytes()).unwrap());
    }
}

/// Whether a breaker lets a request pass.
mod check {
    use super::*;

    /// With the breaker at hand, as a compiled policy has it.
    #[divan::bench(threads = [1, 2], sample_size = SIZE, sample_count = COUNT)]
    fn with_handle(bencher: Bencher<'_, '_>) {
        let world = World::with_breakers(3);
        let cell = &world.routables()[0].cells[0];
        bencher.bench(|| black_box(cell).read(black_box(NOW)));
    }

    /// With one of so many at hand, another each time.
    #[divan::bench(threads = [1, 2], args = [10_000, 1_000_000], sample_size = SIZE, sample_count = COUNT)]
    fn with_handles_of(bencher: Bencher<'_, '_>, breakers: u64) {
        let world = World::with_breakers(breakers);
        let routables = world.routables();
        let turn = Turn::new();
        bencher.with_inputs(|| mixed(turn.next())).bench_values(|n| {
            routables[(n % routables.len() as u64) as usize].cells[(n >> 40) as usize % 3].read(NOW)
        });
    }

    /// By the names of tenant and policy, as the decide path begins.
    #[divan::bench(threads = [1, 2], args = [10_000, 1_000_000], sample_size = SIZE, sample_count = COUNT)]
    fn by_name_of(bencher: Bencher<'_, '_>, breakers: u64) {
        let world = World::with_breakers(breakers);
        let turn = Turn::new();
        bencher
            .with_inputs(|| tenant(mixed(turn.next()) % breakers.div_ceil(3)))
            .bench_refs(|tenant| world.state.catalog().find(tenant, "default").unwrap().cells[0].read(NOW));
    }
}

/// A breaker asked and told of a success, by crates that keep it in one process.
mod others {
    use super::*;

    /// This one: the gate read, and the result applied to the state machine under its lock, without a log.
    #[divan::bench(threads = [1, 2], sample_size = SIZE, sample_count = COUNT)]
    fn this_one(bencher: Bencher<'_, '_>) {
        use beamline_router::breaker::Input;
        let world = World::with_breakers(3);
        let cell = world.routables()[0].cells[0].clone();
        let outcome = outcome("tenant-0".into(), PROVIDERS[0], 1);
        bencher.bench(|| {
            black_box(cell.read(NOW));
            cell.lock().breaker.apply(&Input::Result(black_box(&outcome)), START).judged
        });
    }

    #[divan::bench(threads = [1, 2], sample_size = SIZE, sample_count = COUNT)]
    fn recloser(bencher: Bencher<'_, '_>) {
        let breaker = recloser::Recloser::default();
        bencher.bench(|| breaker.call(|| Ok::<_, ()>(black_box(1))).is_ok());
    }

    #[divan::bench(threads = [1, 2], sample_size = SIZE, sample_count = COUNT)]
    fn failsafe(bencher: Bencher<'_, '_>) {
        use failsafe::CircuitBreaker as _;
        let breaker = failsafe::Config::new().build();
        bencher.bench(|| breaker.call(|| Ok::<_, ()>(black_box(1))).is_ok());
    }

    /// Asking alone.
    #[divan::bench(threads = [1, 2], sample_size = SIZE, sample_count = COUNT)]
    fn failsafe_asked_only(bencher: Bencher<'_, '_>) {
        let breaker = failsafe::Config::new().build();
        bencher.bench(|| breaker.is_call_permitted());
    }
}

/// One result into the fold: its identity noted, its breaker found, judged, its gate and means published. As
/// the log's reader has them: [`AHEAD`] at a time, looked at together and then applied one by one. So one run
/// in [`AHEAD`] does the work for all, and the mean over a sample is that of one result.
#[divan::bench(args = [3, 10_000, 1_000_000], sample_size = SIZE, sample_count = COUNT)]
fn fold_one_result(bencher: Bencher<'_, '_>, breakers: u64) {
    let mut world = World::with_breakers(breakers);
    let tenants = breakers.div_ceil(3);
    let result = |n: u64| {
        let provider = PROVIDERS[(mixed(n) >> 40) as usize % 3];
        Entry::Result(outcome(tenant(mixed(n) % tenants).into(), provider, n))
    };
    // Windows are there and the memory of identities is full, as after the first million results.
    for n in 0..WARM {
        world.apply(&result(n), START);
    }
    world.fold.digest();
    let turn = Turn::new();
    bencher
        .with_inputs(|| {
            let n = turn.next();
            let whole = (n + 1).is_multiple_of(AHEAD as u64);
            // A hundred thousand results a second.
            let stamped = |n: u64| (result(WARM + n), START.plus((WARM + n) / 100));
            if whole { (n + 1 - AHEAD as u64..=n).map(stamped).collect() } else { Vec::new() }
        })
        .bench_local_refs(|next| {
            let until = next.last().map_or(START, |(_, stamp)| *stamp);
            world.fold.foresee(next.iter().map(|(entry, _)| entry), until);
            for (entry, stamp) in next {
                world.apply(entry, *stamp);
            }
        });
}

/// The whole state as bytes, as it is written while the log waits. Milliseconds.
#[divan::bench(args = [10_000, 1_000_000], sample_size = 1, sample_count = 10)]
fn snapshot(bencher: Bencher<'_, '_>, breakers: u64) {
    let mut world = World::with_breakers(breakers);
    for n in 0..WARM {
        let provider = PROVIDERS[(mixed(n) >> 40) as usize % 3];
        let tenant = tenant(mixed(n) % breakers.div_ceil(3));
        world.apply(&Entry::Result(outcome(tenant.into(), provider, n)), START);
    }
    bencher.bench_local(|| world.fold.snapshot("2024-01-01T00:00:00Z").unwrap().len());
}

mod window {
    use super::*;

    /// A result into the present bucket, the next one, and one after more than a whole window.
    #[divan::bench(args = [0, 6_000, 70_000], sample_size = SIZE, sample_count = COUNT)]
    fn record_after_ms(bencher: Bencher<'_, '_>, gap: u64) {
        let mut window = Window::new(60_000);
        let mut now = START.0;
        let sample =
            Sample { failure: false, slow: false, latency_ms: Some(850), cost_nanos: Some(12_000_000) };
        bencher.bench_local(|| {
            now += gap;
            window.record(Stamp(now), black_box(sample));
        });
    }

    /// The sums, when some of it has slid out.
    #[divan::bench(sample_size = SIZE, sample_count = COUNT)]
    fn counts_later(bencher: Bencher<'_, '_>) {
        let mut window = Window::new(60_000);
        let sample = Sample { failure: true, ..Sample::default() };
        (0..60).for_each(|s| window.record(START.plus(s * 1_000), sample));
        bencher.bench_local(|| window.counts(black_box(START.plus(75_000))));
    }
}
