use crate::document::check_text;

use super::Fault;
use super::document::{Checked, parse};

/// Parses the text of a document: as [`parse`] does, and names that occur twice in an object are
/// faults too.
///
/// # Errors
/// All faults at once; text that is no JSON is one fault of the whole document.
pub fn parse_text(text: &str) -> Result<Checked, Vec<Fault>> {
    check_text(text, parse)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubled_names_and_other_faults_are_told_together() {
        let faults = parse_text(r#"{"policy_id":"p","policy_id":"q","nonsense":1}"#).unwrap_err();
        let paths: Vec<_> = faults.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["/policy_id", "/nonsense", "/providers"]);
    }

    #[test]
    fn a_sound_text_gives_the_same_policy_as_its_value() {
        let text = r#"{"policy_id":"p","providers":[{"name":"a","weight":100}]}"#;
        let value = serde_json::from_str(text).unwrap();
        assert_eq!(parse_text(text).unwrap().policy, parse(&value).unwrap().policy);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}:,\"a0-9.eE \\\\-]{0,64}") {
            let _ = parse_text(&text);
        }
    }
}
