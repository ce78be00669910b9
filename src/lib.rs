//! A routing worker on NATS.
//!
//! Programs ask on a subject which provider should serve a request of a tenant; the router answers
//! from the tenant's policy and from one circuit breaker for each (tenant, provider). Breakers are a
//! fold over one ordered JetStream log, so that any number of workers agree and a restart forgets
//! nothing.
//!
//! Each module may use only those above it in this list; `tests/house/architecture.rs` holds that.

pub mod domain;

pub mod document;

pub mod breaker;

pub mod policy;

pub mod routing;

pub mod log;

pub mod rollout;

pub mod state;

pub mod ledger;

pub mod wire;

pub mod rollout_simulation;

pub mod telemetry;

pub mod nats;

pub mod http;

pub mod cli;

pub mod app;
pub mod clock;
pub mod config;
