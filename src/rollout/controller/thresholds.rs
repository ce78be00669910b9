use super::status::Status;
use super::terms;
use crate::rollout::judge::LogE;
use crate::rollout::plan::Plan;

/// The evidence that proves something, for comparison with [`super::EvidenceStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Of harm.
    pub harm: LogE,
    /// Of safety; `None` where it is not judged.
    pub safe: Option<LogE>,
}

impl Status {
    /// What its evidence must reach under its plan.
    #[must_use]
    pub fn thresholds(&self, plan: &Plan) -> Thresholds {
        let (harm, safe) = (plan.analysis().harm.alpha, plan.analysis().safe.alpha);
        // Without a phase only those who have passed are compared.
        let (harm, safe) = match self.phase {
            Some(_) => (terms::alpha(harm), Some(terms::alpha(safe))),
            None => (terms::quarter(harm), None),
        };
        Thresholds { harm: harm.log_threshold(), safe: safe.map(|alpha| alpha.log_threshold()) }
    }
}
