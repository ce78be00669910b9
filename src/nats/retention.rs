//! Whether what the streams keep is kept for long enough.
//!
//! Customers are billed by usage events, and their stream drops the oldest when it is full. `upkeep` looks at every stream
//! after each interval, and what it sees is judged here. So each worker measures how
//! long an event stays there at the present rate (`coverage`), shows it as a metric, and logs when it becomes less
//! than `--usage-min-retention`, and when it is enough again.
//!
//! The limits of a stream that stands are left as they are. Where they differ from the settings, that is logged once, so
//! that an operator who changed a setting sees that it changed nothing.

mod coverage;
mod limits;

use std::collections::BTreeSet;

use self::coverage::{Alarm, Change, Coverage, Look};
use self::limits::{Difference, differences};
use super::Worker;
use super::stream_info::StreamInfo;
use crate::config::Kept;

/// What was seen of the streams that keep messages for a time.
#[derive(Default)]
pub(super) struct Retention {
    usage: Coverage,
    alarm: Alarm,
    /// Differences that were logged.
    logged: BTreeSet<Difference>,
}

impl Retention {
    /// Takes the description of a stream; most have no limits that are settings.
    pub(super) fn note(&mut self, worker: &Worker, stream: &str, info: &StreamInfo) {
        let (names, settings) = (&worker.settings.names, &worker.settings.ledger);
        let kept = [
            (&names.log_stream, settings.log),
            (&names.events_stream, settings.events),
            (&names.usage_stream, settings.usage),
        ];
        if let Some((_, kept)) = kept.into_iter().find(|(name, _)| *name == stream) {
            self.compare(stream, kept, info);
        }
        if *stream == names.usage_stream {
            self.measure(worker, info);
        }
    }

    fn compare(&mut self, stream: &str, kept: Kept, info: &StreamInfo) {
        for difference in differences(stream, kept, info.limits()) {
            if self.logged.insert(difference.clone()) {
                let Difference { stream, limit, setting, stands } = difference;
                tracing::warn!(event = "stream_limit_differs", stream, limit, setting, stands);
            }
        }
    }

    fn measure(&mut self, worker: &Worker, info: &StreamInfo) {
        let look = Look {
            at: worker.clock.tick(),
            limits: info.limits(),
            last: info.state.last_seq,
            messages: info.state.messages,
            bytes: info.state.bytes,
            created: info.created.clone(),
        };
        let measured = self.usage.note(look);
        worker.metrics.usage_retention.set(measured.map_or(f64::NAN, |m| m.covered_s));
        let Some(measured) = measured else { return };
        let wanted = worker.settings.usage_min_retention;
        let (covered_s, bytes_per_s) = (measured.covered_s.round(), measured.bytes_per_s.round());
        let wanted_s = wanted.as_secs();
        match self.alarm.judge(measured.covered_s, wanted) {
            Some(Change::Low) => {
                tracing::warn!(event = "usage_retention_low", covered_s, wanted_s, bytes_per_s);
            }
            Some(Change::Recovered) => {
                tracing::info!(event = "usage_retention_recovered", covered_s, wanted_s, bytes_per_s);
            }
            None => {}
        }
    }
}
