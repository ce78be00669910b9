//! What every action does before and after it is done: who may act, what the body may hold, and the answer.
//!
//! Whoever may not act is refused by the head of the request, so a body costs nothing that nobody asked for.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Map, Number, Value};

use super::answer::Fault;
use super::{Api, guard};

/// How long a body may take: at most 16 KiB, which the slowest line of an operator carries in a second, and
/// a TCP segment that is lost twice is sent again within three.
pub(super) const BODY_TIME: Duration = Duration::from_secs(10);

/// The longest reason, in characters: as many have at most the 1024 bytes that the verbs take.
const REASON: usize = 256;

/// Who acts, for the history: there is no login, so nobody else is known.
pub(super) const ACTOR: &str = "console";

/// Reads the body of an action. Refused before that where actions are off, where the request comes from
/// elsewhere than this worker's own page, and while the worker is not ready.
pub(super) async fn receive(State(api): State<Api>, request: Request, next: Next) -> Result<Response, Fault> {
    guard::may_act(&api.access, request.headers())?;
    if let Some(missing) = api.desk.not_ready().first() {
        return Err(Fault::Unavailable(format!("this worker is not ready: {missing}")));
    }
    let (head, body) = request.into_parts();
    let reading = Bytes::from_request(Request::from_parts(head.clone(), body), &());
    let body = tokio::time::timeout(BODY_TIME, reading).await.map_err(|_| Fault::TooSlow)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Fault::TooLong,
        _ => wrong("did not come"),
    })?;
    Ok(next.run(Request::from_parts(head, body.into())).await)
}

/// What an action asks for: an object with no other fields than `known`, and the actor.
pub(super) fn asked(body: &Bytes, known: &[&'static str]) -> Result<Map<String, Value>, Fault> {
    let mut asked: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| wrong("must be a JSON object"))?;
    for (field, value) in &mut asked {
        let Some(field) = known.iter().find(|known| *known == field) else {
            return Err(wrong(&format!("may have only {}", known.join(", "))));
        };
        *value = checked(field, value.take())?;
    }
    asked.insert("actor".to_owned(), ACTOR.into());
    Ok(asked)
}

/// A member as the verbs take it. They take `null` for an absent one, and a number for whole only where it
/// is written so; the description of this API knows neither.
fn checked(field: &'static str, value: Value) -> Result<Value, Fault> {
    let wrong = |problem: &str| Err(Fault::Parameter(field, problem.to_owned()));
    match &value {
        Value::Null => wrong("must not be null"),
        Value::String(text) if field == "reason" && text.chars().count() > REASON => {
            wrong(&format!("must have at most {REASON} characters"))
        }
        Value::Number(number) => Ok(whole(number).map_or(value, Value::from)),
        _ => Ok(value),
    }
}

/// 60, and 60.0, which is the same number.
fn whole(number: &Number) -> Option<u64> {
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    number.as_u64().or_else(|| format!("{float:.0}").parse().ok())
}

fn wrong(problem: &str) -> Fault {
    Fault::Parameter("body", problem.to_owned())
}

/// A text of what is asked for, for the log.
pub(super) fn text(asked: &Map<String, Value>, field: &str) -> Option<String> {
    asked.get(field).and_then(Value::as_str).map(str::to_owned)
}
