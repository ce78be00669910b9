//! Documents for the tests of their readers.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::Fault;

/// Any JSON, in which names and texts are often those given.
pub(crate) fn any_json(
    names: &'static [&'static str],
    words: &'static [&'static str],
) -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u64..200).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[a-z0-9_.:-]{1,12}".prop_map(Value::from),
        prop::sample::select(words).prop_map(Value::from),
    ];
    let name = prop_oneof![4 => prop::sample::select(names).prop_map(str::to_owned), 1 => ".{0,8}"];
    scalar.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(name.clone(), inner, 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// An object with those members that are given.
pub(crate) fn object(members: Vec<(&str, Option<Value>)>) -> Value {
    Value::Object(members.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect::<Map<_, _>>())
}

/// Puts `value` in the place of the `index`-th node, counted round.
pub(crate) fn spoil(document: &mut Value, index: usize, value: Value) {
    fn count(node: &Value) -> usize {
        1 + match node {
            Value::Array(list) => list.iter().map(count).sum(),
            Value::Object(map) => map.values().map(count).sum::<usize>(),
            _ => 0,
        }
    }
    fn nth(node: &mut Value, left: &mut usize, value: &Value) {
        if *left == 0 {
            *node = value.clone();
        }
        *left = left.wrapping_sub(1);
        match node {
            Value::Array(list) => list.iter_mut().for_each(|child| nth(child, left, value)),
            Value::Object(map) => map.values_mut().for_each(|child| nth(child, left, value)),
            _ => {}
        }
    }
    let mut left = index % count(document);
    nth(document, &mut left, &value);
}

/// What faults promise: there are some, and each says something of a place in the document.
pub(crate) fn point_into(document: &Value, faults: &[Fault]) -> Result<(), TestCaseError> {
    prop_assert!(!faults.is_empty());
    for fault in faults {
        prop_assert!(!fault.message.is_empty());
        prop_assert!(fault.path.is_empty() || fault.path.starts_with('/'));
        let parent = fault.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        prop_assert!(document.pointer(parent).is_some(), "{} has no parent", fault.path);
    }
    Ok(())
}
