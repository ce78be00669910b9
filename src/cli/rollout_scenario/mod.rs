//! A rollout in seconds, which `demo --rollout` shows and `load` judges.
//!
//! Broker, workers, verbs, evidence and decisions are real; only the calls to providers are played. The plan goes from a
//! canary to several tenants to all of them. Meanwhile a provider fails for everybody, which hits both arms and rolls
//! nobody back. Then the fallback of one tenant is broken while its circuit is still open, so that refused requests fail
//! and the others do not: this tenant is rolled back.
//!
//! [`plan`] says what is rolled out to whom, [`Course`](course::Course) what happens when, [`Users`] ask and call as the
//! programs of the tenants, and [`follow`] takes the part of the operator.

mod calls;
mod course;
mod follow;
mod plan;
mod seen;
mod users;

pub(super) use calls::Calls;
pub(super) use course::Providers;
pub(super) use follow::{Notice, begin, follow};
pub(super) use plan::{Form, HARMED, PRIMARY, ROLLOUT, policy};
pub(super) use seen::{Met, Seen};
pub(super) use users::{Users, asked};
