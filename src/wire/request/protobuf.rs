use std::borrow::Cow;
use std::collections::HashMap;

use prost::Message as _;

use super::draft::Draft;
use super::field::{Fault, Field};
use super::json::ordinal;
use crate::domain::{Attributes, Payload};
use crate::wire::proto;

/// What the keys of the context map are called for fields that JSON has elsewhere.
const MAX_LATENCY_KEY: &str = "constraints.max_latency_ms";
const MAX_COST_KEY: &str = "constraints.max_cost";

/// Reads a body into `into`, and from there into an empty draft. An empty string is as good as absent
/// everywhere.
pub(super) fn read<'a>(
    body: &[u8],
    into: &'a mut proto::RouteRequest,
    draft: &mut Draft<'a>,
) -> Result<(), Fault> {
    *into = proto::RouteRequest::decode(body)
        .map_err(|_| Fault::body("the body is not a beamline.flow.v1.RouteRequest"))?;
    let context = Keys(&into.context);
    *draft = Draft {
        policy_id: present(&into.policy_id),
        context: attributes(&into.context),
        payload_ref: context.text(Field::PayloadRef.key()),
        max_latency_ms: context.number(MAX_LATENCY_KEY, Field::MaxLatency)?,
        max_cost: context.number(MAX_COST_KEY, Field::MaxCost)?,
        status: context.text(Field::Status.key()),
        attempt: context.get(Field::Attempt.key()).map(ordinal).transpose()?,
        push_assignment: context.flag(Field::PushAssignment)?,
        assignment_subject: context.text(Field::AssignmentSubject.key()),
        explain: context.flag(Field::Explain)?,
        ..Draft::default()
    };
    if let Some(message) = &into.message {
        draft.request_id = present(&message.message_id);
        draft.tenant_id = present(&message.tenant_id);
        draft.trace_id = present(&message.trace_id);
        draft.task_type = present(&message.message_type);
        draft.payload = (!message.payload.is_empty()).then_some(Payload::Bytes(&message.payload));
        draft.metadata = attributes(&message.metadata);
    }
    Ok(())
}

fn present(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

fn attributes(map: &HashMap<String, String>) -> Attributes<'_> {
    if map.is_empty() { Attributes::Absent } else { Attributes::Map(map) }
}

struct Keys<'a>(&'a HashMap<String, String>);

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key).map(Cow::Borrowed)
    }

    fn number(&self, key: &str, field: Field) -> Result<Option<f64>, Fault> {
        self.get(key).map(|text| text.parse().map_err(|_| field.fault("must be a number"))).transpose()
    }

    fn flag(&self, field: Field) -> Result<bool, Fault> {
        match self.get(field.key()) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(field.fault("must be true or false")),
        }
    }
}
