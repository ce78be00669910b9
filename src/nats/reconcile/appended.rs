//! What a comparison appended, and whether something waits for a version of the fold: what stands behind it in the
//! bucket does not wait, and the comparison is not finished.

use super::ReconcileError;
use crate::log::FoldVersion;

/// See the module.
#[derive(Default)]
pub(super) struct Appended {
    last: Option<u64>,
    waits: Option<FoldVersion>,
}

impl Appended {
    /// Takes what became of one entry. Gives what ends the comparison.
    pub(super) fn note(&mut self, appended: Result<u64, ReconcileError>) -> Result<(), ReconcileError> {
        match appended {
            Ok(position) => self.last = Some(position),
            Err(ReconcileError::Version(version)) => self.waits = Some(version),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The place of the last entry, once all are appended.
    pub(super) fn all(self) -> Result<Option<u64>, ReconcileError> {
        self.waits.map_or(Ok(self.last), |version| Err(ReconcileError::Version(version)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_an_entry_that_waits_is_appended_and_the_comparison_is_not_finished() {
        let mut appended = Appended::default();
        appended.note(Ok(7)).unwrap();
        appended.note(Err(ReconcileError::Version(FoldVersion(3)))).unwrap();
        appended.note(Ok(8)).unwrap();
        assert!(matches!(appended.note(Err(ReconcileError::Behind)), Err(ReconcileError::Behind)));
        assert!(matches!(appended.all(), Err(ReconcileError::Version(FoldVersion(3)))));
        let mut appended = Appended::default();
        appended.note(Ok(7)).unwrap();
        assert_eq!(appended.all().unwrap(), Some(7));
    }
}
