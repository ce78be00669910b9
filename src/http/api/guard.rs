//! Who may ask.
//!
//! There is no password: whoever reaches the port may read. What is kept out is a page of somebody else
//! in the browser of a person who does reach it. Browsers keep such a page from reading answers, unless
//! its own name was made to lead to this port (DNS rebinding): so the name in `Host` must be an
//! address, `localhost`, or one that the settings give. And they let it send simple requests: so what
//! changes something must be JSON, bear a header that no simple request can have (asking leave for it,
//! with `OPTIONS`, is never answered), and come from this worker's own page if it says where it comes
//! from: the host and port of its origin are those in `Host`. The scheme is not compared, since a proxy
//! may end TLS; a browser that lets `http` and `https` of one name differ tells so in `Sec-Fetch-Site`.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::answer::Fault;
use crate::http::Access;
use crate::telemetry::labels::Queue;

/// What the console sends with an action.
const MARK: HeaderName = HeaderName::from_static("x-beamline-console");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

pub(super) async fn check(State(api): State<Api>, request: Request, next: Next) -> Response {
    if !is_ours(&api.access, host(request.headers())) {
        let message = "this worker is not known by that host name; --console-host names more";
        return Fault::Forbidden(message.to_owned()).into_response();
    }
    next.run(request).await
}

/// Bounds how many requests are being answered.
pub(super) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Ok(_place) = api.requests.try_acquire() else {
        api.desk.count_refused(Queue::Http, 1);
        return Fault::Unavailable("too many requests at once".to_owned()).into_response();
    };
    next.run(request).await
}

fn host(headers: &HeaderMap) -> &str {
    only(headers, &HOST).unwrap_or_default()
}

/// Whether a request may change something.
pub(super) fn may_act(access: &Access, headers: &HeaderMap) -> Result<(), Fault> {
    if !access.actions {
        return Err(Fault::Forbidden("actions are off; --console-actions switches them on".to_owned()));
    }
    let foreign = || Fault::Forbidden("actions are taken from this worker's own pages only".to_owned());
    if headers.contains_key(&FETCH_SITE) && only(headers, &FETCH_SITE) != Some("same-origin") {
        return Err(foreign());
    }
    if headers.contains_key(ORIGIN) {
        let origin = only(headers, &ORIGIN).unwrap_or_default();
        // Browsers leave out the port that goes without saying; a proxy may say it in `Host`.
        let same = [("http://", ":80"), ("https://", ":443")].into_iter().any(|(scheme, port)| {
            let host = host(headers);
            origin.strip_prefix(scheme).is_some_and(|from| {
                from.eq_ignore_ascii_case(host)
                    || host.strip_suffix(port).is_some_and(|h| h.eq_ignore_ascii_case(from))
            })
        });
        if !same {
            return Err(foreign());
        }
    }
    if only(headers, &MARK) != Some("1") {
        return Err(Fault::Forbidden("an action needs the header x-beamline-console: 1".to_owned()));
    }
    let kind = only(headers, &CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(Fault::MediaType) }
}

/// A header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether a `Host` names this worker as only its own users would.
fn is_ours(access: &Access, host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || is_port(port) => address,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    let name = name.to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || name == "localhost" || access.hosts.contains(&name)
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}
