//! Who takes part in the demo: three tenants, each with a policy that shows another way to answer when
//! a breaker refuses. One has other providers to draw, one a fallback rule, one nobody else.

use serde_json::{Value, json};

use super::story::Story;

/// The providers, in the order in which they are shown.
pub(super) const PROVIDERS: [&str; 3] = ["openai", "anthropic", "local_llm"];

/// The clients of each tenant.
pub(super) const CLIENTS: u64 = 4;

/// One tenant, and how its clients behave.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) id: &'static str,
    /// Drawn by weight.
    pub(super) providers: &'static [(&'static str, u32)],
    /// Where its fallback rule leads.
    pub(super) fallback: Option<&'static str>,
    /// Whether a user's session stays with a provider.
    pub(super) sticky: bool,
    /// Requests a second, all its clients together.
    pub(super) per_second: u64,
}

/// All of them: 300 requests a second together.
pub(super) static TENANTS: [Tenant; 3] = [
    Tenant {
        id: "acme",
        providers: &[("openai", 60), ("anthropic", 40)],
        fallback: None,
        sticky: true,
        per_second: 120,
    },
    Tenant {
        id: "globex",
        providers: &[("openai", 50), ("anthropic", 50)],
        fallback: Some("local_llm"),
        sticky: false,
        per_second: 100,
    },
    Tenant { id: "initech", providers: &[("openai", 100)], fallback: None, sticky: false, per_second: 80 },
];

/// Every pair of tenant and provider that has a breaker, in the order in which they are shown.
pub(super) fn cells() -> impl Iterator<Item = (&'static Tenant, &'static str)> {
    TENANTS.iter().flat_map(|tenant| {
        let drawn = tenant.providers.iter().map(|(provider, _)| *provider);
        drawn.chain(tenant.fallback).map(move |provider| (tenant, provider))
    })
}

impl Tenant {
    /// What becomes of its requests while `provider` is refused.
    pub(super) fn way_out(&self, provider: &str) -> String {
        let others = || self.providers.iter().map(|(other, _)| *other).filter(|other| *other != provider);
        match (self.fallback, others().next()) {
            (Some(to), _) => format!("{} falls back to {to}", self.id),
            (None, Some(to)) => format!("{} goes to {to}", self.id),
            (None, None) => format!("{} gets fail-fast replies", self.id),
        }
    }

    /// Its policy, with settings that suit the length of the story.
    pub(super) fn policy(&self, story: &Story) -> Value {
        let providers: Vec<Value> =
            self.providers.iter().map(|(name, weight)| json!({"name": name, "weight": weight})).collect();
        let mut policy = json!({
            "policy_id": "default",
            "version": "1.0",
            "providers": providers,
            "circuit_breaker": {
                "enabled": true,
                "failure_threshold": 5,
                "error_rate_threshold": 0.5,
                "error_rate_window_seconds": story.window_seconds(),
                "timeout_ms": story.timeout_ms(),
                "success_threshold": 2,
            },
        });
        if self.sticky {
            policy["sticky"] = json!({"enabled": true, "session_key": "user_id", "ttl": "10m"});
        }
        if let Some(to) = self.fallback {
            policy["fallbacks"] =
                json!([{"when": {"status": ["circuit_breaker_open", "timeout", "5xx", "429"]}, "to": to}]);
        }
        policy
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_policy_is_one_that_the_router_takes() {
        for run in [8, 40, 600] {
            let story = Story::lasting(Duration::from_secs(run));
            for tenant in &TENANTS {
                let policy = crate::policy::parse(&tenant.policy(&story));
                assert!(policy.is_ok(), "{}: {policy:?}", tenant.id);
            }
        }
    }

    #[test]
    fn each_tenant_has_another_way_out() {
        let ways: Vec<String> = TENANTS.iter().map(|tenant| tenant.way_out("openai")).collect();
        let want =
            ["acme goes to anthropic", "globex falls back to local_llm", "initech gets fail-fast replies"];
        assert_eq!(ways, want);
        assert_eq!(cells().count(), 6);
    }
}
