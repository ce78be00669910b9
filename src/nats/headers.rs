use async_nats::HeaderMap;

use crate::telemetry::Outgoing;
use crate::wire::Headers;

/// Headers of a message, seen through the wire room's trait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a>(pub(super) Option<&'a HeaderMap>);

impl<'a> Seen<'a> {
    /// The first value of a header, in any letter case. The map is case-sensitive, and most messages
    /// use the name as it is asked for.
    pub(super) fn value(self, name: &str) -> Option<&'a str> {
        let map = self.0?;
        if let Some(value) = map.get(name) {
            return Some(value.as_str());
        }
        map.iter()
            .find(|(key, _)| AsRef::<str>::as_ref(*key).eq_ignore_ascii_case(name))
            .and_then(|(_, values)| values.first())
            .map(async_nats::HeaderValue::as_str)
    }
}

impl Headers for Seen<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.value(name)
    }
}

/// Puts trace headers on an outgoing message.
pub(super) fn put_trace(map: &mut HeaderMap, trace: &Outgoing<'_>) {
    if let Some(traceparent) = &trace.traceparent {
        map.insert("traceparent", traceparent.as_ref());
    }
    if let Some(tracestate) = &trace.tracestate {
        map.insert("tracestate", tracestate.as_ref());
    }
}
