use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::headers::Headers;
use crate::malformed::Malformed;

/// Which message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select<'a> {
    /// The one with this number.
    At(u64),
    /// The last one of a subject.
    LastOf(&'a str),
    /// The first one at or after a number, of a subject, which may hold wildcards.
    NextOf(&'a str, u64),
}

/// A message as a stream holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its subject. What of it is not UTF-8 was replaced by the broker.
    pub subject: String,
    /// Its number.
    pub sequence: u64,
    /// When it was stored, in RFC 3339.
    pub time: String,
    headers: Vec<u8>,
    /// Its body.
    pub payload: Vec<u8>,
}

/// Why there is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// The stream holds none.
    #[error("no message found")]
    NotFound,
    /// The broker refused.
    #[error("{description} ({code})")]
    Refused {
        /// JetStream's error code.
        code: u64,
        /// Its words.
        description: String,
    },
    /// The answer cannot be read.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// JetStream's code of a message that is not there.
const NO_MESSAGE: u64 = 10_037;

#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_by_subj: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_by_subj: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    message: Option<Encoded>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Encoded {
    subject: String,
    seq: u64,
    time: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Select<'_> {
    /// The body of the request, to `$JS.API.STREAM.MSG.GET.<stream>`.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let none = Request { seq: None, last_by_subj: None, next_by_subj: None };
        let request = match *self {
            Self::At(sequence) => Request { seq: Some(sequence), ..none },
            Self::LastOf(subject) => Request { last_by_subj: Some(subject), ..none },
            Self::NextOf(subject, from) => Request { seq: Some(from), next_by_subj: Some(subject), ..none },
        };
        serde_json::to_vec(&request).unwrap_or_default()
    }
}

impl Stored {
    /// Reads the answer.
    ///
    /// # Errors
    /// [`GetError`].
    pub fn parse(answer: &[u8]) -> Result<Self, GetError> {
        let unreadable = |what: &dyn std::fmt::Display| GetError::Unreadable(what.to_string());
        let answer: Answer = serde_json::from_slice(answer).map_err(|error| unreadable(&error))?;
        if let Some(Failure { code, err_code, description }) = answer.error {
            return Err(match err_code {
                NO_MESSAGE => GetError::NotFound,
                0 => GetError::Refused { code, description },
                err_code => GetError::Refused { code: err_code, description },
            });
        }
        let Encoded { subject, seq, time, hdrs, data } =
            answer.message.ok_or_else(|| unreadable(&"it holds neither message nor error"))?;
        let decoded = |text: String| BASE64.decode(text.as_bytes()).map_err(|error| unreadable(&error));
        Ok(Self { subject, sequence: seq, time, headers: decoded(hdrs)?, payload: decoded(data)? })
    }

    /// Its headers.
    ///
    /// # Errors
    /// What cannot be read of them.
    pub fn headers(&self) -> Result<Headers<'_>, Malformed> {
        Headers::parse(&self.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_what_is_wanted() {
        let body = |select: Select<'_>| String::from_utf8(select.body()).unwrap();
        assert_eq!(body(Select::At(7)), "{\"seq\":7}");
        assert_eq!(body(Select::LastOf("$KV.B.a")), "{\"last_by_subj\":\"$KV.B.a\"}");
        assert_eq!(body(Select::NextOf("$KV.B.>", 3)), "{\"seq\":3,\"next_by_subj\":\"$KV.B.>\"}");
    }

    #[test]
    fn a_stored_message_keeps_its_bytes() {
        let hdrs = BASE64.encode(b"NATS/1.0\r\nA: b\r\n\r\n");
        let answer = format!(
            "{{\"type\":\"t\",\"message\":{{\"subject\":\"a\",\"seq\":5,\"hdrs\":\"{hdrs}\",\"data\":\"/w==\",\"time\":\"2026-01-01T00:00:00Z\"}}}}"
        );
        let stored = Stored::parse(answer.as_bytes()).unwrap();
        assert_eq!((stored.sequence, stored.payload.as_slice()), (5, &b"\xff"[..]));
        assert_eq!(stored.headers().unwrap().get("A"), Some("b"));
        let hostile = answer.replace(&hdrs, &BASE64.encode(b"NATS/1.0\r\nX: a\rb\r\n\r\n"));
        assert_eq!(Stored::parse(hostile.as_bytes()).unwrap().headers().err(), Some(Malformed::HeaderValue));
        let bare = "{\"message\":{\"subject\":\"a\",\"seq\":5,\"time\":\"t\"}}";
        assert!(Stored::parse(bare.as_bytes()).unwrap().payload.is_empty());
    }

    #[test]
    fn errors_are_told_apart() {
        let error =
            |code| format!("{{\"error\":{{\"code\":404,\"err_code\":{code},\"description\":\"d\"}}}}");
        assert_eq!(Stored::parse(error(10_037).as_bytes()), Err(GetError::NotFound));
        let refused = |code| Err(GetError::Refused { code, description: "d".to_owned() });
        assert_eq!(Stored::parse(error(10_059).as_bytes()), refused(10_059));
        assert_eq!(Stored::parse(error(0).as_bytes()), refused(404));
        for answer in
            ["", "{}", "[]", "{\"message\":{\"subject\":\"a\",\"seq\":5,\"time\":\"t\",\"data\":\"!\"}}"]
        {
            assert!(matches!(Stored::parse(answer.as_bytes()), Err(GetError::Unreadable(_))), "{answer}");
        }
    }
}
