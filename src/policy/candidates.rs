use std::collections::HashMap;

use serde_json::Value;

use crate::document::{Block, Faults, Shape, below, described, item};
use crate::domain::ProviderId;

use super::model::Candidate;

/// Every provider of a policy has a breaker, metric series and a place in each draw.
const MAX_PROVIDERS: usize = 256;

const PROVIDER: Shape<'_> = Shape { known: &["name", "weight"], refused: &[] };

/// The providers of a document, in either form.
pub(super) fn read(document: &Block<'_>, faults: &mut Faults) -> Vec<Candidate> {
    let before = faults.count();
    let (path, candidates) = match (document.get("providers"), document.get("weights")) {
        (Some(list), older) => {
            if older.is_some() {
                let message = "give either providers or the older form weights, not both";
                faults.add(document.at("weights"), message);
            }
            (document.at("providers"), from_list(document, list, faults))
        }
        (None, Some(map)) => (document.at("weights"), from_map(&document.at("weights"), map, faults)),
        (None, None) => (document.at("providers"), Vec::new()),
    };
    if faults.count() > before {
        return candidates;
    }
    if candidates.is_empty() {
        faults.add(path, nobody(document));
    } else if candidates.iter().all(|c| c.weight == 0) {
        faults.add(path, "must have at least one weight above 0");
    }
    candidates
}

fn nobody(document: &Block<'_>) -> &'static str {
    if document.has("circuit_breaker") {
        "must name at least one provider; a policy.put replaces the whole document: to change only the \
         circuit_breaker block of a policy that exists, use policy.patch"
    } else {
        "must name at least one provider"
    }
}

fn from_list(document: &Block<'_>, value: &Value, faults: &mut Faults) -> Vec<Candidate> {
    let path = &document.at("providers");
    let Value::Array(list) = value else {
        let message = format!("must be an array of {{\"name\", \"weight\"}}, not {}", described(value));
        faults.add(path, message);
        return Vec::new();
    };
    if too_many(path, list.len(), faults) {
        return Vec::new();
    }
    let mut first_by_name: HashMap<ProviderId, usize> = HashMap::new();
    let mut candidates = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let Some(block) = document.open(item(path, index), value, &PROVIDER, faults) else { continue };
        let name = block.required("name", faults).and_then(|v| provider(&block.at("name"), v, faults));
        let weight = block.required("weight", faults).and_then(|v| weight(&block.at("weight"), v, faults));
        let Some(name) = name else { continue };
        if let Some(first) = first_by_name.get(&name) {
            faults.add(block.at("name"), format!("is the name of {} too", item(path, *first)));
            continue;
        }
        first_by_name.insert(name.clone(), index);
        candidates.push(Candidate {
            provider: name,
            weight: millionths(weight.unwrap_or(0.0)),
            listed: true,
        });
    }
    candidates
}

/// The older form. Its numbers are shares of 1 if none is above 1, else of 100. A JSON object has no
/// order that one may rely on, so the candidates stand in order of name.
fn from_map(path: &str, value: &Value, faults: &mut Faults) -> Vec<Candidate> {
    let Value::Object(map) = value else {
        faults.add(path, format!("must be an object of weights by provider, not {}", described(value)));
        return Vec::new();
    };
    if too_many(path, map.len(), faults) {
        return Vec::new();
    }
    let mut shares = Vec::with_capacity(map.len());
    for (name, value) in map {
        let path = below(path, name);
        let name = match ProviderId::try_new(name) {
            Ok(name) => Some(name),
            Err(error) => {
                faults.add(path.as_str(), format!("is no provider id: it {error}"));
                None
            }
        };
        shares.extend(name.zip(weight(&path, value, faults)));
    }
    shares.sort_by(|(a, _), (b, _)| a.cmp(b));
    let scale = if shares.iter().all(|(_, share)| *share <= 1.0) { 100.0 } else { 1.0 };
    let candidate =
        |(provider, share)| Candidate { provider, weight: millionths(share * scale), listed: true };
    shares.into_iter().map(candidate).collect()
}

fn too_many(path: &str, count: usize, faults: &mut Faults) -> bool {
    let over = count > MAX_PROVIDERS;
    if over {
        faults.add(path, format!("may name at most {MAX_PROVIDERS} providers, not {count}"));
    }
    over
}

/// A provider id at a pointer.
pub(super) fn provider(path: &str, value: &Value, faults: &mut Faults) -> Option<ProviderId> {
    let Value::String(text) = value else {
        faults.add(path, format!("must be a string, not {}", described(value)));
        return None;
    };
    ProviderId::try_new(text).map_err(|error| faults.add(path, error.to_string())).ok()
}

fn weight(path: &str, value: &Value, faults: &mut Faults) -> Option<f64> {
    let weight = value.as_f64().filter(|w| (0.0..=100.0).contains(w));
    if weight.is_none() {
        faults.add(path, format!("must be a number from 0 to 100, not {}", described(value)));
    }
    weight
}

/// A weight too small to tell from 0 is the smallest one: who wrote it wants some requests there.
fn millionths(weight: f64) -> u32 {
    if weight <= 0.0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100, as checked")]
    let millionths = (weight * 1_000_000.0).round() as u32;
    millionths.max(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Vec<(String, u32)> {
        let mut faults = Faults::default();
        let list = from_map("/weights", &value, &mut faults);
        assert!(faults.is_empty());
        list.into_iter().map(|c| (c.provider.to_string(), c.weight)).collect()
    }

    #[test]
    fn older_weights_are_shares_of_one_unless_one_is_above_it() {
        let expected = [("anthropic".to_owned(), 30_000_000), ("openai".to_owned(), 70_000_000)];
        assert_eq!(map(json!({"openai": 0.7, "anthropic": 0.3})), expected);
        assert_eq!(map(json!({"openai": 70, "anthropic": 30.0})), expected);
        assert_eq!(map(json!({"a": 1})), [("a".to_owned(), 100_000_000)]);
        assert_eq!(
            map(json!({"a": 0.5, "b": 99.5})),
            [("a".to_owned(), 500_000), ("b".to_owned(), 99_500_000)]
        );
    }

    #[test]
    fn a_weight_is_kept_to_the_millionth_and_none_above_zero_is_lost() {
        assert_eq!(millionths(33.333_333), 33_333_333);
        assert_eq!(millionths(1e-300), 1);
        assert_eq!(millionths(0.0), 0);
        assert_eq!(millionths(-0.0), 0);
        assert_eq!(millionths(100.0), 100_000_000);
    }
}
