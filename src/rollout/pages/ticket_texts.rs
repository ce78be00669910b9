//! What a ticket of each kind says, whatever it is of.

use super::tickets::TicketKind;

/// The fixed texts of a kind.
pub(super) struct Texts {
    pub(super) title: &'static str,
    pub(super) issue: &'static str,
    pub(super) expected: &'static str,
    pub(super) metrics: &'static [&'static str],
    pub(super) proposed: &'static str,
    pub(super) priority: &'static str,
}

const HIGH: &str = "High: requests fail or nothing protects them";
const MEDIUM: &str = "Medium: the rollout does not go on well without it";
const LOW: &str = "Low: people lose time by it";

impl TicketKind {
    pub(super) const fn texts(self) -> Texts {
        match self {
            Self::RolledBack => Texts {
                title: "Shares went back to 0",
                issue: "A share of enforced refusals went back to 0 for good.",
                expected: "Treated requests fail no more than the others, and the share stays.",
                metrics: &[
                    "router_circuit_breaker_state",
                    "router_circuit_breaker_error_rate",
                    "router_results_total",
                ],
                proposed: "Find what failed in the treated arm alone: fallbacks, open times, thresholds. Change it, \
                           delete the rollout, and put the plan again.",
                priority: HIGH,
            },
            Self::SampleRatio => Texts {
                title: "The arms do not have their sizes",
                issue: "The numbers of units in the arms, or of units without an outcome, are not those that the \
                        split by hash makes. The comparison proves nothing.",
                expected: "Each arm has its share of the units, and loses no more of them than the other.",
                metrics: &[
                    "router_results_total",
                    "router_queue_refused_total",
                    "router_nats_publish_failures_total",
                ],
                proposed: "Look for results that are written for one arm alone, for request ids that are used again, \
                           and for executors that drop results. Then resume.",
                priority: HIGH,
            },
            Self::EvidenceLost => Texts {
                title: "Evidence was lost",
                issue: "Windows of evidence are incomplete or missing, and hold the rollout.",
                expected: "Each window is complete.",
                metrics: &[
                    "router_queue_refused_total",
                    "router_nats_publish_failures_total",
                    "router_log_gaps_total",
                ],
                proposed: "Look for workers that ended without a stop, for a log that was purged, and for a broker \
                           that stored nothing.",
                priority: MEDIUM,
            },
            Self::ThresholdTooSensitive => Texts {
                title: "A threshold is too sensitive",
                issue: "A circuit opened while its provider failed at its usual rate: the refusals were needless.",
                expected: "A circuit opens only where its provider fails at the breaker's threshold.",
                metrics: &[
                    "router_circuit_breaker_trigger_reason_total",
                    "router_circuit_breaker_error_rate",
                ],
                proposed: "Raise `failure_threshold`, `error_rate_threshold` or `minimum_requests`; for opens by \
                           latency, `latency_threshold_ms`.",
                priority: MEDIUM,
            },
            Self::RecoveryOverdue => Texts {
                title: "A recovery is overdue",
                issue: "A circuit closed too long after its provider was well, or has not closed yet.",
                expected: "A circuit closes when its open time is over, its provider is well and its probes are done.",
                metrics: &[
                    "router_circuit_breaker_state",
                    "router_circuit_breaker_timeout_remaining_seconds",
                    "router_claims_total",
                ],
                proposed: "Shorten `timeout_ms` or `max_timeout_ms`, lower `success_threshold`, or raise \
                           `half_open_max_calls`.",
                priority: MEDIUM,
            },
            Self::ChecksCostLatency => Texts {
                title: "Treated requests are slower",
                issue: "Treated requests are slower than the others by more than the plan's limit.",
                expected: "The quantiles of the plan stay within its limit.",
                metrics: &[
                    "router_decision_duration_seconds",
                    "router_breaker_check_duration_seconds",
                    "router_claims_total",
                ],
                proposed: "Compare the latency of the fallbacks with that of the providers. Look at the wait for \
                           probes (`--claim-wait-ms`).",
                priority: MEDIUM,
            },
            Self::TenantTuning => Texts {
                title: "A tenant needs its own tuning",
                issue: "Circuits of this tenant alone opened while their providers were well.",
                expected: "The plan's settings suit each tenant, or its documents state its own.",
                metrics: &["router_circuit_breaker_window_requests", "router_circuit_breaker_error_rate"],
                proposed: "State thresholds in the tenant's own documents; they are stronger than the plan's.",
                priority: MEDIUM,
            },
            Self::EffectivenessUnknown => Texts {
                title: "The effect is not known",
                issue: "The least time of the phase is over, and it is not proven what the breakers do.",
                expected: "Safety is proven, and a circuit has opened and closed.",
                metrics: &[
                    "router_circuit_breaker_requests_saved_total",
                    "router_circuit_breaker_events_total",
                ],
                proposed: "Exercise a breaker by a drill, extend the phase, or take in tenants with more traffic.",
                priority: LOW,
            },
            Self::AlertNoise => Texts {
                title: "Alerts are noise",
                issue: "What asks for attention comes often and clears without an action.",
                expected: "Who is alerted has something to do.",
                metrics: &[
                    "router_circuit_breaker_state_transitions_total",
                    "router_circuit_breaker_trigger_reason_total",
                ],
                proposed: "For a circuit: raise `timeout_ms` or `backoff_multiplier`. For pauses: look at the criterion \
                           that paused the rollout.",
                priority: LOW,
            },
        }
    }
}
