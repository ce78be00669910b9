use std::borrow::Cow;

use serde_json::{Map, Value};

use super::document::{Checked, parse};
use crate::document::Fault;

const BLOCK: &str = "circuit_breaker";

/// What a rollout lays over documents that it does not edit.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'o> {
    /// Fields of the block that hold where the document states none of its own.
    pub circuit_breaker: &'o Map<String, Value>,
    /// The share of requests whose refusals are enforced, whatever the document states.
    pub enforce_percent: u8,
}

/// A document under an overlay.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlaid {
    /// What it means.
    pub checked: Checked,
    /// Whether the overlay's fields and the document's are valid together. Where they are not, the overlay's
    /// are left out.
    pub fits: bool,
}

/// Checks a document under an overlay, whose breaker is enabled.
///
/// # Errors
/// All faults of the document itself.
pub fn parse_under(document: &Value, overlay: &Overlay<'_>) -> Result<Overlaid, Vec<Fault>> {
    // What is in force under an overlay must be able to stand without it.
    parse(document)?;
    if let Ok(checked) = parse(&laid_over(document, overlay.circuit_breaker, overlay.enforce_percent)) {
        return Ok(Overlaid { checked, fits: true });
    }
    let checked = parse(&laid_over(document, &Map::new(), overlay.enforce_percent))?;
    Ok(Overlaid { checked, fits: false })
}

/// A document that has by itself what the overlay lays over it: so it goes on when the overlay ends.
#[must_use]
pub fn written_into(document: &Value, overlay: &Overlay<'_>) -> Value {
    let whole = laid_over(document, overlay.circuit_breaker, overlay.enforce_percent);
    if parse(&whole).is_ok() {
        return whole.into_owned();
    }
    laid_over(document, &Map::new(), overlay.enforce_percent).into_owned()
}

/// Whether a document decides by itself whether its breakers refuse, and for which share.
#[must_use]
pub fn states_its_share(document: &Value) -> bool {
    let block = document.get(BLOCK);
    ["enabled", "enforce_percent"].into_iter().any(|field| block.is_some_and(|b| b.get(field).is_some()))
}

fn laid_over<'d>(document: &'d Value, under: &Map<String, Value>, enforce_percent: u8) -> Cow<'d, Value> {
    let Value::Object(members) = document else { return Cow::Borrowed(document) };
    let own = members.get(BLOCK).and_then(Value::as_object);
    let mut block = under.clone();
    block.extend(own.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    block.insert("enabled".to_owned(), Value::Bool(true));
    block.insert("enforce_percent".to_owned(), Value::from(enforce_percent));
    let mut members = members.clone();
    members.insert(BLOCK.to_owned(), Value::Object(block));
    Cow::Owned(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::breaker::SettingsDraft;

    fn under(block: &Value, enforce_percent: u8, own: &Value) -> Result<Overlaid, Vec<Fault>> {
        let document =
            json!({"policy_id": "p", "providers": [{"name": "a", "weight": 1}], "circuit_breaker": own});
        let circuit_breaker = block.as_object().unwrap();
        parse_under(&document, &Overlay { circuit_breaker, enforce_percent })
    }

    fn settings(overlaid: &Overlaid) -> SettingsDraft {
        overlaid.checked.policy.breaker().to_draft()
    }

    #[test]
    fn the_documents_own_fields_are_stronger_than_the_overlays_but_for_the_share() {
        let block = json!({"failure_threshold": 7, "timeout_ms": 20_000});
        let own = json!({"enabled": false, "enforce_percent": 100, "timeout_ms": 5_000});
        let overlaid = under(&block, 10, &own).unwrap();
        let expected = SettingsDraft {
            enabled: true,
            enforce_percent: 10,
            failure_threshold: 7,
            timeout_ms: 5_000,
            ..SettingsDraft::default()
        };
        assert_eq!((settings(&overlaid), overlaid.fits), (expected, true));
    }

    #[test]
    fn a_document_without_a_block_gets_one() {
        let document = json!({"policy_id": "p", "providers": [{"name": "a", "weight": 1}]});
        let overlaid =
            parse_under(&document, &Overlay { circuit_breaker: &Map::new(), enforce_percent: 0 }).unwrap();
        let expected = SettingsDraft { enabled: true, enforce_percent: 0, ..SettingsDraft::default() };
        assert_eq!(settings(&overlaid), expected);
    }

    #[test]
    fn what_is_invalid_only_together_leaves_the_document_as_it_is() {
        let block = json!({"max_timeout_ms": 30_000, "failure_threshold": 9});
        let overlaid = under(&block, 50, &json!({"timeout_ms": 60_000})).unwrap();
        assert!(!overlaid.fits);
        let expected = SettingsDraft { enabled: true, enforce_percent: 50, ..SettingsDraft::default() };
        assert_eq!(settings(&overlaid), expected);
    }

    #[test]
    fn faults_are_those_of_the_document() {
        for own in [json!({"timeout_ms": 1}), json!([]), json!({"enforce_percent": "half"})] {
            let document =
                json!({"policy_id": "p", "providers": [{"name": "a", "weight": 1}], "circuit_breaker": own});
            let expected = parse(&document).unwrap_err();
            assert_eq!(under(&json!({"failure_threshold": 7}), 10, &own), Err(expected), "{own}");
        }
    }

    #[test]
    fn a_document_states_its_share_by_either_field() {
        for (own, states) in [
            (json!({"enabled": false}), true),
            (json!({"enforce_percent": 0}), true),
            (json!({"timeout_ms": 5_000}), false),
        ] {
            assert_eq!(states_its_share(&json!({"circuit_breaker": own})), states, "{own}");
        }
        assert!(!states_its_share(&json!({"policy_id": "p"})));
    }
}
