use std::cmp::Reverse;

use super::config::Alpha;
use super::counts::float;
use super::log_e::LogE;
use crate::domain::logarithm::ln;

/// Which tenants are harmed, as indices of `logs` in rising order: those whose e-value is among the k greatest
/// with E ≥ m / (α k), for the greatest such k of the m tenants. The false discovery rate is at most α,
/// whatever the dependence between tenants (Wang and Ramdas, *False discovery rate control with e-values*,
/// 2022).
#[must_use]
pub fn e_bh(logs: &[LogE], alpha: Alpha) -> Vec<usize> {
    let mut order: Vec<(usize, LogE)> = logs.iter().copied().enumerate().collect();
    order.sort_unstable_by_key(|(index, log)| (Reverse(*log), *index));
    let threshold = |rank: usize| LogE::from_nats(ln(count(logs.len()) / (alpha.fraction() * count(rank))));
    let found =
        order.iter().zip(1..).filter(|((_, log), rank)| *log >= threshold(*rank)).map(|(_, rank)| rank);
    let found = found.last().unwrap_or(0);
    let mut harmed: Vec<usize> = order.into_iter().take(found).map(|(index, _)| index).collect();
    harmed.sort_unstable();
    harmed
}

fn count(n: usize) -> f64 {
    float(u64::try_from(n).unwrap_or(u64::MAX))
}
