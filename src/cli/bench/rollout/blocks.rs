//! The blocks of a rollout, read from its stream, and what longer ones would hold.

use std::time::Duration;

use super::super::BenchFailed;
use super::super::figures::{Spread, float};
use super::super::site::Deployment;
use super::steady::Span;
use super::{IN_FORCE_SECONDS, Pace, id, never};
use crate::rollout::controller::Message;
use crate::rollout::evidence::{EvidenceBlock, TenantRow};
use crate::wire;

/// Blocks of the lengths that plans have by default, and how many make 60 days.
pub(super) const LONGER: [(&str, u64, u64); 2] = [("5m", 300, 17_280), ("1h", 3_600, 1_440)];

/// Between two readings of the stream.
const POLL: Duration = Duration::from_millis(500);

/// The blocks of windows that lie within a load.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Blocks {
    pub(super) windows: u64,
    /// Windows that have no block, or one that says that evidence is missing.
    pub(super) broken: u64,
    /// Messages of the stream for each.
    pub(super) messages: Spread,
    /// Bytes of their bodies for each.
    pub(super) bytes: Spread,
    pub(super) rows: Spread,
    /// Requests that the rows say were answered, a second.
    pub(super) asked_per_second: f64,
    /// Units with and without an outcome, a second.
    pub(super) units_per_second: f64,
    /// Units of them that met a breaker.
    pub(super) met_per_second: f64,
    /// Bytes of a block of each of [`LONGER`].
    pub(super) longer_bytes: Vec<f64>,
}

