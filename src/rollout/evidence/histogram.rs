use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Buckets to a power of two.
const STEPS: u64 = 64;
/// `log2(STEPS)`.
const STEP_BITS: u32 = 6;
/// The greatest latency that is told from others, about 49 days.
const MOST_MS: u64 = u32::MAX as u64;

/// Latencies in whole milliseconds, counted in buckets.
///
/// Below 128 ms each value has its own bucket. Above, each power of two has 64 buckets of equal width, so a bucket
/// is at most 1/64 of its values wide. A quantile is the middle of its bucket: exact below 128 ms, and within
/// 1/128 (0.8 %) of the exact nearest rank above. A bucket has one index whatever else is counted, so sums of
/// histograms are exact.
///
/// Serialised as a flat list: index, count, index, count, with rising indices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencyHistogram(BTreeMap<u16, u64>);

impl LatencyHistogram {
    /// Counts one latency.
    pub fn add(&mut self, latency_ms: u64) {
        let count = self.0.entry(index_of(latency_ms)).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts all of another one too.
    pub fn merge(&mut self, other: &Self) {
        for (index, count) in &other.0 {
            let sum = self.0.entry(*index).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// How many are counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The quantile by nearest rank; `None` without latencies. More than 1,000 permille is the greatest.
    #[must_use]
    pub fn quantile(&self, permille: u16) -> Option<u64> {
        let rank = u128::from(self.count()) * u128::from(permille.min(1_000));
        let rank = u64::try_from(rank.div_ceil(1_000)).unwrap_or(u64::MAX).max(1);
        let mut before = 0_u64;
        for (index, count) in &self.0 {
            before = before.saturating_add(*count);
            if before >= rank {
                return Some(middle_of(*index));
            }
        }
        None
    }
}

fn index_of(latency_ms: u64) -> u16 {
    let value = latency_ms.min(MOST_MS);
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(STEP_BITS);
    // At most 26 · 64 + 127.
    u16::try_from(u64::from(shift) * STEPS + (value >> shift)).unwrap_or(u16::MAX)
}

fn middle_of(index: u16) -> u64 {
    let index = u64::from(index);
    let shift = (index / STEPS).saturating_sub(1).min(32);
    let least = (index - shift * STEPS) << shift;
    least + ((1 << shift) - 1) / 2
}

impl Serialize for LatencyHistogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let flat: Vec<u64> = self.0.iter().flat_map(|(index, count)| [u64::from(*index), *count]).collect();
        flat.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LatencyHistogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let flat = Vec::<u64>::deserialize(deserializer)?;
        let (pairs, rest) = flat.as_chunks::<2>();
        let mut buckets = BTreeMap::new();
        for [index, count] in pairs {
            let index = u16::try_from(*index).ok().filter(|index| *index <= index_of(MOST_MS));
            let rising = index.filter(|i| buckets.last_key_value().is_none_or(|(last, _)| last < i));
            let Some(index) = rising.filter(|_| *count > 0) else {
                return Err(D::Error::custom("a histogram has rising indices and counts above 0"));
            };
            buckets.insert(index, *count);
        }
        if rest.is_empty() { Ok(Self(buckets)) } else { Err(D::Error::custom("a histogram has pairs")) }
    }
}
