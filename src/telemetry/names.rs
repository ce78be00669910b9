//! Every name that this program shows to metrics, traces and logs, in one place.

use prometheus_client::registry::Unit;

/// A metric family: its name as a scrape shows it, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// With its unit and `_total`.
    pub name: &'static str,
    /// One sentence without its full stop.
    pub help: &'static str,
}

impl Family {
    /// The name without what the encoder appends by itself: `_total`, the unit.
    #[must_use]
    pub fn stem(&self) -> &'static str {
        ["_total", "_seconds"]
            .into_iter()
            .find_map(|suffix| self.name.strip_suffix(suffix))
            .unwrap_or(self.name)
    }

    /// Whether its series are those of single rollouts, and there only while there is one.
    #[cfg(test)]
    #[must_use]
    pub fn is_per_rollout(&self) -> bool {
        self.name.starts_with("router_rollout_") && !self.name.ends_with("_total")
    }

    /// Seconds, where the name says so.
    #[must_use]
    pub fn unit(&self) -> Option<Unit> {
        self.name.ends_with("_seconds").then_some(Unit::Seconds)
    }
}

/// The metric families.
pub mod metric {
    use super::Family;

    macro_rules! families {
        ($($id:ident = $name:literal, $help:literal;)*) => {
            $(
                #[doc = $help]
                pub const $id: Family = Family { name: $name, help: $help };
            )*
            /// All of them, in the order of this page.
            pub const ALL: &[Family] = &[$($id),*];
        };
    }

