//! What differs between two JSON documents, as a list of changes.

use serde::Serialize;
use serde_json::Value;

/// One difference. An absent side means that there was nothing, or is nothing.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Change {
    /// Where, as an RFC 6901 pointer: into the newer document, or the older where nothing is left.
    path: String,
    /// `added`, `removed` or `changed`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

/// The differences in the order of the documents' members. Members of a list that bear a `name` are the
/// same if their names are, whatever their places; others if their places are.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare(&mut String::new(), before, after, &mut found);
    found
}

fn compare(path: &mut String, before: &Value, after: &Value, found: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, old) in old {
                within(path, name, |path| match new.get(name) {
                    Some(new) => compare(path, old, new, found),
                    None => found.push(removed(path, old)),
                });
            }
            for (name, new) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                within(path, name, |path| found.push(added(path, new)));
            }
        }
        (Value::Array(old), Value::Array(new)) => lists(path, old, new, found),
        _ if before == after => {}
        _ => found.push(Change {
            path: path.clone(),
            kind: "changed",
            before: Some(before.clone()),
            after: Some(after.clone()),
        }),
    }
}

fn lists(path: &mut String, old: &[Value], new: &[Value], found: &mut Vec<Change>) {
    let named = |list: &[Value]| list.iter().all(|item| name_of(item).is_some());
    let by_name = named(old) && named(new);
    let twin = |item: &Value, at: usize, list: &[Value]| {
        let same = |other: &&Value| name_of(other) == name_of(item);
        if by_name { list.iter().find(same).cloned() } else { list.get(at).cloned() }
    };
    for (at, item) in old.iter().enumerate() {
        if twin(item, at, new).is_none() {
            within(path, &at.to_string(), |path| found.push(removed(path, item)));
        }
    }
    for (at, item) in new.iter().enumerate() {
        within(path, &at.to_string(), |path| match twin(item, at, old) {
            Some(old) => compare(path, &old, item, found),
            None => found.push(added(path, item)),
        });
    }
}

fn name_of(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

fn within(path: &mut String, member: &str, f: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    path.push_str(&member.replace('~', "~0").replace('/', "~1"));
    f(path);
    path.truncate(length);
}

fn added(path: &str, new: &Value) -> Change {
    Change { path: path.to_owned(), kind: "added", before: None, after: Some(new.clone()) }
}

fn removed(path: &str, old: &Value) -> Change {
    Change { path: path.to_owned(), kind: "removed", before: Some(old.clone()), after: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(before: Value, after: Value) -> Vec<(String, &'static str)> {
        changes(&before, &after).into_iter().map(|c| (c.path, c.kind)).collect()
    }

    #[test]
    fn equal_documents_differ_in_nothing() {
        let document = json!({"a": [1, {"name": "x"}], "b": null});
        assert_eq!(told(document.clone(), document), []);
    }

    #[test]
    fn each_difference_is_told_where_it_lies() {
        let before = json!({"a": 1, "gone": [2], "in/ner": {"~": true, "same": 0}});
        let after = json!({"a": "1", "in/ner": {"~": false, "same": 0}, "new": {}});
        let changed = |path: &str, kind| (path.to_owned(), kind);
        assert_eq!(
            told(before, after),
            [
                changed("/a", "changed"),
                changed("/gone", "removed"),
                changed("/in~1ner/~0", "changed"),
                changed("/new", "added"),
            ]
        );
        assert_eq!(told(json!([1, 2]), json!([1, 3, 4])), [changed("/1", "changed"), changed("/2", "added")]);
    }

    #[test]
    fn named_members_are_found_wherever_they_stand() {
        let before =
            json!([{"name": "a", "weight": 1}, {"name": "b", "weight": 2}, {"name": "c", "weight": 3}]);
        let after =
            json!([{"name": "c", "weight": 3}, {"name": "a", "weight": 9}, {"name": "d", "weight": 0}]);
        let found = changes(&before, &after);
        let lines: Vec<_> = found.iter().map(|c| (c.path.as_str(), c.kind)).collect();
        assert_eq!(lines, [("/1", "removed"), ("/1/weight", "changed"), ("/2", "added")]);
        assert_eq!((&found[1].before, &found[1].after), (&Some(json!(1)), &Some(json!(9))));
    }
}
