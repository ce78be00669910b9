//! What lasts over several comparisons is reported once, until it is over.

/// Whether something lasts.
#[derive(Debug, Default)]
pub(super) struct Occurrence {
    lasts: bool,
}

impl Occurrence {
    /// It is met. Whether it is to be reported.
    pub(super) const fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.lasts, true)
    }

    /// It is over.
    pub(super) const fn ends(&mut self) {
        self.lasts = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_reported_once_until_it_is_over() {
        let mut occurrence = Occurrence::default();
        assert!(occurrence.begins());
        assert!(!occurrence.begins());
        occurrence.ends();
        occurrence.ends();
        assert!(occurrence.begins());
    }
}
