use std::collections::VecDeque;

use super::calls::{Call, End};
use crate::domain::Stamp;

/// Calls in a row that are looked at together.
const RUN: usize = 10;
/// Of these so many fail in an outage. A provider that fails a fifth of its calls shows eight in ten once in 13,000.
const ILL: usize = 8;
/// Of these at most so many fail where an outage is over.
const WELL: usize = 2;
/// Calls further apart than this are of no common run.
const GAP_MS: u64 = 600_000;

/// A time in which a provider did not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    /// Its first failure.
    pub(super) from: Stamp,
    /// Its last failure.
    pub(super) to: Stamp,
}

/// The outages of one provider, by its calls in the order in which they ended.
pub(super) fn outages<'c>(calls: impl IntoIterator<Item = &'c Call>) -> Vec<Outage> {
    let mut outages = Vec::new();
    let mut run: VecDeque<(Stamp, bool)> = VecDeque::with_capacity(RUN);
    let mut present: Option<Outage> = None;
    for call in calls {
        let failed = match call.end {
            End::Failed => true,
            End::Succeeded => false,
            End::Neutral => continue,
        };
        if run.back().is_some_and(|(before, _)| call.ended.since(*before) > GAP_MS) {
            outages.extend(present.take());
            run.clear();
        }
        if run.len() == RUN {
            run.pop_front();
        }
        run.push_back((call.ended, failed));
        let failures = run.iter().filter(|(_, failed)| *failed).count();
        if let Some(outage) = &mut present {
            if failed {
                outage.to = call.ended;
            }
            if run.len() == RUN && failures <= WELL {
                outages.extend(present.take());
                run.clear();
            }
        } else if failures >= ILL {
            let first = run.iter().find(|(_, failed)| *failed).map_or(call.ended, |(at, _)| *at);
            present = Some(Outage { from: first, to: call.ended });
        }
    }
    outages.extend(present);
    outages
}
