use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::config::TreatedPercent;
use super::counts::float;
use super::log_e::LogE;
use super::path::{Hours, Path};
use crate::domain::logarithm::{ln, ln_ratio};

/// The odds of the treated arm that are tested, as multiples of what the hash makes them.
const ODDS: [f64; 4] = [0.5, 0.9, 1.0 / 0.9, 2.0];
/// Each of [`ODDS`] has a quarter of the capital; half of that is played from the beginning.
const WEIGHT: f64 = 0.125;

/// Tests whether the arms have the sizes that the hash makes them: a sample ratio test (Fabijan and others,
/// *Diagnosing sample ratio mismatch*, 2019), valid at every look.
///
/// Of judged units it shows that units of one arm go missing. Of units that never had an outcome it shows
/// that one arm loses more: so a loss of the treated arm's failures alone is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareTest {
    percent: TreatedPercent,
    max_hours: NonZeroU32,
    hours: Hours,
    paths: [Path; ODDS.len()],
}

impl ShareTest {
    /// The e-value at which the arms do not have their sizes: 1,000. It is above HARM's and SAFE's, since
    /// bets rely on the sizes: from here on they prove nothing.
    pub const THRESHOLD: LogE = LogE::THOUSAND;

    /// A test without evidence. `max_hours` is how long the phase may last.
    #[must_use]
    pub fn new(percent: TreatedPercent, max_hours: NonZeroU32) -> Self {
        Self { percent, max_hours, hours: Hours::default(), paths: fresh(max_hours) }
    }

    /// Begins anew at another share.
    pub fn begin_step(&mut self, percent: TreatedPercent) {
        self.percent = percent;
        self.paths = fresh(self.max_hours);
    }

    /// Takes the units of a block by arm; `hour` as in [`Block::hour`](super::Block::hour).
    pub fn take(&mut self, hour: u64, treated: u64, control: u64) {
        let starts = self.hours.starts(hour, self.max_hours.get());
        let evidence = share_logs(treated, control, self.percent.probability());
        for (path, evidence) in self.paths.iter_mut().zip(evidence) {
            path.take(evidence, starts);
        }
    }

    /// The greatest evidence of one of the odds.
    #[must_use]
    pub fn log_e(&self) -> LogE {
        self.paths.iter().fold(LogE(i64::MIN), |best, path| best.max(path.best()))
    }
}

fn fresh(max_hours: NonZeroU32) -> [Path; ODDS.len()] {
    let beginning = LogE::from_nats(ln(WEIGHT));
    let restart = LogE::from_nats(ln(WEIGHT / f64::from(max_hours.get())));
    [Path::new(beginning, restart); ODDS.len()]
}

/// The likelihood ratio of a block's arm sizes, for each of [`ODDS`] against the share `pi`.
pub(super) fn share_logs(treated: u64, control: u64, pi: f64) -> [LogE; ODDS.len()] {
    ODDS.map(|odds| {
        let q = odds * pi / (odds * pi + (1.0 - pi));
        LogE::from_nats(float(treated) * ln_ratio(q, pi) + float(control) * ln_ratio(1.0 - q, 1.0 - pi))
    })
}
