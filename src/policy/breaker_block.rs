use std::sync::Arc;

use serde_json::{Map, Value};

use crate::breaker::{Settings, SettingsDraft};
use crate::document::{Block, Faults, Shape, Words, described, item, whole_number};
use crate::domain::Status;

/// One field of the block: its name, and what of a draft it sets and shows.
struct Field(&'static str, Kind);

enum Kind {
    Flag(fn(&mut SettingsDraft) -> &mut bool),
    Whole(fn(&mut SettingsDraft) -> &mut u64),
    Factor(fn(&mut SettingsDraft) -> &mut f64),
    Latency,
    Statuses,
    Codes,
}

static FIELDS: [Field; 17] = [
    Field("enabled", Kind::Flag(|d| &mut d.enabled)),
    Field("failure_threshold", Kind::Whole(|d| &mut d.failure_threshold)),
    Field("error_rate_threshold", Kind::Factor(|d| &mut d.error_rate_threshold)),
    Field("error_rate_window_seconds", Kind::Whole(|d| &mut d.error_rate_window_seconds)),
    Field("minimum_requests", Kind::Whole(|d| &mut d.minimum_requests)),
    Field("timeout_ms", Kind::Whole(|d| &mut d.timeout_ms)),
    Field("success_threshold", Kind::Whole(|d| &mut d.success_threshold)),
    Field("half_open_max_calls", Kind::Whole(|d| &mut d.half_open_max_calls)),
    Field("probe_timeout_ms", Kind::Whole(|d| &mut d.probe_timeout_ms)),
    Field("latency_threshold_ms", Kind::Latency),
    Field("slow_call_rate_threshold", Kind::Factor(|d| &mut d.slow_call_rate_threshold)),
    Field("backoff_multiplier", Kind::Factor(|d| &mut d.backoff_multiplier)),
    Field("max_timeout_ms", Kind::Whole(|d| &mut d.max_timeout_ms)),
    Field("jitter_ratio", Kind::Factor(|d| &mut d.jitter_ratio)),
    Field("enforce_percent", Kind::Whole(|d| &mut d.enforce_percent)),
    Field("failure_statuses", Kind::Statuses),
    Field("ignored_error_codes", Kind::Codes),
];

/// Stands in a draft for a value of the wrong type: outside every range, so that the fault which
/// [`Settings::try_new`] tells names the range, and no rule between fields is judged by it.
const NO_WHOLE: u64 = u64::MAX;
const NO_FACTOR: f64 = f64::NAN;

/// Names of the block that a kind of document refuses, each with its advice.
type Refused<'k> = [(&'k str, &'k str)];

/// The block of a document as checked settings; disabled where it has none. `refused` are fields that
/// this kind of document does not take.
pub(crate) fn read(document: &Block<'_>, refused: &Refused<'_>, faults: &mut Faults) -> Arc<Settings> {
    Arc::new(checked(document, refused, faults).unwrap_or_else(Settings::disabled))
}

fn checked(document: &Block<'_>, refused: &Refused<'_>, faults: &mut Faults) -> Option<Settings> {
    let taken = |Field(name, _): &&Field| refused.iter().all(|(other, _)| other != name);
    let fields: Vec<_> = FIELDS.iter().filter(taken).collect();
    let known: Vec<_> = fields.iter().map(|Field(name, _)| *name).collect();
    let block = document.block("circuit_breaker", &Shape { known: &known, refused }, faults)?;
    let mut draft = SettingsDraft::default();
    let mistyped = fill(&mut draft, &fields, &block, faults);
    let list = match Settings::try_new(&draft) {
        Ok(settings) => return Some(settings),
        Err(list) => list,
    };
    for fault in list {
        let given = mistyped.iter().find(|(field, _)| *field == fault.field);
        let message = match given {
            Some((_, given)) => format!("{}, not {given}", fault.message),
            None => fault.message,
        };
        faults.add(block.at(fault.field), message);
    }
    None
}

/// The block with every default filled in.
pub fn shown(settings: &Settings) -> Value {
    let mut draft = settings.to_draft();
    let mut block = Map::new();
    for Field(name, kind) in &FIELDS {
        let value = match kind {
            Kind::Flag(part) => Value::from(*part(&mut draft)),
            Kind::Whole(part) => Value::from(*part(&mut draft)),
            Kind::Factor(part) => Value::from(*part(&mut draft)),
            Kind::Latency => Value::from(draft.latency_threshold_ms),
            Kind::Statuses => draft.failure_statuses.iter().map(|s| s.as_str()).collect(),
            Kind::Codes => Value::from(draft.ignored_error_codes.clone()),
        };
        block.insert((*name).to_owned(), value);
    }
    Value::Object(block)
}

/// Puts what the block gives into the draft. Values of the wrong type are replaced by what is outside
/// every range, and told, as the name of the field and what it holds.
fn fill(
    draft: &mut SettingsDraft,
    fields: &[&'static Field],
    block: &Block<'_>,
    faults: &mut Faults,
) -> Vec<(&'static str, String)> {
    let mut mistyped = Vec::new();
    for Field(name, kind) in fields {
        let Some(value) = block.get(name) else { continue };
        let right_type = match kind {
            Kind::Flag(part) => {
                let present = *part(draft);
                *part(draft) = block.flag(name, present, faults);
                true
            }
            Kind::Whole(part) => {
                *part(draft) = whole_number(value).unwrap_or(NO_WHOLE);
                whole_number(value).is_some()
            }
            Kind::Factor(part) => {
                *part(draft) = value.as_f64().unwrap_or(NO_FACTOR);
                value.is_number()
            }
            // The default is none, so `null` is how a document says it.
            Kind::Latency if value.is_null() => true,
            Kind::Latency => {
                draft.latency_threshold_ms = Some(whole_number(value).unwrap_or(NO_WHOLE));
                whole_number(value).is_some()
            }
            Kind::Statuses => {
                draft.failure_statuses = statuses(&block.at(name), value, faults);
                true
            }
            Kind::Codes => {
                // The breaker's own bounds on count and length hold.
                let words = Words { bare: false, numbers: false, most: None, longest: usize::MAX };
                draft.ignored_error_codes = words.read(&block.at(name), value, faults);
                true
            }
        };
        if !right_type {
            mistyped.push((*name, described(value)));
        }
    }
    mistyped
}

fn statuses(path: &str, value: &Value, faults: &mut Faults) -> Vec<Status> {
    let words = Words { bare: false, numbers: false, most: None, longest: usize::MAX };
    let statuses = words.read(path, value, faults).iter().filter_map(|word| Status::parse(word)).collect();
    let given = value.as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, word) in given.iter().enumerate() {
        if word.as_str().is_some_and(|word| Status::parse(word).is_none()) {
            faults.add(item(path, index), "must be one of error, timeout, cancelled");
        }
    }
    statuses
}
