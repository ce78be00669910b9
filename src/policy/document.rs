use serde_json::Value;

use crate::document::{Block, Fault, Faults, Shape, Words, described, duration_ms};
use crate::domain::{MAX_ID, PolicyId, is_literal};

use super::model::{Policy, Sticky};
use super::{breaker_block, candidates, fallbacks, warnings};

/// What messages call it.
const KIND: &str = "policy";
const DEFAULT_VERSION: &str = "1.0";
/// The router only shows it.
const MAX_VERSION: usize = 64;
/// That of an id, as the older router had it.
const MAX_SESSION_KEY: usize = 255;

const NOT_IMPLEMENTED: &str = "is not implemented by this router; remove it";
const DID_NOTHING: &str =
    "is no field of a policy: the older router took it and did nothing with it; remove it";

/// The field that lists where assignments may go.
pub const ASSIGNMENT_SUBJECTS: &str = "assignment_subjects";
const SUBJECTS: Words = Words { bare: false, numbers: false, most: Some(16), longest: MAX_ID };

const DOCUMENT: Shape<'_> = Shape {
    known: &[
        "policy_id",
        "version",
        "providers",
        "weights",
        "sticky",
        "fallbacks",
        "fallback",
        "circuit_breaker",
        ASSIGNMENT_SUBJECTS,
    ],
    refused: &[
        ("pre", NOT_IMPLEMENTED),
        ("validators", NOT_IMPLEMENTED),
        ("post", NOT_IMPLEMENTED),
        ("rate_limit", NOT_IMPLEMENTED),
        ("health_check", NOT_IMPLEMENTED),
        ("metadata", DID_NOTHING),
        (
            "tenant_id",
            "is no field of a policy: the tenant stands beside the policy in the request; remove it",
        ),
    ],
};

const STICKY: Shape<'_> = Shape {
    known: &["enabled", "session_key", "ttl"],
    refused: &[
        ("ttl_seconds", "is no field of a policy: the name is ttl, and it has no effect"),
        ("ttl_sec", "is no field of a policy: the name is ttl, and it has no effect"),
    ],
};

/// A document without faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What it means.
    pub policy: Policy,
    /// What is legal and probably not meant.
    pub warnings: Vec<String>,
}

/// Checks a whole document.
///
/// # Errors
/// All faults at once, at most [`super::MAX_FAULTS`] and one that counts the rest.
pub fn parse(document: &Value) -> Result<Checked, Vec<Fault>> {
    let mut faults = Faults::default();
    let Some(top) = Block::document(KIND, document, &DOCUMENT, &mut faults) else {
        return Err(faults.into_vec());
    };
    let id = policy_id(&top, &mut faults);
    let version = top.text("version", MAX_VERSION, &mut faults).unwrap_or(DEFAULT_VERSION).to_owned();
    let mut candidates = candidates::read(&top, &mut faults);
    let fallbacks = fallbacks::read(&top, &mut candidates, &mut faults);
    let (sticky_enabled, sticky) = sticky(&top, &mut faults);
    let breaker = breaker_block::read(&top, &[], &mut faults);
    let assignment_subjects = assignment_subjects(&top, &mut faults);
    match id {
        Some(id) if faults.is_empty() => {
            let policy = Policy {
                id,
                version,
                candidates,
                sticky,
                sticky_enabled,
                fallbacks,
                breaker,
                assignment_subjects,
            };
            let warnings = warnings::of(&policy, document);
            Ok(Checked { policy, warnings })
        }
        _ => Err(faults.into_vec()),
    }
}

fn policy_id(document: &Block<'_>, faults: &mut Faults) -> Option<PolicyId> {
    let Value::String(text) = document.required("policy_id", faults)? else {
        faults.add(document.at("policy_id"), "must be a string");
        return None;
    };
    PolicyId::try_new(text).map_err(|error| faults.add(document.at("policy_id"), error.to_string())).ok()
}

fn assignment_subjects(document: &Block<'_>, faults: &mut Faults) -> Vec<String> {
    let Some(value) = document.get(ASSIGNMENT_SUBJECTS) else { return Vec::new() };
    let path = document.at(ASSIGNMENT_SUBJECTS);
    let subjects = SUBJECTS.read(&path, value, faults);
    for subject in subjects.iter().filter(|subject| !is_literal(subject)) {
        let message =
            format!("must hold subjects without wildcards, spaces or empty tokens, not {subject:?}");
        faults.add(path.clone(), message);
    }
    subjects
}

/// Whether sessions stick, and how: a block that is switched off is checked and kept all the same.
fn sticky(document: &Block<'_>, faults: &mut Faults) -> (bool, Option<Sticky>) {
    let Some(block) = document.block("sticky", &STICKY, faults) else { return (false, None) };
    // No default: half of the documents without it would mean the other.
    block.required("enabled", faults);
    let enabled = block.flag("enabled", false, faults);
    if enabled {
        block.required("session_key", faults);
    }
    let ttl_ms = block.get("ttl").and_then(|value| {
        let ms = duration_ms(value);
        if ms.is_none() {
            let message = format!(
                "must be a duration above 0, like \"10m\", \"30s\", \"1h\" or \"500ms\", or a number of \
                 seconds, not {}",
                described(value)
            );
            faults.add(block.at("ttl"), message);
        }
        ms
    });
    let session_key = block.text("session_key", MAX_SESSION_KEY, faults);
    (enabled, session_key.map(|key| Sticky { session_key: key.to_owned(), ttl_ms }))
}
