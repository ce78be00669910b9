//! Asks Prometheus which rules it has.

use std::time::Duration;

use axum::body::Body;
use hyper::Uri;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Thousands of rules are some megabytes.
const MAX_ANSWER: usize = 64 << 20;

/// Why Prometheus said nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unasked {
    /// The address cannot be used.
    #[error("{0}: want http://host:port, with a path where Prometheus has one")]
    Address(String),
    /// Nobody answers there.
    #[error("no answer from {0}: {1}")]
    Unreachable(String, String),
    /// The answer is none of Prometheus's API.
    #[error("what answers at {0} is no Prometheus: {1}")]
    NotPrometheus(String, String),
}

/// An alerting rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Rule {
    pub(super) name: String,
    /// `ok`, `err` or, before its first evaluation, `unknown`.
    #[serde(default)]
    pub(super) health: String,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// The alerting rules that Prometheus has loaded.
pub(super) async fn rules(address: &str) -> Result<Vec<Rule>, Unasked> {
    let asked = tokio::time::timeout(PATIENCE, ask(address)).await;
    let body =
        asked.map_err(|_| Unasked::Unreachable(address.to_owned(), format!("not within {PATIENCE:?}")))??;
    read(address, &body)
}

async fn ask(address: &str) -> Result<Vec<u8>, Unasked> {
    let not_usable = || Unasked::Address(address.to_owned());
    let uri: Uri = address.parse().map_err(|_| not_usable())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(not_usable());
    };
    let unreachable =
        |error: &dyn std::error::Error| Unasked::Unreachable(address.to_owned(), error.to_string());
    // A host in brackets is an IPv6 address, which a socket takes without them.
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)));
    let stream = stream.await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    // It ends with the answer, or when the caller gives up and drops the sender.
    tokio::spawn(connection);
    let path = format!("{}/api/v1/rules?type=alert", uri.path().trim_end_matches('/'));
    let request = hyper::Request::get(path).header("host", authority.as_str()).body(Body::empty());
    let request = request.map_err(|_| not_usable())?;
    let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(Unasked::NotPrometheus(address.to_owned(), status.to_string()));
    }
    let body = axum::body::to_bytes(Body::new(answer.into_body()), MAX_ANSWER).await;
    body.map(Vec::from).map_err(|error| unreachable(&error))
}

fn read(address: &str, body: &[u8]) -> Result<Vec<Rule>, Unasked> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| Unasked::NotPrometheus(address.to_owned(), error.to_string()))?;
    Ok(answer.data.groups.into_iter().flat_map(|group| group.rules).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_all_groups_are_read() {
        let body = br#"{"status":"success","data":{"groups":[
            {"name":"a","rules":[{"name":"RouterLogLag","health":"ok","type":"alerting","state":"inactive"}]},
            {"name":"b","rules":[{"name":"Other","type":"alerting"}]}]}}"#;
        let rules = read("http://p", body).unwrap();
        let rule = |name: &str, health: &str| Rule { name: name.to_owned(), health: health.to_owned() };
        assert_eq!(rules, [rule("RouterLogLag", "ok"), rule("Other", "")]);
        assert!(matches!(read("http://p", b"<html>"), Err(Unasked::NotPrometheus(..))));
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_asked_is_named() {
        for address in ["https://p:9090", "p:9090", "", "http://", "/x"] {
            assert!(matches!(rules(address).await, Err(Unasked::Address(_))), "{address}");
        }
    }
}
