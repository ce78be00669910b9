/// Why a provider was chosen. Each has a fixed priority, as the wire tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The session's provider.
    Sticky,
    /// Drawn by weight.
    Weighted,
    /// A fallback rule matched how the previous attempt ended.
    Fallback,
    /// The provider chosen first was refused by its breaker.
    CircuitBreakerFallback,
}

impl Reason {
    /// The word on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sticky => "sticky",
            Self::Weighted => "weighted",
            Self::Fallback => "fallback",
            Self::CircuitBreakerFallback => "circuit_breaker_fallback",
        }
    }

    /// 100, 50, 25 or 20.
    #[must_use]
    pub const fn priority(self) -> i32 {
        match self {
            Self::Sticky => 100,
            Self::Weighted => 50,
            Self::Fallback => 25,
            Self::CircuitBreakerFallback => 20,
        }
    }

    /// Whether another provider than the one chosen first serves.
    #[must_use]
    pub const fn is_fallback(self) -> bool {
        matches!(self, Self::Fallback | Self::CircuitBreakerFallback)
    }
}

/// Who serves a request, and why. Borrows from the policy and the request that made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<'a> {
    /// The provider.
    pub provider_id: &'a str,
    /// Why this one.
    pub reason: Reason,
    /// Mean latency that results reported over the breaker's window, 0 where there are none.
    pub expected_latency_ms: u64,
    /// Mean cost that results reported over the breaker's window, 0 where there are none.
    pub expected_cost: f64,
    /// The policy that decided.
    pub policy_id: &'a str,
    /// Its revision.
    pub policy_revision: u64,
    /// The session value, where the policy is sticky and the request has one.
    pub sticky_key: Option<&'a str>,
    /// The pushed assignment.
    pub assignment_id: Option<&'a str>,
    /// Whether this request is a probe of a half-open breaker.
    pub probe: bool,
    /// How long the caller should wait before it sends, where a fallback rule says so.
    pub backoff_ms: Option<u64>,
    /// Whether it was made by a state that the log has not confirmed for too long.
    pub stale: bool,
}

/// The codes of error replies, for requests and control verbs alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Not decodable, or a missing or bad field.
    InvalidRequest,
    /// Tenant of subject and body differ, or a tenant subject is required.
    Unauthorized,
    /// The tenant has no such policy.
    PolicyNotFound,
    /// Every candidate left was refused by its breaker.
    CircuitOpen,
    /// Constraints alone exclude every candidate.
    DecisionFailed,
    /// It waited too long in this worker, or a limit was reached.
    Overloaded,
    /// A fault of ours.
    Internal,
    /// Control: the expected revision is not the present one.
    Conflict,
    /// Control: no such breaker, revision or verb.
    NotFound,
    /// Control: the broker did not do what the verb needs of it.
    Unavailable,
    /// Nobody is subscribed to the assignment's subject.
    NoExecutor,
}

impl ErrorCode {
    /// The word on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::PolicyNotFound => "policy_not_found",
            Self::CircuitOpen => "circuit_open",
            Self::DecisionFailed => "decision_failed",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::NoExecutor => "no_executor",
        }
    }

    /// The number in `Nats-Service-Error-Code`.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthorized => 401,
            Self::PolicyNotFound | Self::NotFound => 404,
            Self::Conflict => 409,
            Self::DecisionFailed => 422,
            Self::Overloaded => 429,
            Self::Internal => 500,
            Self::CircuitOpen | Self::Unavailable | Self::NoExecutor => 503,
        }
    }
}
