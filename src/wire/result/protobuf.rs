use std::borrow::Cow;

use prost::Message;

use super::{Draft, Reject};
use crate::wire::proto;

/// What of an `ExecResult` is used. The map in its job is skipped unread: it may hold thousands of entries.
#[derive(Clone, PartialEq, Message)]
struct Used {
    #[prost(string, tag = "1")]
    assignment_id: String,
    #[prost(string, tag = "2")]
    request_id: String,
    #[prost(string, tag = "3")]
    status: String,
    #[prost(string, tag = "4")]
    provider_id: String,
    #[prost(message, optional, tag = "5")]
    job: Option<UsedJob>,
    #[prost(int64, optional, tag = "6")]
    latency_ms: Option<i64>,
    #[prost(double, optional, tag = "7")]
    cost: Option<f64>,
    #[prost(string, tag = "8")]
    trace_id: String,
    #[prost(string, tag = "9")]
    tenant_id: String,
    #[prost(int64, tag = "10")]
    timestamp: i64,
    #[prost(string, tag = "11")]
    error_code: String,
    #[prost(int64, tag = "13")]
    retry_after_ms: i64,
}

/// What of a `Job` is used.
#[derive(Clone, PartialEq, Message)]
struct UsedJob {
    #[prost(string, tag = "1")]
    kind: String,
}

/// Reads what is used of a result.
pub(super) fn read_used(body: &[u8]) -> Result<Draft<'static>, Reject> {
    let used = Used::decode(body).map_err(|_| Reject::Undecodable)?;
    Ok(Draft {
        assignment_id: present(used.assignment_id),
        request_id: present(used.request_id),
        tenant_id: present(used.tenant_id),
        provider_id: present(used.provider_id),
        status: present(used.status),
        job_type: used.job.and_then(|job| present(job.kind)),
        trace_id: present(used.trace_id),
        error_code: present(used.error_code),
        latency_ms: used.latency_ms.map(as_f64),
        cost: used.cost,
        timestamp: Some(as_f64(used.timestamp)),
        retry_after_ms: Some(as_f64(used.retry_after_ms)),
    })
}

/// Reads a whole result, as before version 3 of the fold: one with a broken map is no result.
pub(super) fn read_whole(body: &[u8]) -> Result<Draft<'static>, Reject> {
    proto::ExecResult::decode(body).map_err(|_| Reject::Undecodable)?;
    read_used(body)
}

pub(in crate::wire) fn present(text: String) -> Option<Cow<'static, str>> {
    (!text.is_empty()).then_some(Cow::Owned(text))
}

/// Exact up to 2⁵³, which as milliseconds is the year 287396.
#[expect(clippy::cast_precision_loss, reason = "exact for all that makes sense")]
fn as_f64(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(metadata: usize) -> proto::ExecResult {
        let metadata = (0..metadata).map(|n| (n.to_string(), String::new())).collect();
        proto::ExecResult {
            assignment_id: "a-1".to_owned(),
            request_id: "r-1".to_owned(),
            status: "error".to_owned(),
            provider_id: "openai".to_owned(),
            job: Some(proto::Job { r#type: "t".to_owned(), metadata }),
            latency_ms: Some(5),
            cost: Some(0.5),
            trace_id: "t-1".to_owned(),
            tenant_id: "acme".to_owned(),
            timestamp: 7,
            error_code: "429".to_owned(),
            error_message: "slow down".to_owned(),
            retry_after_ms: 9,
        }
    }

    #[test]
    fn what_is_used_is_read_from_where_the_contract_has_it() {
        let draft = read_used(&result(3).encode_to_vec()).unwrap();
        let texts = [
            (&draft.assignment_id, "a-1"),
            (&draft.request_id, "r-1"),
            (&draft.status, "error"),
            (&draft.provider_id, "openai"),
            (&draft.job_type, "t"),
            (&draft.trace_id, "t-1"),
            (&draft.tenant_id, "acme"),
            (&draft.error_code, "429"),
        ];
        for (read, expected) in texts {
            assert_eq!(read.as_deref(), Some(expected));
        }
        let numbers = [draft.latency_ms, draft.cost, draft.timestamp, draft.retry_after_ms];
        assert_eq!(numbers, [Some(5.0), Some(0.5), Some(7.0), Some(9.0)]);
    }

    #[test]
    fn a_broken_map_makes_no_result_as_long_as_it_is_read() {
        let mut body = result(0).encode_to_vec();
        // A job whose map has a key that is no UTF-8.
        body.extend_from_slice(b"\x2a\x05\x12\x03\x0a\x01\xff");
        assert!(read_whole(&body).is_err());
        assert_eq!(read_used(&body).unwrap().job_type.as_deref(), Some("t"));
    }
}
