use super::request::Refusal;
use crate::domain::ErrorCode;

/// The header that names the form of a body.
pub const CONTENT_TYPE: &str = "content-type";

/// The headers of a message.
pub trait Headers {
    /// The first value of a header, its name in any letter case.
    fn get(&self, name: &str) -> Option<&str>;
}

impl<H: Headers> Headers for Option<H> {
    fn get(&self, name: &str) -> Option<&str> {
        self.as_ref().and_then(|headers| headers.get(name))
    }
}

impl<H: Headers + ?Sized> Headers for &H {
    fn get(&self, name: &str) -> Option<&str> {
        (**self).get(name)
    }
}

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// `application/json`
    Json,
    /// `application/protobuf`
    Protobuf,
}

impl Content {
    /// What the header says, its parameters and letter case aside; with none, a guess by [`Self::sniff`].
    ///
    /// # Errors
    /// Another type is refused, naming the header. Such a refusal is best answered in the form that
    /// [`Self::sniff`] guesses.
    pub fn of(headers: &impl Headers, body: &[u8]) -> Result<Self, Refusal> {
        let named = headers.get(CONTENT_TYPE).map(|value| value.split(';').next().unwrap_or_default().trim());
        match named {
            None | Some("") => Ok(Self::sniff(body)),
            Some(name) if name.eq_ignore_ascii_case(Self::Json.mime()) => Ok(Self::Json),
            Some(name) if name.eq_ignore_ascii_case(Self::Protobuf.mime()) => Ok(Self::Protobuf),
            Some(_) => Err(Refusal::echoing(
                ErrorCode::InvalidRequest,
                Some(CONTENT_TYPE),
                "the header content-type must be application/json or application/protobuf, or be absent",
                Self::sniff(body),
                body,
            )),
        }
    }

    /// JSON if the body starts with `{`, else protobuf.
    #[must_use]
    pub fn sniff(body: &[u8]) -> Self {
        if body.first() == Some(&b'{') { Self::Json } else { Self::Protobuf }
    }

    /// The value of the header in answers.
    #[must_use]
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/protobuf",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(&'static str);

    impl Headers for One {
        fn get(&self, name: &str) -> Option<&str> {
            name.eq_ignore_ascii_case("Content-Type").then_some(self.0)
        }
    }

    #[test]
    fn the_header_decides_and_without_one_the_first_byte_does() {
        let cases = [
            (Some("application/json"), &b"\x0a"[..], Content::Json),
            (Some("Application/JSON; charset=utf-8"), b"", Content::Json),
            (Some(" application/protobuf "), b"{", Content::Protobuf),
            (Some(""), b"{}", Content::Json),
            (None, b"{}", Content::Json),
            (None, b"\n\x02", Content::Protobuf),
            (None, b"", Content::Protobuf),
        ];
        for (header, body, want) in cases {
            assert_eq!(Content::of(&header.map(One), body), Ok(want), "{header:?}");
        }
    }

    #[test]
    fn another_type_is_refused_naming_the_header_and_echoing_the_id() {
        let refusal = Content::of(&One("text/xml"), br#"{"request_id":"r-1","trace_id":"t"}"#).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidRequest);
        assert_eq!(refusal.field, Some("content-type"));
        assert_eq!(refusal.request_id.as_deref(), Some("r-1"));
        assert_eq!(refusal.trace_id.as_deref(), Some("t"));
    }
}
