use serde::{Deserialize, Serialize};

/// A non-negative factor in parts per million, so that shares and thresholds compare exactly on every
/// worker. 0.5 is 500 000; a multiplier of 2.5 is 2 500 000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ratio(u32);

impl Ratio {
    /// 1.0
    pub const ONE: Self = Self(1_000_000);
    /// 0.0
    pub const ZERO: Self = Self(0);

    /// From parts per million.
    #[must_use]
    pub const fn from_ppm(ppm: u32) -> Self {
        Self(ppm)
    }

    /// The nearest ratio to `value`; `None` unless it is finite and within 0 to 4000.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() || !(0.0..=4_000.0).contains(&value) {
            return None;
        }
        let ppm = (value * 1_000_000.0).round();
        // Within 0..=4e9 by the check above, so the cast is exact.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked above")]
        Some(Self(ppm as u32))
    }

    /// `part / whole`, rounded to the nearest part per million; zero where `whole` is zero.
    #[must_use]
    pub fn of(part: u32, whole: u32) -> Self {
        if whole == 0 {
            return Self::ZERO;
        }
        let ppm = (u64::from(part) * 1_000_000 + u64::from(whole) / 2) / u64::from(whole);
        Self(u32::try_from(ppm).unwrap_or(u32::MAX))
    }

    /// Whether `part / whole` is at or above this ratio, exactly; never where `whole` is zero.
    #[must_use]
    pub fn reached_by(self, part: u32, whole: u32) -> bool {
        whole > 0 && u64::from(part) * 1_000_000 >= u64::from(whole) * u64::from(self.0)
    }

    /// `value × this`, rounded down; saturates.
    #[must_use]
    pub fn scale(self, value: u64) -> u64 {
        let product = u128::from(value) * u128::from(self.0) / 1_000_000;
        u64::try_from(product).unwrap_or(u64::MAX)
    }

    /// Parts per million.
    #[must_use]
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// For people and JSON.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1_000_000.0
    }
}