/// Waits until the windows of all loads are closed, and reads their blocks.
pub(super) async fn read(
    deployment: &Deployment,
    spans: &[Span],
    pace: Pace,
) -> Result<Vec<Blocks>, BenchFailed> {
    let rollout = id()?;
    let end = spans.iter().map(|span| span.to_ms).max().unwrap_or(0);
    let all = async {
        loop {
            let recorded = deployment.control().rollout_messages(&rollout).await?;
            let blocks: Vec<EvidenceBlock> = recorded
                .messages
                .into_iter()
                .filter_map(
                    |(_, _, message)| if let Message::Block(block) = message { Some(*block) } else { None },
                )
                .collect();
            if blocks.iter().any(|block| block.end.0 >= end) {
                return Ok::<_, BenchFailed>(blocks);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let blocks = tokio::time::timeout(Duration::from_secs(IN_FORCE_SECONDS), all)
        .await
        .map_err(|_| never(deployment, "its last blocks are missing"))??;
    spans.iter().map(|span| of_span(&blocks, *span, pace.block)).collect()
}

fn of_span(blocks: &[EvidenceBlock], span: Span, length: Duration) -> Result<Blocks, BenchFailed> {
    let within = |block: &&EvidenceBlock| block.start.0 >= span.from_ms && block.end.0 <= span.to_ms;
    let found: Vec<&EvidenceBlock> = blocks.iter().filter(within).collect();
    let expected = match (found.first(), found.last()) {
        (Some(first), Some(last)) => last.number.saturating_sub(first.number).saturating_add(1),
        _ => 0,
    };
    let whole = |block: &&&EvidenceBlock| !block.incomplete && !block.purged && block.missing == 0;
    let numbers: std::collections::BTreeSet<u64> =
        found.iter().filter(whole).map(|block| block.number).collect();
    let mut sizes = Vec::new();
    for block in &found {
        let message = Message::Block(Box::new((**block).clone()));
        let parts = wire::encode_rollout(&block.rollout, &message)
            .map_err(|error| BenchFailed::Rollout(error.to_string()))?;
        sizes.push((float(parts.len() as u64), float(parts.iter().map(Vec::len).sum::<usize>() as u64)));
    }
    let rows = || found.iter().flat_map(|block| &block.rows);
    let seconds = length.as_secs_f64() * float(found.len() as u64);
    let per_second = |count: u64| if seconds > 0.0 { float(count) / seconds } else { 0.0 };
    let bytes = Spread::of(sizes.iter().map(|(_, bytes)| *bytes));
    let count = Spread::of(found.iter().map(|block| float(block.rows.len() as u64)));
    let longer = |(_, seconds, _): &(&str, u64, u64)| {
        let times = (float(*seconds) / length.as_secs_f64()).round();
        let own = bytes.median - count.median * row_bytes(&merged(rows(), 1.0));
        own + count.median * row_bytes(&merged(rows(), times))
    };
    Ok(Blocks {
        windows: found.len() as u64,
        broken: expected.saturating_sub(numbers.len() as u64).max(u64::from(found.is_empty())),
        messages: Spread::of(sizes.iter().map(|(messages, _)| *messages)),
        rows: count,
        asked_per_second: per_second(rows().map(|row| row.asked.iter().sum::<u64>()).sum()),
        units_per_second: per_second(rows().map(units).sum()),
        met_per_second: per_second(rows().map(|row| row.met[0] + row.met[2]).sum()),
        longer_bytes: LONGER.iter().map(longer).collect(),
        bytes,
    })
}

fn units(row: &TenantRow) -> u64 {
    let [plain_treated, _, plain_control, _] = row.plain;
    let [met_treated, _, met_control, _] = row.met;
    plain_treated + plain_control + met_treated + met_control + row.no_outcome.iter().sum::<u64>()
}

/// Rows as of windows that are `times` as long: so many rows are added up to one. All tenants have the same load, so
/// the rows of one window stand for those of one tenant.
fn merged<'r>(rows: impl Iterator<Item = &'r TenantRow>, times: f64) -> Vec<TenantRow> {
    let mut merged: Vec<TenantRow> = Vec::new();
    let mut added = 0.0;
    for row in rows {
        match merged.last_mut().filter(|_| added < times) {
            Some(sum) => {
                add(sum, row);
                added += 1.0;
            }
            None => {
                merged.push(row.clone());
                added = 1.0;
            }
        }
    }
    // What is left over is too small, unless it is all there is.
    if added < times && merged.len() > 1 {
        merged.pop();
    }
    merged
}

fn add(sum: &mut TenantRow, row: &TenantRow) {
    let counts = sum.plain.iter_mut().chain(&mut sum.met).chain(&mut sum.asked).chain(&mut sum.no_outcome);
    let more = row.plain.iter().chain(&row.met).chain(&row.asked).chain(&row.no_outcome);
    counts.zip(more).for_each(|(count, more)| *count += more);
    sum.latency.iter_mut().zip(&row.latency).for_each(|(sum, row)| sum.merge(row));
}

/// Mean bytes of a row as JSON, with the comma behind it.
fn row_bytes(rows: &[TenantRow]) -> f64 {
    let bytes: usize =
        rows.iter().filter_map(|row| serde_json::to_vec(row).ok()).map(|row| row.len() + 1).sum();
    if rows.is_empty() { 0.0 } else { float(bytes as u64) / float(rows.len() as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RolloutId, Stamp, TenantId};
    use crate::rollout::evidence::LatencyHistogram;

    fn block(number: u64, rows: u64) -> EvidenceBlock {
        let rollout = RolloutId::try_new("bench").unwrap();
        let (start, end) = (Stamp(1_000 * number), Stamp(1_000 * number + 1_000));
        let mut latency = LatencyHistogram::default();
        latency.add(100 + number);
        let row = |n: u64| TenantRow {
            tenant: TenantId::try_new(format!("tenant-{n:06}")).unwrap(),
            step: 1,
            cut: 1,
            percent: 50,
            split: 50,
            plain: [1, 0, 1, 0],
            met: [1, 0, 0, 0],
            asked: [2, 2],
            no_outcome: [0, 1],
            latency: [latency.clone(), latency.clone()],
        };
        EvidenceBlock {
            rows: (0..rows).map(row).collect(),
            ..EvidenceBlock::without_units(rollout, 1, number, start, end)
        }
    }

    fn read(blocks: &[EvidenceBlock]) -> Blocks {
        of_span(blocks, Span { from_ms: 2_000, to_ms: 6_500 }, Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn the_blocks_within_a_load_are_counted() {
        let blocks: Vec<EvidenceBlock> = (0..8).map(|number| block(number, 3)).collect();
        let read = read(&blocks);
        assert_eq!((read.windows, read.broken, read.rows.median), (4, 0, 3.0));
        let rates = (read.asked_per_second, read.units_per_second, read.met_per_second);
        assert_eq!(rates, (12.0, 12.0, 3.0));
        let whole = wire::encode_rollout(
            &RolloutId::try_new("bench").unwrap(),
            &Message::Block(Box::new(block(3, 3))),
        );
        assert_eq!(read.bytes.median, float(whole.unwrap()[0].len() as u64));
    }

    #[test]
    fn a_window_that_is_missing_or_incomplete_is_broken() {
        let mut blocks: Vec<EvidenceBlock> = (0..8).map(|number| block(number, 3)).collect();
        blocks[4].incomplete = true;
        blocks.remove(3);
        assert_eq!((read(&blocks).windows, read(&blocks).broken), (3, 2));
        assert_eq!(read(&blocks[..1]).broken, 1, "none at all");
    }

    #[test]
    fn rows_of_longer_windows_are_sums() {
        let blocks: Vec<EvidenceBlock> = (0..8).map(|number| block(number, 3)).collect();
        let rows = || blocks.iter().flat_map(|block| &block.rows);
        let sums = merged(rows(), 6.0);
        assert_eq!(sums.len(), 4);
        assert_eq!((sums[0].asked, sums[0].met, sums[0].latency[0].count()), ([12, 12], [6, 0, 0, 0], 6));
        assert_eq!(merged(rows(), 100.0).len(), 1, "all there is");
        assert_eq!(merged(rows(), 20.0).len(), 1, "without the rest");
        assert!(row_bytes(&sums) > row_bytes(&merged(rows(), 1.0)));
    }
}
