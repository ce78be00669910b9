use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

/// A checked request for a decision. Borrows from the message it came in where it can.
#[derive(Clone, Debug)]
pub struct RouteRequest<'a> {
    /// Names this request; a retry of it draws the same provider.
    pub request_id: Cow<'a, str>,
    /// Who asks.
    pub tenant_id: Cow<'a, str>,
    /// Which of the tenant's policies decides.
    pub policy_id: Cow<'a, str>,
    /// What kind of work it is; `when.message_type` of a fallback rule matches it.
    pub task_type: Cow<'a, str>,
    /// The work itself, passed on to an assignment and never looked at.
    pub payload: Payload<'a>,
    /// The caller's own trace id, echoed; the W3C context is in the headers.
    pub trace_id: Option<Cow<'a, str>>,
    /// Candidates whose observed means are above these are dropped.
    pub constraints: Constraints,
    /// Where a session value is looked up first.
    pub context: Attributes<'a>,
    /// Where a session value is looked up second; passed on to an assignment.
    pub metadata: Attributes<'a>,
    /// How the attempt before this one ended, on a retry.
    pub previous: Option<Previous<'a>>,
    /// Whether the router publishes the assignment itself.
    pub push: Option<Push<'a>>,
    /// Whether the reply tells how it was decided.
    pub explain: bool,
}

/// The task's payload as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A reference that the executor resolves.
    Reference(Cow<'a, str>),
    /// JSON text, inline.
    Json(&'a str),
    /// Bytes, inline (protobuf requests).
    Bytes(&'a [u8]),
}

/// Upper bounds on a candidate's observed means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Constraints {
    /// Milliseconds.
    pub max_latency_ms: Option<f64>,
    /// In the unit that results report.
    pub max_cost: Option<f64>,
}

/// How the attempt before this one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous<'a> {
    /// A result status, an error code or an HTTP status as text.
    pub status: Cow<'a, str>,
    /// The ordinal of the present attempt, at least 2: there was one before.
    pub attempt: u32,
}

/// A wish to have the assignment published by the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push<'a> {
    /// Another subject than the default; checked to lie under the assignment prefix.
    pub subject: Option<Cow<'a, str>>,
}

/// The caller's `context` or `metadata`, kept as it came and searched only when a policy asks.
#[derive(Clone, Copy, Debug, Default)]
pub enum Attributes<'a> {
    /// None was sent.
    #[default]
    Absent,
    /// The text of a JSON object, known to be well formed.
    Json(&'a str),
    /// A protobuf string map.
    Map(&'a HashMap<String, String>),
}

impl<'a> Attributes<'a> {
    /// The value of a key as text: strings as they are, numbers and booleans as JSON writes them;
    /// `None` for a missing key, `null`, an object or an array. The last of doubled keys counts.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Cow<'a, str>> {
        match *self {
            Self::Absent => None,
            Self::Map(map) => map.get(key).map(|v| Cow::Borrowed(v.as_str())),
            Self::Json(text) => {
                serde_json::Deserializer::from_str(text).deserialize_map(Find { key }).ok().flatten()
            }
        }
    }
}

struct Find<'k> {
    key: &'k str,
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Name<'de>>()? {
            if name.0 == self.key {
                found = map.next_value::<Scalar<'de>>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Scalar<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?.get();
        let value = match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<Name<'de>>(raw).ok().map(|n| n.0),
            Some(b'{' | b'[' | b'n') | None => None,
            Some(_) => Some(Cow::Borrowed(raw)),
        };
        Ok(Scalar(value))
    }
}

#[cfg(test)]
mod tests {
    use super::Attributes;

    #[test]
    fn a_session_value_is_found_whatever_its_scalar_type() {
        let a = Attributes::Json(r#"{"x":{"user":1},"user":"u-42","n":17,"b":true,"z":null,"e":"a\"b"}"#);
        assert_eq!(a.get("user").as_deref(), Some("u-42"));
        assert_eq!(a.get("n").as_deref(), Some("17"));
        assert_eq!(a.get("b").as_deref(), Some("true"));
        assert_eq!(a.get("e").as_deref(), Some("a\"b"));
        assert_eq!(a.get("z"), None);
        assert_eq!(a.get("x"), None);
        assert_eq!(a.get("nope"), None);
        assert_eq!(Attributes::Absent.get("user"), None);
    }
}
