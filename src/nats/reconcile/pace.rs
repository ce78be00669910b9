//! When the buckets are compared again.

use std::time::Duration;

/// Between tries, while the fold is known to lack what is in force, and after an error.
const RETRY: Duration = Duration::from_millis(500);

/// How long the next comparison waits, and whether it comes at once where something calls for it.
pub(super) fn wait(failed: bool, complete: bool, interval: Duration) -> (Duration, bool) {
    // After an error it waits whatever happens: verbs that wait for a bucket to be put right call many times a second.
    let pause = match (failed, complete) {
        (true, _) => RETRY,
        (false, false) => interval.min(RETRY),
        (false, true) => interval,
    };
    (pause, !failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_error_the_next_comparison_waits_whatever_calls_for_it() {
        let interval = Duration::from_secs(10);
        assert_eq!(wait(false, true, interval), (interval, true));
        assert_eq!(wait(false, false, interval), (RETRY, true));
        for complete in [false, true] {
            assert_eq!(wait(true, complete, interval), (RETRY, false));
            assert_eq!(wait(true, complete, Duration::from_millis(100)), (RETRY, false));
        }
    }
}
