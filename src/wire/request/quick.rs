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
        // Compared whole: the arms of a match on texts are compared byte by byte.
        match name {
            _ if name == b"version" => versioned = met.once(Field::Version as u32, scan)?.text()?? == VERSION,
            _ if name == b"request_id" => {
                draft.request_id = met.once(Field::RequestId as u32, scan)?.text()?
            }
            _ if name == b"tenant_id" => draft.tenant_id = met.once(Field::TenantId as u32, scan)?.text()?,
            _ if name == b"policy_id" => draft.policy_id = met.once(Field::PolicyId as u32, scan)?.text()?,
            _ if name == b"trace_id" => draft.trace_id = met.once(Field::TraceId as u32, scan)?.text()?,
            _ if name == b"task" => task(met.once(Field::Task as u32, scan)?, draft)?,
            _ if name == b"constraints" => constraints(met.once(Field::Constraints as u32, scan)?, draft)?,
            _ if name == b"metadata" => {
                draft.metadata =
                    met.once(Field::Metadata as u32, scan)?.or_null(attributes)?.unwrap_or_default()
            }
            _ if name == b"context" => context(met.once(Field::Context as u32, scan)?, draft)?,
            _ if name == b"push_assignment" => {
                draft.push_assignment = met.once(Field::PushAssignment as u32, scan)?.boolean()? == Some(true)
            }
            _ if name == b"assignment_subject" => {
                draft.assignment_subject = met.once(Field::AssignmentSubject as u32, scan)?.text()?
            }
            _ if name == b"explain" => {
                draft.explain = met.once(Field::Explain as u32, scan)?.boolean()? == Some(true)
            }
            // With a value, it is an answer.
            _ if name == b"ok" => return met.once(Field::Ok as u32, scan)?.null()?.then_some(()),
            _ => scan.skip()?,
        }
        Some(())
    })?;
    versioned.then_some(())
}

fn attributes(raw: &str) -> Option<Attributes<'_>> {
    is_object(raw).then_some(Attributes::Json(raw))
}

fn task<'a>(scan: &mut Scan<'a>, draft: &mut Draft<'a>) -> Option<()> {
    if scan.null()? {
        return Some(());
    }
    let mut met = Met::default();
    scan.object(|scan, name| {
        match name {
            _ if name == b"type" => draft.task_type = met.once(Field::TaskType as u32, scan)?.text()?,
            _ if name == b"payload_ref" => {
                draft.payload_ref = met.once(Field::PayloadRef as u32, scan)?.text()?
            }
            _ if name == b"payload" => {
                draft.payload =
                    met.once(Field::Payload as u32, scan)?.or_null(|raw| Some(Payload::Json(raw)))?
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
            _ if name == b"max_latency_ms" => {
                draft.max_latency_ms = met.once(Field::MaxLatency as u32, scan)?.number()?
            }
            _ if name == b"max_cost" => draft.max_cost = met.once(Field::MaxCost as u32, scan)?.number()?,
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
            _ if name == b"status" => {
                draft.status = met.once(Field::Status as u32, scan)?.text_or_number()?
            }
            _ if name == b"attempt" => {
                draft.attempt = met.once(Field::Attempt as u32, scan)?.or_null(|raw| ordinal(raw).ok())?
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
    use crate::wire::request::json::{TOP, read_carefully};
    use crate::wire::tests::{self, nearly};

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

    fn agree(body: &str) -> bool {
        let mut draft = Draft::default();
        let quick = read(body, &mut draft).map(|()| draft);
        tests::agree(body, quick, || read_carefully(body))
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
    fn every_member_is_known_and_may_be_given_once() {
        for field in TOP {
            let member = match field {
                Field::Version => r#""version":"1""#.to_owned(),
                other => format!(r#""version":"1","{}":null"#, other.key()),
            };
            assert!(agree(&format!("{{{member}}}")), "{member}");
            assert!(!agree(&format!("{{{member},\"{}\":null}}", field.key())), "{member}");
        }
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
