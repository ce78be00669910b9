//! What stands in the stream of rollouts, as JSON.
//!
//! Subjects end with the rollout and the kind of message (`….rollout.cb-2026.decision`), a body is
//! `{"v":1,"message":{…}}`, or `{"v":1,"part":{…}}` where a message is longer than the broker takes. A higher
//! version, an unknown kind and a body that cannot be read are passed over: only routers may publish there, and the
//! fold must be able to go on.

use serde::{Deserialize, Serialize};

use crate::domain::RolloutId;
use crate::rollout::controller::Message;
use crate::rollout::stream::{Part, Piece, split};

/// The version of the messages that this router writes.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Outgoing<'m> {
    v: u32,
    #[serde(flatten)]
    content: Content<'m>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Content<'m> {
    Message(&'m Message),
    Part(Part),
}

#[derive(Deserialize)]
struct Incoming {
    v: u32,
    message: Option<Box<Message>>,
    part: Option<Part>,
}

/// The last token of a message's subject.
const fn kind_of(message: &Message) -> &'static str {
    match message {
        Message::Plan(_) => "plan",
        Message::Command(_) => "command",
        Message::History(_) => "history",
        Message::Block(_) => "block",
        Message::Decision(_) => "decision",
    }
}

/// What of a subject follows the prefix of rollouts.
#[must_use]
pub fn rollout_subject(rollout: &RolloutId, message: &Message) -> String {
    format!("{rollout}.{}", kind_of(message))
}

/// The bodies of a message, to be published in this order.
///
/// # Errors
/// Those of JSON.
pub fn encode_rollout(rollout: &RolloutId, message: &Message) -> Result<Vec<Vec<u8>>, serde_json::Error> {
    let parts = split(rollout, &serde_json::to_string(message)?);
    let body = |content| serde_json::to_vec(&Outgoing { v: VERSION, content });
    if parts.is_empty() {
        return Ok(vec![body(Content::Message(message))?]);
    }
    parts.into_iter().map(|part| body(Content::Part(part))).collect()
}

/// Reads a message of the stream; `subject` is what follows the prefix of rollouts. `None` where it cannot be read,
/// or is of another rollout or kind than its subject says.
#[must_use]
pub fn decode_rollout(subject: &str, body: &[u8]) -> Option<Piece> {
    let (rollout, kind) = subject.split_once('.')?;
    match serde_json::from_slice(body).ok()? {
        Incoming { v: VERSION, message: Some(message), part: None } => {
            let same_rollout = rollout_of(&message).is_none_or(|of| of.as_str() == rollout);
            (same_rollout && kind_of(&message) == kind).then_some(Piece::Whole(message))
        }
        Incoming { v: VERSION, message: None, part: Some(part) } => {
            (part.rollout.as_str() == rollout).then_some(Piece::Part(part))
        }
        _ => None,
    }
}

/// Whose a message is. A plan names its rollout in the document, which is not checked here.
const fn rollout_of(message: &Message) -> Option<&RolloutId> {
    match message {
        Message::Plan(_) => None,
        Message::Command(command) => Some(&command.rollout),
        Message::History(history) => Some(&history.rollout),
        Message::Block(block) => Some(&block.rollout),
        Message::Decision(decision) => Some(&decision.rollout),
    }
}
