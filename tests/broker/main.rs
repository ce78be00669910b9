//! The real program on a real broker.
//!
//! Each test starts its own nats-server and workers, on ports and in folders of its own, and leaves
//! nothing running. The server is the one that `scripts/tools.py test` puts into `.tools/bin`, or that
//! `NATS_SERVER_BIN` names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on panics, and a failed one tells what its processes said"
)]
#![allow(clippy::disallowed_methods, reason = "bounds are measured on the clock of the test")]

mod support;

mod accounts;
mod agree;
mod assignments;
mod bench;
mod breakers;
mod catch_up;
mod cluster;
mod connection;
mod console;
mod control;
mod decide;
mod demo;
mod discovery;
mod fair;
mod faults;
mod figures;
mod flags;
mod hostile;
mod http;
mod identity;
mod life;
mod load;
mod logs;
mod malformed;
mod metrics;
mod otlp;
mod races;
mod reading;
mod readme;
mod refusals;
mod renewal;
mod rollout;
mod rollout_shell;
mod rollout_simulate;
mod rollouts;
mod rollouts_doctor;
mod routing;
mod secrets;
mod shell;
mod tenants;
mod top;
mod traces;
mod traffic;
mod upgrade;
mod usage;
mod watch;
