//! The checked vocabulary.
//!
//! Bytes from a peer become these types once, in `wire/`; nothing past that edge checks again. Ids
//! hold only what a NATS subject, a metric label and a JSON string can carry unharmed. Numbers are
//! integers in named units: milliseconds, nano-units of cost, parts per million. All here is pure.

pub mod logarithm;
mod one_shot;

mod arm;
mod authenticated;
mod decision;
mod fair_queue;
mod fair_share;
mod ids;
mod outcome;
mod ratio;
mod request;
mod subject;
mod time;

pub use arm::{arm_hash, is_treated, scaled};
pub use authenticated::Authenticated;
pub use decision::{Decision, ErrorCode, Reason};
pub use fair_queue::FairQueue;
pub use fair_share::{Shares, has_share};
pub use ids::{
    AssignmentId, ClaimId, IdError, MAX_ID, MAX_REQUEST_ID, MAX_ROLLOUT_ID, PhaseName, PolicyId, ProviderId,
    RolloutId, TenantId, check_assignment_id, check_id, check_request_id, check_rollout_id, is_graphic,
};
pub use one_shot::OneShot;
pub use outcome::{Disposition, MAX_LATENCY_MS, Outcome, Status, StatusSet, identity_of};
pub use ratio::Ratio;
pub use request::{Attributes, Constraints, Payload, Previous, Push, RouteRequest};
pub use subject::is_literal;
pub use time::{Offset, Stamp, Tick};
