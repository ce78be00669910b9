//! The decide path, so many times over, for `scripts/instructions.py` to count under callgrind. Without a
//! number (`cargo bench`) it only shows that it runs.

#![allow(clippy::unwrap_used, reason = "what cannot go on panics")]

mod world;

use std::hint::black_box;

use world::{Path, World, request, tenant};

fn main() {
    let times = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1);
    let world = World::new(4, true);
    let mut path = Path::default();
    let bodies: Vec<String> = (0..64).map(|n| request(&tenant(n % 4), n)).collect();
    for n in 0..times {
        black_box(path.run(&world.state, bodies[n % bodies.len()].as_bytes()).unwrap());
    }
}
