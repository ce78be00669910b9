//! Draws by hash: the same on every worker and every run.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::domain::logarithm::ln;
use crate::domain::{arm_hash, is_treated, scaled};

/// Seeds that keep the hashes of one request id independent of each other.
const DRAW: u64 = 0x6472_6177;
const BACKOFF: u64 = 0x6261_636b;

/// Whether a refusal of this request is enforced, where `percent` of all are: by a hash of the request
/// id that is independent of the draw's.
#[must_use]
pub fn enforced(request_id: &str, percent: u8) -> bool {
    match percent {
        0 => false,
        100.. => true,
        _ => is_treated(arm_hash(request_id), percent),
    }
}

/// Draws an index by weight; `None` where all weights are zero. `round` makes later draws of the same
/// request independent of the first.
#[must_use]
pub fn weighted(
    request_id: &str,
    round: u64,
    weights: impl Iterator<Item = (usize, u32)> + Clone,
) -> Option<usize> {
    let total: u64 = weights.clone().map(|(_, w)| u64::from(w)).sum();
    if total == 0 {
        return None;
    }
    let mut point = scaled(xxh3_64_with_seed(request_id.as_bytes(), DRAW.wrapping_add(round)), total);
    for (index, weight) in weights {
        let weight = u64::from(weight);
        if point < weight {
            return Some(index);
        }
        point -= weight;
    }
    None
}

/// The candidate of greatest score for a session, by weighted rendezvous hashing (Thaler and
/// Ravishankar 1998; weights as in Schindelhauer and Schomaker 2005: weight ÷ −ln u). Each candidate's
/// score depends on itself alone, so taking one away moves only its own sessions.
#[must_use]
pub fn rendezvous<'p>(
    session: &str,
    candidates: impl Iterator<Item = (usize, &'p str, u32)>,
) -> Option<usize> {
    let seed = xxh3_64(session.as_bytes());
    let mut best: Option<(f64, usize)> = None;
    for (index, provider, weight) in candidates {
        if weight == 0 {
            continue;
        }
        let score = f64::from(weight) / -ln(unit(xxh3_64_with_seed(provider.as_bytes(), seed)));
        if best.is_none_or(|(top, _)| score > top) {
            best = Some((score, index));
        }
    }
    best.map(|(_, index)| index)
}

/// The draw for the jitter of a request's n-th backoff.
#[must_use]
pub(super) fn backoff_draw(request_id: &str, retry: u32) -> u64 {
    xxh3_64_with_seed(request_id.as_bytes(), BACKOFF.wrapping_add(u64::from(retry)))
}

/// A number strictly between 0 and 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weights_converge_to_their_shares() {
        let weights = [70u32, 20, 10, 0];
        let mut drawn = [0u32; 4];
        for n in 0..100_000 {
            let id = format!("request-{n}");
            drawn[weighted(&id, 0, weights.iter().copied().enumerate()).unwrap()] += 1;
        }
        for (weight, times) in weights.iter().zip(drawn) {
            assert!((f64::from(times) / 1_000.0 - f64::from(*weight)).abs() < 0.6, "{drawn:?}");
        }
    }

    #[test]
    fn sessions_spread_by_weight() {
        let candidates = [("a", 50u32), ("b", 30), ("c", 20)];
        let mut times = [0u32; 3];
        for n in 0..100_000 {
            let session = format!("user-{n}");
            let it = candidates.iter().enumerate().map(|(i, (p, w))| (i, *p, *w));
            times[rendezvous(&session, it).unwrap()] += 1;
        }
        for ((_, weight), times) in candidates.iter().zip(times) {
            assert!((f64::from(times) / 1_000.0 - f64::from(*weight)).abs() < 0.6, "{times:?}");
        }
    }

    #[test]
    fn the_enforced_share_is_independent_of_the_draw() {
        let mut enforced_of = [0u32; 2];
        let mut drawn = [0u32; 2];
        for n in 0..50_000 {
            let id = format!("r{n}");
            let d = weighted(&id, 0, [(0, 1), (1, 1)].into_iter()).unwrap();
            drawn[d] += 1;
            enforced_of[d] += u32::from(enforced(&id, 30));
        }
        for (e, d) in enforced_of.iter().zip(drawn) {
            assert!((f64::from(*e) / f64::from(d) - 0.3).abs() < 0.01);
        }
        assert!(!enforced("x", 0) && enforced("x", 100));
    }

    proptest! {
        #[test]
        fn removing_a_provider_moves_only_its_own_sessions(
            weights in prop::collection::vec(1u32..100, 2..8), gone in 0usize..8, session in "[a-z0-9]{1,20}",
        ) {
            let gone = gone % weights.len();
            let names: Vec<String> = (0..weights.len()).map(|i| format!("p{i}")).collect();
            let all = || names.iter().enumerate().zip(&weights).map(|((i, n), w)| (i, n.as_str(), *w));
            let before = rendezvous(&session, all()).unwrap();
            let after = rendezvous(&session, all().filter(|(i, ..)| *i != gone)).unwrap();
            prop_assert!(before == gone || before == after);
        }

        #[test]
        fn the_same_request_draws_the_same_provider(id in "[!-~]{1,64}", weights in prop::collection::vec(0u32..100, 1..8)) {
            let draw = || weighted(&id, 0, weights.iter().copied().enumerate());
            prop_assert_eq!(draw(), draw());
            if let Some(i) = draw() { prop_assert!(weights[i] > 0); }
        }
    }
}
