use serde_json::{Map, Value};

/// Changes a document by a JSON merge patch (RFC 7396): objects merge, `null` removes, anything else
/// replaces. As deep as the patch is, so the caller's bound on depth holds here.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            merge_patch(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merge_patch;
    use serde_json::{Value, json};

    #[test]
    fn the_examples_of_rfc_7396_appendix_a_hold() {
        let examples = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r"{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ];
        for (original, patch, result) in examples {
            let read = |text| serde_json::from_str::<Value>(text).unwrap();
            let mut target = read(original);
            merge_patch(&mut target, &read(patch));
            assert_eq!(target, read(result), "{original} patched with {patch}");
        }
    }

    #[test]
    fn a_patch_of_one_block_leaves_the_others() {
        let mut document =
            json!({"policy_id": "p", "circuit_breaker": {"enabled": false, "timeout_ms": 5000}});
        merge_patch(&mut document, &json!({"circuit_breaker": {"enabled": true}}));
        let expected = json!({"policy_id": "p", "circuit_breaker": {"enabled": true, "timeout_ms": 5000}});
        assert_eq!(document, expected);
    }
}
