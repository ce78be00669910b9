//! The ids of a request that was refused, read as leniently as can be: a caller that can't match a
//! refusal to its request waits for the answer until its timeout.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

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

/// The body is walked by hand: a decoder gives up a message that ends too soon, with all that it holds.
fn from_protobuf(body: &[u8]) -> (Option<String>, Option<String>) {
    let mut ids = (None, None);
    walk(body, |field, message, _| {
        if field == MESSAGE {
            // A text that is cut short is no id.
            walk(message, |field, text, whole| match field {
                MESSAGE_ID if whole => ids.0 = String::from_utf8(text.to_vec()).ok(),
                TRACE_ID if whole => ids.1 = String::from_utf8(text.to_vec()).ok(),
                _ => {}
            });
        }
    });
    ids
}

/// Field numbers of `RouteRequest` and, within it, of `Message`.
const MESSAGE: u32 = 1;
const MESSAGE_ID: u32 = 1;
const TRACE_ID: u32 = 3;

/// Shows each field that has a length, and whether it is whole: the last may be cut short.
fn walk<'b>(mut body: &'b [u8], mut show: impl FnMut(u32, &'b [u8], bool)) {
    while !body.is_empty() {
        let Ok((field, kind)) = decode_key(&mut body) else { return };
        if kind != WireType::LengthDelimited {
            if skip_field(kind, field, &mut body, DecodeContext::default()).is_err() {
                return;
            }
            continue;
        }
        let Ok(length) = decode_varint(&mut body) else { return };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match body.split_at_checked(length) {
            Some((value, rest)) => {
                show(field, value, true);
                body = rest;
            }
            None => return show(field, body, false),
        }
    }
}
