use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::faults::{Fault, Faults, push_key};

/// Reads the text of a document with the reader of its kind, to whose faults names that occur twice in
/// an object are added. Text that is no JSON is one fault of the whole document.
pub(crate) fn check_text<T>(
    text: &str,
    parse: impl FnOnce(&Value) -> Result<T, Vec<Fault>>,
) -> Result<T, Vec<Fault>> {
    let (value, mut faults) = take(text)?;
    match parse(&value) {
        Ok(checked) if faults.is_empty() => Ok(checked),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

/// Reads JSON text in which no object has a name twice: what a merge patch must be before it is
/// applied, since a [`Value`] keeps only the last of them.
///
/// # Errors
/// All doubled names at once; text that is no JSON is one fault of the whole document.
pub fn read_text(text: &str) -> Result<Value, Vec<Fault>> {
    let (value, faults) = take(text)?;
    if faults.is_empty() { Ok(value) } else { Err(faults) }
}

fn take(text: &str) -> Result<(Value, Vec<Fault>), Vec<Fault>> {
    let no_json = |error: serde_json::Error| {
        vec![Fault { path: String::new(), message: format!("is no JSON document: {error}") }]
    };
    let value = serde_json::from_str(text).map_err(no_json)?;
    let mut faults = Faults::default();
    let mut path = String::new();
    // Reads the same grammar with the same depth limit, so it fails only where the line above did.
    Walk { path: &mut path, faults: &mut faults }
        .deserialize(&mut serde_json::Deserializer::from_str(text))
        .map_err(no_json)?;
    Ok((value, faults.into_vec()))
}

/// Walks JSON text and looks at nothing but the names in its objects.
struct Walk<'a> {
    path: &'a mut String,
    faults: &'a mut Faults,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let length = self.path.len();
        let mut told_by_name: BTreeMap<String, bool> = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            push_key(self.path, &name);
            match told_by_name.get_mut(&name) {
                None => {
                    told_by_name.insert(name, false);
                }
                Some(told) if !*told => {
                    *told = true;
                    self.faults.add(self.path.as_str(), "occurs more than once");
                }
                Some(_) => {}
            }
            map.next_value_seed(Walk { path: self.path, faults: self.faults })?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let length = self.path.len();
        for index in 0_usize.. {
            push_key(self.path, &index.to_string());
            let next = seq.next_element_seed(Walk { path: self.path, faults: self.faults })?;
            self.path.truncate(length);
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        read_text(text).map_or_else(|f| f.into_iter().map(|f| f.path).collect(), |_| Vec::new())
    }

    #[test]
    fn a_doubled_name_is_told_once_with_its_pointer_at_any_depth() {
        assert_eq!(paths(r#"{"a":1,"b":[{},{"c/d":1,"x":{},"c/d":2,"c/d":3}],"a":{}}"#), ["/b/1/c~1d", "/a"]);
        assert_eq!(paths(r#"{"a":1,"\u0061":2}"#), ["/a"]);
        assert_eq!(paths(r#"{"a":{"b":1},"c":{"b":1},"d":[1,-2,1.5,"x",true,null]}"#), Vec::<String>::new());
    }

    #[test]
    fn text_that_is_no_json_is_one_fault_of_the_whole_document() {
        for text in ["", "{", "{} {}", r#"{"a":1e999}"#, &"[".repeat(10_000)] {
            assert_eq!(paths(text), [""], "{}", &text[..text.len().min(20)]);
        }
    }
}
