//! The form of answers.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, CONNECTION, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::BODY;
use super::act::BODY_TIME;
use crate::domain::ErrorCode;
use crate::http::Refusal;

/// Neither stored nor guessed at, nor read by pages of others.
pub(in crate::http) const HEADERS: [(HeaderName, &str); 3] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Seconds after which who is told that something is unavailable may ask again.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// Why a request is not answered.
#[derive(Debug)]
pub(super) enum Fault {
    /// The worker says so.
    Refused(Refusal),
    /// A parameter is wrong.
    Parameter(&'static str, String),
    /// This request may not be made, whoever makes it.
    Forbidden(String),
    /// The body is longer than is read.
    TooLong,
    /// The body did not arrive in time.
    TooSlow,
    /// The body is no JSON.
    MediaType,
    /// Later, perhaps.
    Unavailable(String),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Fault {
    pub(super) fn not_found(message: &str) -> Self {
        Self::Refused(Refusal { code: ErrorCode::NotFound, message: message.to_owned(), details: None })
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(Refusal { code, message, details }) => {
                // What is asked for is sound: the rollout does not allow it as it stands.
                let stands_against = details.as_ref().is_some_and(|details| details.get("refusal").is_some());
                let code = if stands_against { ErrorCode::Conflict } else { code };
                let status = StatusCode::from_u16(code.number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut response = error(status, code.as_str(), &message, details);
                if code == ErrorCode::Unavailable {
                    response.headers_mut().insert(RETRY_AFTER, AGAIN);
                }
                response
            }
            Self::Parameter(field, problem) => {
                let message = format!("{field} {problem}");
                let details = json!({ "field": field });
                error(StatusCode::BAD_REQUEST, "invalid_request", &message, Some(details))
            }
            Self::Forbidden(message) => error(StatusCode::FORBIDDEN, "forbidden", &message, None),
            Self::TooLong => {
                let message = format!("the body has more than {BODY} bytes");
                error(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", &message, None)
            }
            Self::TooSlow => {
                let message = format!("the body did not arrive within {} s", BODY_TIME.as_secs());
                let mut response = error(StatusCode::REQUEST_TIMEOUT, "request_timeout", &message, None);
                // What arrives later would be taken for the next request.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
            Self::MediaType => {
                let message = "want content-type: application/json";
                error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message, None)
            }
            Self::Unavailable(message) => {
                Self::Refused(Refusal { code: ErrorCode::Unavailable, message, details: None })
                    .into_response()
            }
        }
    }
}

/// An error in the form that every answer of this server has.
pub(in crate::http) fn error(
    status: StatusCode,
    code: &str,
    message: &str,
    details: Option<Value>,
) -> Response {
    let mut error = json!({ "code": code, "message": message });
    if let (Some(details), Some(map)) = (details, error.as_object_mut()) {
        map.insert("details".to_owned(), details);
    }
    (status, HEADERS, Json(json!({ "ok": false, "error": error }))).into_response()
}

/// A good answer.
pub(super) fn told(body: impl Serialize) -> Response {
    (HEADERS, Json(body)).into_response()
}

/// The answer of a verb as it is told here, where the status says whether it is good.
pub(super) fn without_ok(mut answer: Value) -> Value {
    if let Some(map) = answer.as_object_mut() {
        map.remove("ok");
    }
    answer
}
