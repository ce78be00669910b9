//! The ids of a request that was refused, read as leniently as can be: a caller that can't match a
//! refusal to its request waits for the answer until its timeout.

use prost::Message as _;

use crate::domain::MAX_ID;
use crate::wire::Content;
use crate::wire::json::{Members, text};

/// The request id and the trace id, where they can be read: texts of 1 to 255 bytes without control
/// characters, even if they break a rule beyond that.
pub(super) fn readable_ids(content: Content, body: &[u8]) -> (Option<String>, Option<String>) {
    let (request_id, trace_id) = match content {
        Content::Json => from_json(body),
        Content::Protobuf => from_protobuf(body),
    };
    (request_id.filter(|id| readable(id)), trace_id.filter(|id| readable(id)))
}

/// Whether a body is itself an answer of ours: a JSON object that has `ok`. Ask this of what was refused:
/// an answer is never answered, or two routers could talk for ever.
#[must_use]
pub fn is_answer(body: &[u8]) -> bool {
    let (members, _) = Members::read(&["ok"], valid_prefix(body));
    members.values[0].is_some()
}

fn readable(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && !id.chars().any(char::is_control)
}

fn from_json(body: &[u8]) -> (Option<String>, Option<String>) {
    let (members, _) = Members::read(&["request_id", "trace_id"], valid_prefix(body));
    let [request_id, trace_id] = members.values.map(|raw| raw.and_then(text).map(String::from));
    (request_id, trace_id)
}

/// As much of a body as is UTF-8.
fn valid_prefix(body: &[u8]) -> &str {
    match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default(),
    }
}

fn from_protobuf(body: &[u8]) -> (Option<String>, Option<String>) {
    let mut envelope = Envelope::default();
    // On an error, what was read up to it stays.
    let _ = envelope.merge(body);
    let ids = envelope.message.unwrap_or_default();
    (Some(ids.message_id), Some(ids.trace_id))
}

/// A `RouteRequest` of which only the ids are known, so that a fault in another field is skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    message: Option<Ids>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ids {
    #[prost(string, tag = "1")]
    message_id: String,
    #[prost(string, tag = "3")]
    trace_id: String,
}