    families! {
        BUILD_INFO = "router_build_info", "The version that runs, always 1";
        DECISIONS = "router_decisions_total", "Decision requests answered by this worker, by outcome (decided or an error code) and by why the provider was chosen";
        STALE_DECISIONS = "router_stale_decisions_total", "Decisions of this worker by a state that the log had not confirmed for longer than --max-stale-ms";
        DECISION_DURATION = "router_decision_duration_seconds", "Time from taking a request off the queue to handing over its reply";
        BREAKER_CHECK_DURATION = "router_breaker_check_duration_seconds", "Time spent asking breakers within one decision";
        RESULTS = "router_results_total", "Results of provider calls read from the log, by how the call ended and what became of the result";
        LOG_POSITION = "router_log_position", "Sequence of the log entry that this worker applied last";
        LOG_LAG = "router_log_lag_entries", "Entries in the log that this worker has not applied yet";
        LOG_DIGEST = "router_log_state_digest", "Low 53 bits of a digest over all breaker states, equal at equal position on every worker";
        LOG_GAPS = "router_log_gaps_total", "Times that an entry was missing from the sequence read from the log";
        LOG_REBUILDS = "router_log_rebuilds_total", "Times that the state was rebuilt because the log was no longer the one it was built from";
        SNAPSHOTS = "router_log_snapshots_total", "Snapshots of the state, by outcome; any that differs means that workers disagree";
        FOLD_VERSION = "router_fold_version", "Version of the rules by which this worker applies entries of the log";
        RESULTS_FORGOTTEN_EARLY = "router_results_forgotten_early_total", "Results, refusals and timeouts whose identity was forgotten within two minutes, since their tenant's share was taken";
        ROLLOUT_WINDOWS_CLOSED = "router_rollout_windows_closed_total", "Windows of rollouts' evidence that closed, those without units too";
        ROLLOUT_EVIDENCE_LOST = "router_rollout_evidence_lost_total", "What the bounds of the evidence of rollouts made it lose, by kind";
        NATS_CONNECTED = "router_nats_connected", "1 while connected to the broker, else 0";
        NATS_RECONNECTS = "router_nats_reconnects_total", "Connections to the broker made anew after one was lost";
        NATS_SLOW_CONSUMER = "router_nats_slow_consumer_total", "Messages that were dropped because a subscription of this worker was full";
        NATS_TROUBLE = "router_nats_trouble", "1 while something is wrong with the router's streams, else 0, by kind";
        ROLLOUT_BLOCKS_DIFFER = "router_rollout_blocks_differ_total", "Windows of evidence of which this worker counted another block than the one in the stream of rollouts";
        NATS_REMADE = "router_nats_remade_total", "Streams, buckets and consumers of the router that were gone and that this worker made again";
        BUCKET_DAMAGE = "router_bucket_damage_total", "Values in the buckets of policies and flags that are no valid document, by what became of them";
        BUCKET_WENT_BACK = "router_bucket_went_back_total", "Times that a bucket of policies or flags ended before revisions that the log has seen, as one that is put back from a backup";
        NATS_PUBLISH_FAILURES = "router_nats_publish_failures_total", "Messages that could not be published, by kind";
        NATS_MALFORMED = "router_nats_malformed_total", "Messages whose subject or headers cannot be read, by where they came from";
        REPLIES_DROPPED = "router_replies_dropped_total", "Requests dropped because their reply subject is no inbox";
        TRACE_SPANS_STARTED = "router_trace_spans_started_total", "Spans that were built; a request that is not recorded builds none";
        TRACE_SPANS_DROPPED = "router_trace_spans_dropped_total", "Spans that were built and never reached the collector: queue full, export failed, or closing";
        QUEUE_REFUSED = "router_queue_refused_total", "Pieces of work that a full queue refused, by queue";
        POLICIES = "router_policies", "Policies that this worker decides by";
        READY = "router_ready", "1 while this worker is ready to serve, else 0";
        ASSIGNMENTS_IN_FLIGHT = "router_assignments_in_flight", "Assignments pushed by this worker that have neither a result nor an end yet";
        ASSIGNMENTS = "router_assignments_total", "What became of assignments pushed by this worker";
        ACKS_REFUSED = "router_acks_refused_total", "Acknowledgements of this worker's assignments that it refused, by reason";
        CLAIMS = "router_claims_total", "Claims for a probe of a half-open breaker, by outcome";
        CONTROL_REQUESTS = "router_control_requests_total", "Control requests handled by this worker, by verb and outcome (ok or an error code)";
        CONTROL_WAITING = "router_control_waiting", "Control requests that wait for a place, by lane";
        USAGE_EVENTS = "router_usage_events_total", "Usage events, by outcome";
        USAGE_UNJUDGED = "router_usage_unjudged_total", "Results that were metered, or not, without the verdict of the fold, which did not remember them";
        USAGE_RETENTION = "router_usage_retention_seconds", "How long the usage stream keeps an event at the rate of the last ten minutes; NaN until five minutes have been measured";
        USAGE_MIN_RETENTION = "router_usage_min_retention_seconds", "How long the usage stream should keep an event (--usage-min-retention)";
        USAGE_POSITION = "router_usage_log_position", "How far usage has been metered without a gap, by all workers together, as far as this one has seen";
        BREAKER_EVENTS = "router_circuit_breaker_events_total", "What breakers saw, by event";
        BREAKER_TRANSITIONS = "router_circuit_breaker_state_transitions_total", "Transitions of breakers, by the states left and entered";
        BREAKER_STATE = "router_circuit_breaker_state", "1 for the state that the breaker is in, 0 for the others";
        BREAKER_ERROR_RATE = "router_circuit_breaker_error_rate", "Failures per request in the window, 0 to 1";
        BREAKER_ERROR_RATE_THRESHOLD = "router_circuit_breaker_error_rate_threshold", "The error rate at which the breaker opens, from its policy, 0 to 1";
        BREAKER_WINDOW_REQUESTS = "router_circuit_breaker_window_requests", "Requests in the window";
        BREAKER_WINDOW_FAILURES = "router_circuit_breaker_window_failures", "Failures in the window";
        BREAKER_TIMEOUT_TRANSITIONS = "router_circuit_breaker_timeout_transitions_total", "Transitions that time brought about";
        BREAKER_TIMEOUT_REMAINING = "router_circuit_breaker_timeout_remaining_seconds", "Time until an open breaker may be probed";
        BREAKER_LAST_TRANSITION = "router_circuit_breaker_last_transition_timestamp_seconds", "When the breaker last moved, by the broker's clock, since the Unix epoch";
        BREAKER_TRIGGER_REASON = "router_circuit_breaker_trigger_reason_total", "Openings and operators' forces, by what brought them about";
        BREAKER_REQUESTS_SAVED = "router_circuit_breaker_requests_saved_total", "Estimate of failing calls not made: requests refused times the failure share seen at the opening";
        ROLLOUT_STATE = "router_rollout_state", "1 for the state that the rollout is in, 0 for the others";
        ROLLOUT_STEP = "router_rollout_step", "The step of the phase's ladder, from 0, while a phase is on it";
        ROLLOUT_PERCENT = "router_rollout_percent", "Share of the phase's tenants' requests whose refusals are enforced, in percent";
        ROLLOUT_TENANTS = "router_rollout_tenants", "Tenants of the rollout, by state";
        ROLLOUT_EVIDENCE = "router_rollout_evidence_nats", "Evidence for harm and for safety, as the natural logarithm of an e-value";
        ROLLOUT_UNITS = "router_rollout_units", "Requests of both arms that the present step is judged by";
        ROLLOUT_UNITS_NEEDED = "router_rollout_units_needed", "Requests of both arms after which safety is proven four times out of five, where the treatment does nothing";
        ROLLOUT_CRITERION = "router_rollout_criterion", "1 where the criterion passes, -1 where it fails, 0 where it is inconclusive";
        ROLLOUT_ISSUES = "router_rollout_open_issues", "Issues that customers reported and that are not closed";
        HIDDEN_BREAKERS = "router_metrics_hidden_breakers", "Breakers whose series are left out because a page shows only so many";
    }
}

