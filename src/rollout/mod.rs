//! A rollout raises the share of requests whose refusals are enforced, tenant by tenant and step by step,
//! and moves on only when the evidence says that it is safe.
//!
//! Data flows one way. A *plan* says which tenants are treated, in which steps and by which rules.
//! *Evidence* counts how the requests of each tenant ended: those whose refusals are enforced, and the
//! rest. A *judge* turns the counts into verdicts, the *controller* turns plan and verdicts into decisions,
//! and *pages* show what was decided and why. A decision reaches evidence only by the log, as an entry like
//! any other.
//!
//! Each of these words is a module here. [`history`] counts what the log knows of tenants before a phase.
//! [`stream`] is how a worker follows the stream that plans, commands, evidence and decisions stand in, and
//! [`collector`] what it counts for evidence itself. [`recommend`] replays the log to find breaker settings for a
//! plan.

pub mod collector;
pub mod controller;
pub mod evidence;
pub mod history;
pub mod judge;
pub mod pages;

pub mod plan;
pub mod recommend;
pub mod stream;
