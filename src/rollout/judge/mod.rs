//! The judge of a rollout: does enforcing the breakers' refusals harm?
//!
//! The comparison is within a tenant. A hash of `request_id` puts each unit (one request id) into the
//! *treated* arm, whose refusals are enforced, or the *control* arm, whose refusals are not. The hash is a
//! coin of known bias, so the test needs no model of failures: bursts, outages, drift and dependence hit
//! both arms alike. Evidence is a bet on each unit; the capital of a bet is an e-value, valid at every look
//! ([`LogE`]). There are two hypotheses:
//!
//! - **HARM.** Null: the treatment adds no more failures than a tolerated rate and number. At E ≥ 100 (α = 1 %)
//!   harm is proven, and the rollout goes back.
//! - **SAFE.** Null: the treatment adds at least the margin to the failure rate. At E ≥ 20 (α = 5 %) safety is
//!   proven, which a promotion needs.
//!
//! Where neither is proven, the verdict is inconclusive, which never promotes and never rolls back. No data is
//! inconclusive.
//!
//! [`BetJudge`] judges one tenant, [`PhaseJudge`] several that go up the ladder together, [`e_bh()`] says which
//! of them are harmed. [`ShareTest`] checks that the arms have the sizes that the hash makes: the bets rely on
//! it. [`LatencySequence`], [`classify_open`] and [`OpenCircuit::recovery`] judge the other criteria.
//! [`decide()`] puts all together.
//!
//! What always holds: equal blocks in equal order give equal states, bit for bit, on every machine. Floats go
//! through `+ - * /` and `sqrt` only, in the order written, with the logarithm of
//! [`logarithm`](crate::domain::logarithm). The evidence of a block is rounded once to whole nano-nats, and
//! all of a judge's state is integers (two floats in [`LatencySequence`] excepted). A change of any of these
//! operations is a new version of the judge: a rollout pins the one that it started with.
//!
//! It does not see increases below about a fifth of the base rate as harm (SAFE covers them), nor what hits
//! both arms, such as relief of a loaded provider or an overloaded fallback.

mod bets;
mod config;
mod counts;
mod decide;
mod e_bh;
mod latency;
mod log_e;
mod look;
mod opens;
mod path;
mod paths;
mod phase;
mod recovery;
mod share;
mod tenant;
#[cfg(test)]
mod tests;

pub use bets::units_needed;
pub use config::{
    Alpha, BetConfig, HarmMargin, OutOfRange, Ppm, SafeMargin, TreatedPercent, auto_budget, auto_safe_margin,
};
pub use counts::{Block, Counts, Outcomes};
pub use decide::{Decision, Facts, Hold, Lack, decide};
pub use e_bh::e_bh;
pub use latency::{LatencyConfig, LatencyLimit, LatencyLook, LatencySequence, LatencyVerdict, quantile};
pub use log_e::LogE;
pub use look::{Look, LookError, Reason, Verdict};
pub use opens::{FailureRates, Open, classify_open, pool_unexplained};
pub use phase::{PhaseHarm, PhaseJudge};
pub use recovery::{OpenCircuit, Recovery};
pub use share::ShareTest;
pub use tenant::BetJudge;
