//! Counters over closed sets of labels, laid out as an array.
//!
//! Every series exists from the start, so that a rate over its first increment is true; counting is
//! an index and an addition, without a map, a lock or a hash. A combination that cannot come about
//! is not shown until it has, so that people are not offered series that mean nothing.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::labels::Label;

/// Counters by one label; clones share them.
#[derive(Clone, Debug)]
pub struct Counters<A> {
    key: &'static str,
    cells: Arc<[AtomicU64]>,
    labels: PhantomData<A>,
}

impl<A: Label> Counters<A> {
    pub(super) fn new(key: &'static str) -> Self {
        Self { key, cells: zeros(A::ALL.len()), labels: PhantomData }
    }

    /// Counts one.
    pub fn inc(&self, a: A) {
        self.add(a, 1);
    }

    /// Counts several.
    pub fn add(&self, a: A, n: u64) {
        if let Some(cell) = self.cells.get(a.index()) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The count.
    #[must_use]
    pub fn get(&self, a: A) -> u64 {
        self.cells.get(a.index()).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

impl<A: Label + std::fmt::Debug> EncodeMetric for Counters<A> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        for a in A::ALL {
            let labels = [(self.key, a.text())];
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&self.get(*a), None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Gauges by one label; clones share them.
#[derive(Clone, Debug)]
pub struct Levels<A>(Counters<A>);

impl<A: Label> Levels<A> {
    pub(super) fn new(key: &'static str) -> Self {
        Self(Counters::new(key))
    }

    /// Sets one.
    pub fn set(&self, a: A, level: u64) {
        if let Some(cell) = self.0.cells.get(a.index()) {
            cell.store(level, Ordering::Relaxed);
        }
    }
}

impl<A: Label + std::fmt::Debug> EncodeMetric for Levels<A> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        for a in A::ALL {
            let labels = [(self.0.key, a.text())];
            encoder.encode_family(&labels)?.encode_gauge(&self.0.get(*a))?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Counters by two labels; clones share them.
#[derive(Clone, Debug)]
pub struct Grid<A, B> {
    keys: (&'static str, &'static str),
    cells: Arc<[AtomicU64]>,
    possible: fn(A, B) -> bool,
}

impl<A: Label, B: Label> Grid<A, B> {
    /// `possible` says which combinations are shown while they are zero.
    pub(super) fn new(keys: (&'static str, &'static str), possible: fn(A, B) -> bool) -> Self {
        Self { keys, cells: zeros(A::ALL.len() * B::ALL.len()), possible }
    }

    /// Counts one.
    pub fn inc(&self, a: A, b: B) {
        self.add(a, b, 1);
    }

    /// Counts several.
    pub fn add(&self, a: A, b: B, n: u64) {
        if let Some(cell) = self.cells.get(Self::at(a, b)) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The count.
    #[must_use]
    pub fn get(&self, a: A, b: B) -> u64 {
        self.cells.get(Self::at(a, b)).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    fn at(a: A, b: B) -> usize {
        a.index() * B::ALL.len() + b.index()
    }
}

impl<A: Label + std::fmt::Debug, B: Label + std::fmt::Debug> EncodeMetric for Grid<A, B> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        for a in A::ALL {
            for b in B::ALL {
                let count = self.get(*a, *b);
                if count > 0 || (self.possible)(*a, *b) {
                    let labels = [(self.keys.0, a.text()), (self.keys.1, b.text())];
                    encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
                }
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

fn zeros(n: usize) -> Arc<[AtomicU64]> {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}
