//! Requests as they should be, read in one pass.
//!
//! What is wrong, or odd enough to be doubted, is left to the careful reading (`json`), which has the words
//! for it. A law holds the two against each other.

use super::draft::Draft;
use super::field::Field;
use super::json::{VERSION, ordinal};
use crate::domain::{Attributes, Payload};
use crate::wire::json::{Met, Scan, is_object, object};

/// Reads a body into an empty draft. Where it gives none, the draft may be half filled.
pub(super) fn read<'a>(body: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let mut met = Met::default();
    let mut versioned = false;
    object(body, |scan, name| {
        let Some(field) = at_the_top(name) else { return scan.skip() };
        met.first(field as u32)?;
        match field {
            Field::Version => versioned = scan.text()?? == VERSION,
            Field::RequestId => draft.request_id = scan.text()?,
            Field::TenantId => draft.tenant_id = scan.text()?,
            Field::PolicyId => draft.policy_id = scan.text()?,
            Field::TraceId => draft.trace_id = scan.text()?,
            Field::Task => task(scan, draft)?,
            Field::Constraints => constraints(scan, draft)?,
            Field::Metadata => draft.metadata = scan.or_null(json_object)?.unwrap_or_default(),
            Field::Context => context(scan, draft)?,
            Field::PushAssignment => draft.push_assignment = scan.boolean()?.unwrap_or_default(),
            Field::AssignmentSubject => draft.assignment_subject = scan.text()?,
            Field::Explain => draft.explain = scan.boolean()?.unwrap_or_default(),
            // What has `ok` is an answer.
            _ => return scan.null()?.then_some(()),
        }
        Some(())
    })?;
    versioned.then_some(())
}

/// The field that a member of the body is. (A match on constants looks at lengths first.)
#[inline]
fn at_the_top(name: &[u8]) -> Option<Field> {
    Some(match name {
        b"ok" => Field::Ok,
        b"version" => Field::Version,
        b"request_id" => Field::RequestId,
        b"tenant_id" => Field::TenantId,
        b"policy_id" => Field::PolicyId,
        b"trace_id" => Field::TraceId,
        b"task" => Field::Task,
        b"constraints" => Field::Constraints,
        b"metadata" => Field::Metadata,
        b"context" => Field::Context,
        b"push_assignment" => Field::PushAssignment,
        b"assignment_subject" => Field::AssignmentSubject,
        b"explain" => Field::Explain,
        _ => return None,
    })
}

fn json_object(raw: &str) -> Option<Attributes<'_>> {
    is_object(raw).then_some(Attributes::Json(raw))
}

fn task<'a>(scan: &mut Scan<'a>, draft: &mut Draft<'a>) -> Option<()> {
    if scan.null()? {
        return Some(());
    }
    let mut met = Met::default();
    scan.object(|scan, name| {
        match name {
            b"type" => {
                met.first(Field::TaskType as u32)?;
                draft.task_type = scan.text()?;
            }
            b"payload_ref" => {
                met.first(Field::PayloadRef as u32)?;
                draft.payload_ref = scan.text()?;
            }
            b"payload" => {
                met.first(Field::Payload as u32)?;
                draft.payload = scan.or_null(|raw| Some(Payload::Json(raw)))?;
            }
            _ => scan.skip()?,
        }
        Some(())
    })
}

fn constraints<'a>(scan: &mut Scan<'a>, draft: &mut Draft<'a>) -> Option<()> {
    if scan.null()? {
        return Some(());
    }
    let mut met = Met::default();
    scan.object(|scan, name| {
        match name {
            b"max_latency_ms" => {
                met.first(Field::MaxLatency as u32)?;
                draft.max_latency_ms = scan.number()?;
            }
            b"max_cost" => {
                met.first(Field::MaxCost as u32)?;
                draft.max_cost = scan.number()?;
            }
            _ => scan.skip()?,
        }
        Some(())
    })
}