/// Attribute keys of spans, their events and the resource. `messaging.*`, `server.*` and `error.type`
/// are those of the OpenTelemetry semantic conventions (1.44); `beamline.*` are ours.
pub mod attribute {
    /// `nats`.
    pub const SYSTEM: &str = "messaging.system";
    /// `process` or `send`.
    pub const OPERATION_TYPE: &str = "messaging.operation.type";
    /// `process` or `send`.
    pub const OPERATION_NAME: &str = "messaging.operation.name";
    /// The subject.
    pub const DESTINATION: &str = "messaging.destination.name";
    /// The subject with its variable token left open, where it has one.
    pub const DESTINATION_TEMPLATE: &str = "messaging.destination.template";
    /// The queue group.
    pub const CONSUMER_GROUP: &str = "messaging.consumer.group.name";
    /// Bytes of the message without its headers.
    pub const BODY_SIZE: &str = "messaging.message.body.size";
    /// `Nats-Msg-Id`.
    pub const MESSAGE_ID: &str = "messaging.message.id";
    /// The request id: what request, assignment and result have in common.
    pub const CONVERSATION_ID: &str = "messaging.message.conversation_id";
    /// This worker's name.
    pub const CLIENT_ID: &str = "messaging.client.id";
    /// The broker, where one is set.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// Its port.
    pub const SERVER_PORT: &str = "server.port";
    /// What class of error ended it; an error code of the contract where there is one.
    pub const ERROR_TYPE: &str = "error.type";
    /// The request.
    pub const REQUEST_ID: &str = "beamline.request_id";
    /// The tenant.
    pub const TENANT_ID: &str = "beamline.tenant_id";
    /// The policy that decided.
    pub const POLICY_ID: &str = "beamline.policy_id";
    /// Its revision.
    pub const POLICY_REVISION: &str = "beamline.policy_revision";
    /// The provider.
    pub const PROVIDER_ID: &str = "beamline.provider_id";
    /// Why this provider.
    pub const REASON: &str = "beamline.reason";
    /// The state of the provider's breaker as the decision saw it.
    pub const BREAKER_STATE: &str = "beamline.breaker.state";
    /// How long a refused caller is told to wait.
    pub const RETRY_AFTER_MS: &str = "beamline.retry_after_ms";
    /// What a breaker said: `allowed`, `rejected` or `would_reject`.
    pub const CHECK_RESULT: &str = "beamline.check.result";
    /// What came of a claim for a probe: `granted`, `refused` or `not_needed`.
    pub const CLAIM_OUTCOME: &str = "beamline.claim.outcome";
    /// How long the request waited for its claim, in microseconds.
    pub const CLAIM_WAIT_US: &str = "beamline.claim.wait_us";
    /// The constraint that excludes a candidate.
    pub const CONSTRAINT: &str = "beamline.constraint";
    /// Whether the request probes a half-open breaker.
    pub const PROBE: &str = "beamline.probe";
    /// The pushed assignment.
    pub const ASSIGNMENT_ID: &str = "beamline.assignment_id";
    /// How the provider call ended.
    pub const RESULT_STATUS: &str = "beamline.result.status";
    /// What became of the result.
    pub const RESULT_DISPOSITION: &str = "beamline.result.disposition";
    /// Resource: the service.
    pub const SERVICE_NAME: &str = "service.name";
    /// Resource: its version.
    pub const SERVICE_VERSION: &str = "service.version";
    /// Resource: this process among those of the service.
    pub const SERVICE_INSTANCE: &str = "service.instance.id";
}

/// The operations of spans; a span is named `<operation> <subject>`.
pub mod operation {
    /// A message is handled.
    pub const PROCESS: &str = "process";
    /// A message is published.
    pub const SEND: &str = "send";
}

/// Events of a decision's span: the steps of its routing, in their order.
pub mod step {
    /// A candidate's breaker was asked.
    pub const CHECK: &str = "circuit_breaker_check";
    /// Another candidate than the first choice is looked at.
    pub const FALLBACK: &str = "fallback";
    /// A candidate is excluded by a constraint.
    pub const CONSTRAINT: &str = "constraint";
    /// A slot of a half-open breaker was claimed in the log.
    pub const CLAIM: &str = "probe_claim";
}

/// Log events of this room: the value of the field `event`. Other rooms name theirs where they happen.
pub mod event {
    /// Spans are being lost because the collector does not take them.
    pub const TRACE_EXPORT_FAILED: &str = "trace_export_failed";
    /// The collector takes spans again.
    pub const TRACE_EXPORT_RECOVERED: &str = "trace_export_recovered";
}

/// The name of this program: service name, log target, tracer.
pub const SERVICE: &str = "beamline-router";
