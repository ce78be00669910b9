//! The room as its users see it: bytes in, domain out, and back.

mod golden;
mod hostile;
mod request;
mod request_protobuf;
mod result;
mod same;

use std::fmt::Debug;

use super::*;
use crate::domain::RouteRequest;

pub(super) const RULES: Rules<'static> =
    Rules { assign_prefix: "caf.exec.assign.", ack_subject: "caf.exec.assign.v1.ack" };

/// Decodes on no tenant's subject and hands the outcome to a closure.
pub(super) fn decoded<T>(
    content: Content,
    body: &[u8],
    look: impl FnOnce(Result<RouteRequest<'_>, Refusal>) -> T,
) -> T {
    look(decode_request(content, body, None, &RULES, &mut Scratch::default()))
}

/// Shows a JSON text cut at every place, and with each byte left out, doubled or replaced by one that matters
/// to JSON.
pub(super) fn nearly<T>(text: &str, mut show: impl FnMut(&str) -> T) {
    for (at, char) in text.char_indices() {
        let (before, rest) = text.split_at(at);
        let after = &rest[char.len_utf8()..];
        show(before);
        show(&format!("{before}{after}"));
        show(&format!("{before}{char}{char}{after}"));
        for other in "{}[]:,\"\\/ \n\0\u{1f}-+.eE019untfé\u{7f}".chars() {
            show(&format!("{before}{other}{after}"));
        }
    }
}

/// Whether the quick reading of a body gave something; what it gave must be what the careful one gives.
pub(super) fn agree<T: Debug, E: Debug>(
    body: &str,
    quick: Option<T>,
    careful: impl FnOnce() -> Result<T, E>,
) -> bool {
    let read = quick.is_some();
    if let Some(quick) = quick {
        let careful = careful().unwrap_or_else(|fault| panic!("{body}: {fault:?}"));
        assert_eq!(format!("{quick:?}"), format!("{careful:?}"), "{body}");
    }
    read
}

/// A protobuf message from its raw fields, as another implementation would write it.
pub(super) fn raw(fields: &[(u32, Raw<'_>)]) -> Vec<u8> {
    use prost::encoding::{WireType, encode_key, encode_varint};
    let mut out = Vec::new();
    for (number, value) in fields {
        match value {
            Raw::Varint(v) => {
                encode_key(*number, WireType::Varint, &mut out);
                encode_varint(*v, &mut out);
            }
            Raw::Double(v) => {
                encode_key(*number, WireType::SixtyFourBit, &mut out);
                out.extend_from_slice(&v.to_le_bytes());
            }
            Raw::Bytes(v) => {
                encode_key(*number, WireType::LengthDelimited, &mut out);
                encode_varint(v.len() as u64, &mut out);
                out.extend_from_slice(v);
            }
        }
    }
    out
}

pub(super) enum Raw<'a> {
    Varint(u64),
    Double(f64),
    Bytes(&'a [u8]),
}
