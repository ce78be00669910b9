use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// The time since this was first called. It stands still where tokio's time does.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads a clock")]
pub(crate) fn now() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    now.saturating_duration_since(*BEGAN.get_or_init(|| now))
}
