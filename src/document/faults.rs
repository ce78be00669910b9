use serde::Serialize;

/// The most faults that are told of one document. A reply must fit a NATS message, and nobody mends
/// more than this in one go.
pub const MAX_FAULTS: usize = 100;

/// The longest pointer that is told, in bytes; a fault below that is told of the nearest ancestor. Keys
/// are the document's, so without a bound a few long ones would be repeated in every fault beneath.
const MAX_POINTER: usize = 1_024;

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: an RFC 6901 pointer; empty for the whole document.
    pub path: String,
    /// What it must be, for the person who wrote the document.
    pub message: String,
}

/// Faults as they are found.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    told: Vec<Fault>,
    beyond: usize,
}

impl Faults {
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.is_full() {
            self.count_one();
        } else {
            self.told.push(Fault { path: shortened(path.into()), message: message.into() });
        }
    }

    /// Whether further faults are only counted, so that no work need go into telling them.
    pub(crate) fn is_full(&self) -> bool {
        self.told.len() >= MAX_FAULTS
    }

    pub(crate) fn count_one(&mut self) {
        self.beyond = self.beyond.saturating_add(1);
    }

    pub(crate) fn count(&self) -> usize {
        self.told.len().saturating_add(self.beyond)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    pub(crate) fn into_vec(mut self) -> Vec<Fault> {
        if self.beyond > 0 {
            let message = format!("has {} more faults, not listed", self.beyond);
            self.told.push(Fault { path: String::new(), message });
        }
        self.told
    }
}

fn shortened(mut path: String) -> String {
    while path.len() > MAX_POINTER {
        match path.rfind('/') {
            Some(parent) => path.truncate(parent),
            None => path.clear(),
        }
    }
    path
}

/// The pointer to a member of the object at `path`.
pub(crate) fn below(path: &str, key: &str) -> String {
    let mut pointer = path.to_owned();
    push_key(&mut pointer, key);
    pointer
}

/// The pointer to an item of the array at `path`.
pub(crate) fn item(path: &str, index: usize) -> String {
    format!("{path}/{index}")
}

/// Appends one step to a pointer, escaped as RFC 6901 has it.
pub(crate) fn push_key(pointer: &mut String, key: &str) {
    pointer.push('/');
    for c in key.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            _ => pointer.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_escape_as_rfc_6901_has_it() {
        assert_eq!(below("/weights", "a/b~c"), "/weights/a~1b~0c");
        assert_eq!(item("/providers", 3), "/providers/3");
        assert_eq!(below("", ""), "/");
    }

    #[test]
    fn a_pointer_that_is_too_long_names_the_nearest_ancestor() {
        let mut faults = Faults::default();
        faults.add(format!("/a/{}", "é".repeat(MAX_POINTER)), "x");
        faults.add("k".repeat(MAX_POINTER + 1), "y");
        let paths: Vec<_> = faults.into_vec().into_iter().map(|f| f.path).collect();
        assert_eq!(paths, ["/a", ""]);
    }

    #[test]
    fn faults_past_the_bound_are_counted() {
        let mut faults = Faults::default();
        for n in 0..MAX_FAULTS + 7 {
            faults.add(item("", n), "x");
        }
        let list = faults.into_vec();
        assert_eq!(list.len(), MAX_FAULTS + 1);
        assert_eq!(list[MAX_FAULTS].message, "has 7 more faults, not listed");
    }
}
