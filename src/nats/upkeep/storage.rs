//! Whether the broker stores what is put: what checks have shown, without I/O.
//!
//! A stream whose file could not be written, for want of space, takes nothing more until its server restarts, also
//! once there is space again (nats-server 2.15.1). Who publishes to it gets no answer, while the stream is described as
//! ever and other streams work. So two things are checked. A value is put into the bucket of snapshots each time. The
//! log is checked by its own entries: where none came since the last time although requests were decided, a mark is
//! appended.

/// What a check has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It was stored.
    Stored,
    /// It was refused, and why.
    Refused(String),
    /// The stream is there, and what was put got no answer.
    Silent,
    /// Nothing: the broker cannot be asked just now.
    Nothing,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Storage {
    bucket: Option<String>,
    log: Option<String>,
    position: u64,
    decided: u64,
}

impl Storage {
    /// Takes how far the log was read and how many requests were decided. Gives whether a mark is to be appended.
    pub(super) fn is_mark_due(&mut self, position: u64, decided: u64) -> bool {
        let moved = std::mem::replace(&mut self.position, position) != position;
        let asked = std::mem::replace(&mut self.decided, decided) != decided;
        if moved {
            self.log = None;
        }
        self.log.is_some() || (asked && !moved)
    }

    /// Takes what the check of the bucket has shown.
    pub(super) fn note_bucket(&mut self, found: Found, stream: &str) {
        note(&mut self.bucket, found, stream);
    }

    /// Takes what the mark has shown.
    pub(super) fn note_log(&mut self, found: Found, stream: &str) {
        note(&mut self.log, found, stream);
    }

    /// What is wrong.
    pub(super) fn trouble(&self) -> Option<String> {
        match (&self.log, &self.bucket) {
            (Some(log), Some(bucket)) => Some(format!("{log}; {bucket}")),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }
}

fn note(trouble: &mut Option<String>, found: Found, stream: &str) {
    *trouble = match found {
        Found::Stored => None,
        Found::Refused(why) => Some(format!("the broker stores nothing: {why}")),
        Found::Silent => Some(format!(
            "{stream} is there and takes nothing: if a disk was full, make room and restart the server that leads it"
        )),
        Found::Nothing => return,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_due_where_requests_are_decided_and_nothing_comes() {
        let mut storage = Storage::default();
        let mut due = |position, decided| storage.is_mark_due(position, decided);
        assert!(!due(5, 0), "at the start");
        assert!(!due(5, 0), "idle");
        assert!(!due(9, 100), "entries come");
        assert!(due(9, 200));
        assert!(!due(9, 200), "idle again");
    }

    #[test]
    fn a_log_that_takes_nothing_is_checked_until_it_takes_something() {
        let mut storage = Storage::default();
        assert!(storage.is_mark_due(0, 1));
        storage.note_log(Found::Silent, "LOG");
        assert!(storage.trouble().unwrap().contains("LOG is there and takes nothing"));
        assert!(storage.is_mark_due(0, 1), "although nothing is decided");
        storage.note_log(Found::Nothing, "LOG");
        assert!(storage.trouble().is_some(), "no news");
        storage.note_log(Found::Stored, "LOG");
        assert_eq!(storage.trouble(), None);
        storage.note_log(Found::Silent, "LOG");
        assert!(!storage.is_mark_due(1, 2), "an entry of somebody came");
        assert_eq!(storage.trouble(), None);
    }

    #[test]
    fn both_are_reported() {
        let mut storage = Storage::default();
        storage.note_bucket(Found::Refused("no room".to_owned()), "KV");
        assert_eq!(storage.trouble().unwrap(), "the broker stores nothing: no room");
        storage.note_log(Found::Silent, "LOG");
        let trouble = storage.trouble().unwrap();
        assert!(trouble.starts_with("LOG is there") && trouble.ends_with("nothing: no room"), "{trouble}");
        storage.note_bucket(Found::Stored, "KV");
        storage.note_log(Found::Stored, "LOG");
        assert_eq!(storage.trouble(), None);
    }
}