fn context<'a>(scan: &mut Scan<'a>, draft: &mut Draft<'a>) -> Option<()> {
    if scan.null()? {
        return Some(());
    }
    let mut met = Met::default();
    let raw = scan.raw_object(|scan, name| {
        match name {
            b"status" => {
                met.first(Field::Status as u32)?;
                draft.status = scan.text_or_number()?;
            }
            b"attempt" => {
                met.first(Field::Attempt as u32)?;
                draft.attempt = scan.or_null(|raw| ordinal(raw).ok())?;
            }
            _ => scan.skip()?,
        }
        Some(())
    })?;
    draft.context = Attributes::Json(raw);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::json::read_carefully;
    use crate::wire::tests::nearly;

    /// All that can stand in a request, in usual and in odd forms.
    const BODIES: [&str; 4] = [
        r#"{"version":"1","request_id":"0b0f7c1e-6c0e-4e43-9a65-6a1f6f0b8a31","tenant_id":"acme","task":{"type":"text.generate","payload_ref":"s3://prompts/1"},"context":{"user_id":"u-42"}}"#,
        r#"{"context":{"attempt":2,"status":503,"user":"\"\\"},"explain":false,"push_assignment":true,
            "assignment_subject":"caf.exec.assign.v1","metadata":{"user":null,"\ud800":[{},[]]},"trace_id":"t\/1",
            "constraints":{"max_cost":-0.5e-1,"max_latency_ms":1500},"policy_id":"canary","tenant_id":"acme",
            "task":{"payload":{"messages":[{"role":"user","content":"say \"hi\"\nand \u00e9 é"}]},"type":"t\n\u00e9"},
            "request_id":"r-1","version":"1","else":[1,2.5,true]}"#,
        r#" { "version" : "1" , "request_id" : "r" , "trace_id" : null , "task" : { "type" : "t" , "payload" : 7 } ,
            "constraints":null,"metadata":null,"context":{"status":"timeout","attempt":null},"ok":null } "#,
        r#"{"request_id":null,"version":"1","task":null,"explain":null,"push_assignment":null,"context":null}"#,
    ];

    /// What the quick reading gives is what the careful one gives; it may give nothing.
    fn agree(body: &str) -> bool {
        let mut draft = Draft::default();
        let read = read(body, &mut draft).is_some();
        if read {
            let careful = read_carefully(body).unwrap_or_else(|fault| panic!("{body}: {fault:?}"));
            assert_eq!(format!("{draft:?}"), format!("{careful:?}"), "{body}");
        }
        read
    }

    #[test]
    fn requests_as_they_should_be_are_read_quickly() {
        for body in BODIES {
            assert!(agree(body), "{body}");
        }
        let deep = format!(r#"{{"version":"1","task":{{"payload":{}1{}}}}}"#, "[".repeat(30), "]".repeat(30));
        assert!(agree(&deep));
    }

    #[test]
    fn every_member_is_known_at_the_top() {
        use crate::wire::request::json::TOP;
        for field in TOP {
            assert_eq!(at_the_top(field.key().as_bytes()), Some(field));
        }
        assert_eq!(at_the_top(b"type"), None);
    }

    #[test]
    fn what_is_wrong_or_odd_is_left_to_the_careful_reading() {
        for body in [
            r#"{"version":"2","request_id":"r"}"#,
            r#"{"request_id":"r"}"#,
            r#"{"version":null}"#,
            r#"{"version":"1","ok":true}"#,
            r#"{"version":"1","request_id":7}"#,
            r#"{"version":"1","request_id":"\ud800"}"#,
            r#"{"version":"1","trace_id":null,"trace_id":"t"}"#,
            r#"{"version":"1","task":{"type":"t","type":null}}"#,
            r#"{"version":"1","task":{"payload":null,"payload":1}}"#,
            r#"{"version":"1","task":[]}"#,
            r#"{"version":"1","constraints":{"max_cost":"1"}}"#,
            r#"{"version":"1","metadata":[]}"#,
            r#"{"version":"1","context":{"status":true}}"#,
            r#"{"version":"1","context":{"attempt":0}}"#,
            r#"{"version":"1","context":{"attempt":1.5}}"#,
            r#"{"version":"1","explain":"true"}"#,
            r#"{"version":"1","t\u0061sk":null}"#,
            r#"{"version":"1"} {}"#,
        ] {
            assert!(!agree(body), "{body}");
        }
    }

    #[test]
    fn no_change_of_a_byte_and_no_cut_tells_the_readings_apart() {
        BODIES.iter().for_each(|body| nearly(body, agree));
    }

    /// However long what stands before and in a text: no place in a block is special.
    #[test]
    fn texts_of_every_length_are_read_quickly() {
        for length in 1..70 {
            let (blanks, text) = (" ".repeat(length), "r".repeat(length));
            for end in ["", r"\n", r#"\""#, r"\u00e9"] {
                let body =
                    format!(r#"{blanks}{{"version":"1","trace_id":"{text}{end}","{text}":"{end}{text}"}}"#);
                assert!(agree(&body), "{body}");
            }
        }
    }
}
