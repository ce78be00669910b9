//! How often a decision allocates: the same everywhere, so it is held exactly.

#[path = "../../benches/world/mod.rs"]
mod world;

use world::{Path, World, request, tenant};

/// Decode, decide and encode, JSON, no explanation.
const MOST: u64 = 3;

#[test]
fn a_decision_allocates_a_few_times_and_no_more() {
    const TIMES: u64 = 1_000;
    let world = World::new(8, true);
    let mut path = Path::default();
    let bodies: Vec<String> = (0..TIMES).map(|n| request(&tenant(n % 8), n)).collect();
    // Replies are kept for as long as the client library has not written them.
    let mut replies = Vec::with_capacity(2 * bodies.len());
    let mut run =
        || bodies.iter().for_each(|body| replies.push(path.run(&world.state, body.as_bytes()).unwrap()));
    // What is made once is made by then.
    run();
    let total = allocation_counter::measure(&mut run).count_total;
    assert!(total <= MOST * TIMES, "{total} allocations in {TIMES} decisions, at most {MOST} each");
    assert!(total > 0, "replies need room: nothing was counted");
}
