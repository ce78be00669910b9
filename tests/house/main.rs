//! What holds without a broker: how the rooms stand to each other, and how they work together under
//! paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod allocations;
mod architecture;
mod logs;
mod wiring;
