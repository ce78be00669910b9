use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Breaker;
use super::machine::{Force, Phase};
use super::settings::Settings;
use super::window::Window;
use crate::domain::{Ratio, Stamp};

/// All of a breaker but its settings and its key: what a snapshot keeps of it. The settings come with
/// the policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    phase: Phase,
    forced: Option<Box<Force>>,
    suspended: bool,
    window: Window,
    row: u32,
    row_at: Stamp,
    since: Stamp,
    last_transition: Stamp,
    trips: u32,
    reopenings: u32,
    failure_share: Ratio,
}

impl Breaker {
    /// What a snapshot keeps.
    #[must_use]
    pub fn save(&self) -> Saved {
        Saved {
            phase: self.phase.clone(),
            forced: self.forced.clone(),
            suspended: self.suspended,
            window: self.window.clone(),
            row: self.row,
            row_at: self.row_at,
            since: self.since,
            last_transition: self.last_transition,
            trips: self.trips,
            reopenings: self.reopenings,
            failure_share: self.failure_share,
        }
    }

    /// The breaker that was saved under these settings. `seed` is the fixed hash of its key, as in
    /// [`Breaker::new`]. A window of another length than the settings want is resized.
    #[must_use]
    pub fn restore(saved: Saved, settings: Arc<Settings>, seed: u64, now: Stamp) -> Self {
        let Saved {
            phase,
            forced,
            suspended,
            mut window,
            row,
            row_at,
            since,
            last_transition,
            trips,
            reopenings,
            failure_share,
        } = saved;
        window.resize(settings.window_ms(), now);
        Self {
            settings,
            phase,
            forced,
            suspended,
            window,
            row,
            row_at,
            since,
            last_transition,
            trips,
            reopenings,
            failure_share,
            seed,
        }
    }
}
