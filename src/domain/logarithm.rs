//! Natural logarithms from `+ - * /` alone.
//!
//! The logarithm of a C library differs between versions and platforms in its last bits. Workers must agree
//! bit for bit on what they compute from the same counts, so these functions use only operations that
//! IEEE 754 defines exactly, in the order written here. Rust does not fuse a multiplication and an addition.

use std::f64::consts::{LN_2, SQRT_2};

/// Half the width within which [`ln_ratio`] uses the series without reducing its argument first. The series
/// is good up to (√2 − 1) / (√2 + 1) = 0.1716.
const DIRECT: f64 = 0.17;

/// Denominators of the series of artanh, highest power first. Nine terms leave an error below 3e-16.
const SERIES: [f64; 9] = [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0];

/// The natural logarithm of a positive normal number, with an error of about 1e-13 relative to the result
/// or less. For other arguments (zero, negative, subnormal, infinite, NaN) the result has no meaning.
#[must_use]
pub fn ln(x: f64) -> f64 {
    // x = m · 2^e with m in [√½, √2]: ln x = e · ln 2 + 2 · artanh((m − 1) / (m + 1)).
    let bits = x.to_bits();
    #[expect(clippy::cast_possible_wrap, reason = "eleven bits")]
    let mut exponent = ((bits >> 52) & 0x7FF) as i64 - 1_023;
    let mut m = f64::from_bits(bits & 0x000F_FFFF_FFFF_FFFF | 0x3FF0_0000_0000_0000);
    if m > SQRT_2 {
        m /= 2.0;
        exponent += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 1075")]
    let e = exponent as f64;
    e * LN_2 + two_artanh((m - 1.0) / (m + 1.0))
}

/// 2 · artanh(s) by its series, for |s| ≤ 0.1716.
#[must_use]
pub fn two_artanh(s: f64) -> f64 {
    let s2 = s * s;
    let sum = SERIES.iter().fold(0.0, |sum, odd| sum * s2 + 1.0 / odd);
    2.0 * s * sum
}

/// ln(x / y) of positive normal numbers. Where they are close, this is more exact than a logarithm of the
/// quotient.
#[must_use]
pub fn ln_ratio(x: f64, y: f64) -> f64 {
    ln_ratio_with(x, y, x - y)
}

/// As [`ln_ratio`], for a caller that knows `difference` = x − y better than by subtraction.
#[must_use]
pub fn ln_ratio_with(x: f64, y: f64, difference: f64) -> f64 {
    let s = difference / (x + y);
    if (-DIRECT..=DIRECT).contains(&s) { two_artanh(s) } else { ln(x / y) }
}

/// ln(1 + x) for x > −1.
#[must_use]
pub fn ln_1p(x: f64) -> f64 {
    ln_ratio_with(1.0 + x, 1.0, x)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(ours: f64, exact: f64) -> bool {
        (ours - exact).abs() <= 1e-13 * exact.abs().max(1.0)
    }

    #[test]
    fn a_power_of_two_has_an_exact_exponent() {
        assert_eq!(ln(1.0).to_bits(), 0.0f64.to_bits());
        assert_eq!(ln(2.0).to_bits(), LN_2.to_bits());
        assert_eq!(ln(0.5).to_bits(), (-LN_2).to_bits());
        assert!(close(ln(f64::MAX), f64::MAX.ln()) && close(ln(f64::MIN_POSITIVE), f64::MIN_POSITIVE.ln()));
    }

    #[test]
    fn a_small_difference_keeps_its_digits() {
        assert!((ln_1p(1e-18) - 1e-18).abs() < 1e-33);
        assert!((ln_ratio(1.0 + f64::EPSILON, 1.0) / f64::EPSILON - 1.0).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn the_logarithm_is_the_logarithm(x in f64::MIN_POSITIVE..f64::MAX, y in 1e-9f64..1e9, z in -0.99f64..9.0) {
            prop_assert!(close(ln(x), x.ln()));
            prop_assert!(close(ln(y), y.ln()));
            prop_assert!(close(ln_1p(z), z.ln_1p()));
            prop_assert!(close(ln_ratio(y, 3.0), (y / 3.0).ln()));
        }
    }
}
