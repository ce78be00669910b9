//! What remembering the identities of results costs: `cargo bench --bench identities`.
//!
//! For each rate: five minutes of log time with the results of 1000 tenants in turn, through the real fold. Figures are
//! the memory that became resident for it, the size of the snapshot, and how long it takes to write and to restore it;
//! all beside those of the same policies without a result, which stand in the first line.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "what cannot go on panics")]
#![allow(clippy::disallowed_methods, reason = "it measures")]
#![allow(clippy::print_stdout, reason = "it prints its figures")]

mod world;

use std::sync::Arc;
use std::time::Instant;

use beamline_router::ledger::{Fold, Verdicts};
use beamline_router::log::{At, Entry, FoldVersion, FoldVersionEntry, IdentityKey};
use beamline_router::state::State;
use tikv_jemallocator::Jemalloc;
use world::{OFFSET, PROVIDERS, START, World, outcome, tenant};

/// The program's.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const TENANTS: u64 = 1_000;
const SECONDS: u64 = 300;
const STREAM: &str = "2024-01-01T00:00:00Z";

fn main() {
    // `cargo test --benches` only shows that it runs.
    let seconds = if std::env::args().any(|arg| arg == "--bench") { SECONDS } else { 1 };
    println!(
        "results a second | new results | forgotten early | resident MB | snapshot MB | written ms | restored ms"
    );
    for rate in [0, 17_000, 100_000] {
        measure(rate, seconds);
    }
}

fn measure(rate: u64, seconds: u64) {
    let mut world = World::new(TENANTS, true);
    let names: Vec<String> = (0..TENANTS).map(tenant).collect();
    let key = FoldVersionEntry { version: FoldVersion::NEWEST, identity_key: IdentityKey([1, 2]) };
    world.apply(&Entry::FoldVersion(key), START);
    let before = resident();
    let mut early = 0;
    for n in 0..rate * seconds {
        let tenant_id = names[(n % TENANTS) as usize].clone();
        let result = outcome(tenant_id.into(), PROVIDERS[(n / TENANTS) as usize % 3], n);
        world.position += 1;
        let at = At { position: world.position, stamp: START.plus(n * 1_000 / rate) };
        early += u64::from(world.fold.apply(&Entry::Result(result), at, OFFSET, true).forgotten_early);
    }
    let resident = resident().saturating_sub(before);
    let began = Instant::now();
    let bytes = world.fold.snapshot(STREAM).unwrap();
    let written = began.elapsed();
    let mut fold = Fold::new(Arc::new(State::new(true)), Arc::new(Verdicts::default()));
    let began = Instant::now();
    fold.restore(&bytes, STREAM, OFFSET).unwrap();
    let restored = began.elapsed();
    println!(
        "{rate} | {} | {early} | {:.1} | {:.1} | {} | {}",
        rate * seconds,
        mb(resident),
        mb(bytes.len() as u64),
        written.as_millis(),
        restored.as_millis()
    );
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}
