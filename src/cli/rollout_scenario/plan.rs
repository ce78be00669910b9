use serde_json::{Value, json};

/// The rollout.
pub(in crate::cli) const ROLLOUT: &str = "breakers";
/// Serves all requests, unless its breaker refuses them.
pub(in crate::cli) const PRIMARY: &str = "openai";
/// Serves those.
pub(super) const FALLBACK: &str = "local";
/// Whose fallback is broken. It comes in with the second phase.
pub(in crate::cli) const HARMED: &str = "delta";

/// In the order in which they come in.
const TENANTS: [&str; 16] = [
    "acme", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "iris", "jade", "kelp", "larch",
    "maple", "north", "olive", "pearl",
];

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    /// Eight tenants, and no longer than the parts need to be seen.
    Short,
    /// Sixteen tenants, with a narrower margin and longer steps.
    Long,
}

impl Form {
    /// Who takes part.
    pub(in crate::cli) fn tenants(self) -> &'static [&'static str] {
        match self {
            Self::Short => TENANTS.get(..8).unwrap_or_default(),
            Self::Long => &TENANTS,
        }
    }

    /// How many of them are in the first two phases.
    pub(in crate::cli) const fn limited(self) -> usize {
        match self {
            Self::Short => 5,
            Self::Long => 8,
        }
    }

    /// How long the provider is down for everybody. The circuits open within two seconds of it.
    pub(super) const fn outage_ms(self) -> u64 {
        match self {
            Self::Short => 5_000,
            Self::Long => 15_000,
        }
    }

    /// A person looks at a phase that has passed for this long.
    pub(super) const fn look_ms(self) -> u64 {
        match self {
            Self::Short => 1_000,
            Self::Long => 2_000,
        }
    }

    /// Three phases of seconds.
    pub(super) fn plan(self) -> Value {
        let (margin, bake, min, final_bake) = match self {
            Self::Short => (0.1, "1s", "3s", "2s"),
            Self::Long => (0.05, "3s", "10s", "10s"),
        };
        let phase = |name: &str, tenants: Value, ladder: Value| json!({"name": name, "tenants": tenants, "ladder": ladder, "bake": bake, "min": min, "max": "10m"});
        let limited = self.limited();
        json!({
            "kind": "PolicyRollout",
            "id": ROLLOUT,
            "history": "1m",
            "circuit_breaker": {
                "failure_threshold": 5, "timeout_ms": 1000, "success_threshold": 3, "error_rate_window_seconds": 5,
            },
            "cohort": {"order": "listed", "include": self.tenants()},
            "analysis": {
                "block": "1s", "settle": "500ms", "max_stale": "30s", "exercise": "no",
                "safe": {"margin": margin}, "latency": {"quantiles": []},
            },
            "phases": [
                phase("canary", json!({"count": 1}), json!([0, 10, 50])),
                phase("limited", json!({"min": limited, "max": limited}), json!([50])),
                phase("all", json!({"percent": 100}), json!([50])),
            ],
            "final_bake": final_bake,
        })
    }
}

/// A policy that does not enable breakers: all to one provider, and what its breaker refuses to another.
///
/// The harmed tenant's own thresholds keep a circuit open for a minute, and let the broken fallback fail many times
/// before its circuit opens too.
pub(in crate::cli) fn policy(tenant: &str) -> Value {
    let mut policy = json!({
        "policy_id": "default",
        "providers": [{"name": PRIMARY, "weight": 100}],
        "fallbacks": [{"when": {"status": ["circuit_breaker_open"]}, "to": FALLBACK}],
    });
    if tenant == HARMED {
        policy["circuit_breaker"] =
            json!({"failure_threshold": 20, "minimum_requests": 10_000, "timeout_ms": 60_000});
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_and_policies_are_sound() {
        for form in [Form::Short, Form::Long] {
            crate::rollout::plan::parse(&form.plan()).unwrap();
            let place = form.tenants().iter().position(|tenant| *tenant == HARMED);
            assert!(place.is_some_and(|place| (1..form.limited()).contains(&place)), "in the second phase");
        }
        for tenant in [HARMED, "acme"] {
            crate::policy::parse(&policy(tenant)).unwrap();
        }
    }
}
