//! Bytes and headers to domain, and back.
//!
//! What a peer sends is hostile until it has passed this room, once; nothing past it checks again.
//! Requests are all or nothing: the first field that is wrong refuses the whole, by name, and the
//! refusal carries the request's id whenever that could be read, so that the caller can match it.
//! Results are evidence: they are taken or rejected for one of a few reasons, never answered. Fields
//! that are not known are ignored everywhere, so that either side may be upgraded first; a field that
//! is known and given twice is ambiguous and refused.
//!
//! JSON is read in place, without copies. Requests and results that are as they should be are read in one
//! pass (`json::Scan`), which has no words for a fault. For all else an object is split into the raw texts of
//! the members that matter (`json::Members`), and each text is then read as what it must be, so a fault always
//! knows the field's name. What only passes through (payload, context, metadata) stays raw text. Requests may
//! nest no deeper than serde_json reads by default, since their raw parts go on to executors. Protobuf is
//! decoded into owned messages first.
//!
//! Both forms of a request meet in one draft, and one function checks it, so they cannot come to mean
//! different things. Both forms of a reply are written from one decision.
//!
//! Headers are seen through [`Headers`]: this room does not know the NATS client.

mod ack;
mod assignment;
mod content;
mod json;
mod log;
pub mod proto;
mod reply;
mod request;
mod request_info;
mod result;
mod rollout;
pub mod subjects;
mod usage;

#[cfg(test)]
mod tests;

pub use ack::{Ack, AckStatus, decode_ack};
pub use assignment::{Assignment, Retry, encode_assignment};
pub use content::{CONTENT_TYPE, Content, Headers};
pub use log::{LogKind, decode_entry, encode_entry};
pub use reply::{
    CircuitOpen, DecisionReply, Details, ErrorReply, RefusedProvider, SERVICE_ERROR, SERVICE_ERROR_CODE,
    encode_decision, encode_error, service_error,
};
pub use request::{Refusal, Rules, Scratch, assignment_subject_field, decode_request, is_answer};
pub use request_info::{REQUEST_INFO, authenticated};
pub use result::{MAX_RESULT, Reject, decode_result, decode_result_under};
pub use rollout::{decode_rollout, encode_rollout, rollout_subject};
pub use usage::encode_usage;
