use beamline_nats::{Headers, Malformed, MessageRef};

use crate::telemetry::{Incoming, Outgoing};
use crate::wire;

impl wire::Headers for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        Headers::get(self, name)
    }
}

/// The trace that a message came with.
pub(super) fn incoming<'m>(headers: &Headers<'m>) -> Incoming<'m> {
    Incoming::read(headers.get("traceparent"), headers.get("tracestate"))
}

/// The trace headers of an outgoing message.
pub(super) fn trace<'t>(trace: &'t Outgoing<'_>) -> impl Iterator<Item = (&'static str, &'t str)> {
    let parent = trace.traceparent.as_ref().map(|value| ("traceparent", value.as_ref()));
    let state = trace.tracestate.as_ref().map(|value| ("tracestate", value.as_ref()));
    parent.into_iter().chain(state)
}

/// Longer headers of a request are not read.
const MOST_HEADER_BYTES: usize = 16 << 10;

/// A request as it was received. What of it cannot be read is left out, and said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received<'m> {
    /// Its subject; empty if that cannot be read.
    pub(super) subject: &'m str,
    /// Where an answer goes.
    pub(super) reply: Option<&'m str>,
    /// Its headers; none if they cannot be read.
    pub(super) headers: Headers<'m>,
    /// Its body.
    pub(super) payload: &'m [u8],
    /// What cannot be read; the reply subject before all else, since then there is nobody to answer.
    pub(super) malformed: Option<Malformed>,
}

impl<'m> Received<'m> {
    pub(super) fn of(message: MessageRef<'m>) -> Self {
        let (reply, subject) = (message.reply(), message.subject());
        let headers = if message.header_bytes() > MOST_HEADER_BYTES {
            Err(Malformed::HeaderLength)
        } else {
            message.headers()
        };
        let malformed = reply.err().or(subject.err()).or(headers.err());
        Self {
            subject: subject.unwrap_or_default(),
            reply: reply.unwrap_or_default(),
            headers: headers.unwrap_or_default(),
            payload: message.payload(),
            malformed,
        }
    }

    /// Whether somebody waits for an answer who cannot be reached.
    pub(super) fn is_unanswerable(&self) -> bool {
        self.malformed == Some(Malformed::Reply)
    }
}

/// The part of a message that cannot be read, as an error names it.
pub(super) const fn field_of(malformed: Malformed) -> &'static str {
    match malformed {
        Malformed::Subject => "subject",
        Malformed::Reply => "reply",
        Malformed::HeaderLength
        | Malformed::HeaderText
        | Malformed::HeaderVersion
        | Malformed::HeaderLine
        | Malformed::HeaderName
        | Malformed::HeaderValue => "headers",
    }
}
