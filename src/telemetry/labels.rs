//! Label values: closed sets, so that series are bounded whatever a peer sends.

use crate::domain::{Disposition, ErrorCode, Reason, Status};

/// A closed set of label values.
pub trait Label: Copy + PartialEq + Send + Sync + 'static {
    /// All of them; [`Label::index`] is the place in this list.
    const ALL: &'static [Self];

    /// The value's place in [`Label::ALL`].
    fn index(self) -> usize;

    /// The value as a scrape shows it.
    fn text(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

labels! {
    /// How a request for a decision was answered.
    Outcome {
        /// With a provider.
        Decided = "decided",
        /// With this error code.
        InvalidRequest = "invalid_request",
        /// With this error code.
        Unauthorized = "unauthorized",
        /// With this error code.
        PolicyNotFound = "policy_not_found",
        /// With this error code.
        CircuitOpen = "circuit_open",
        /// With this error code.
        DecisionFailed = "decision_failed",
        /// With this error code.
        Overloaded = "overloaded",
        /// With this error code.
        Internal = "internal",
        /// With this error code.
        NoExecutor = "no_executor",
    }
}

impl From<ErrorCode> for Outcome {
    /// The codes that only control verbs answer with are none of a decision: they count as a fault of ours.
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidRequest => Self::InvalidRequest,
            ErrorCode::Unauthorized => Self::Unauthorized,
            ErrorCode::PolicyNotFound => Self::PolicyNotFound,
            ErrorCode::CircuitOpen => Self::CircuitOpen,
            ErrorCode::DecisionFailed => Self::DecisionFailed,
            ErrorCode::Overloaded => Self::Overloaded,
            ErrorCode::NoExecutor => Self::NoExecutor,
            ErrorCode::Internal | ErrorCode::Conflict | ErrorCode::NotFound | ErrorCode::Unavailable => {
                Self::Internal
            }
        }
    }
}

/// Why the provider was chosen; `none` where none was.
impl Label for Option<Reason> {
    const ALL: &'static [Self] = &[
        Some(Reason::Sticky),
        Some(Reason::Weighted),
        Some(Reason::Fallback),
        Some(Reason::CircuitBreakerFallback),
        None,
    ];

    fn index(self) -> usize {
        match self {
            Some(reason) => reason as usize,
            None => 4,
        }
    }

    fn text(self) -> &'static str {
        self.map_or("none", Reason::as_str)
    }
}

/// How a provider call ended; `invalid` where the result does not say so in a way that makes sense.
impl Label for Option<Status> {
    const ALL: &'static [Self] =
        &[Some(Status::Success), Some(Status::Error), Some(Status::Timeout), Some(Status::Cancelled), None];

    fn index(self) -> usize {
        match self {
            Some(status) => status as usize,
            None => 4,
        }
    }

    fn text(self) -> &'static str {
        self.map_or("invalid", Status::as_str)
    }
}

impl Label for Disposition {
    const ALL: &'static [Self] = &[Self::Applied, Self::Duplicate, Self::Late, Self::Ignored, Self::Rejected];

    fn index(self) -> usize {
        self as usize
    }

    fn text(self) -> &'static str {
        self.as_str()
    }
}

labels! {
    /// A control verb; what is none of them is `other`.
    Verb {
        /// `policy.put`
        PolicyPut = "policy.put",
        /// `policy.patch`
        PolicyPatch = "policy.patch",
        /// `policy.get`
        PolicyGet = "policy.get",
        /// `policy.list`
        PolicyList = "policy.list",
        /// `policy.history`
        PolicyHistory = "policy.history",
        /// `policy.delete`
        PolicyDelete = "policy.delete",
        /// `policy.rollback`
        PolicyRollback = "policy.rollback",
        /// `policy.validate`
        PolicyValidate = "policy.validate",
        /// `tenant.delete`
        TenantDelete = "tenant.delete",
        /// `breaker.list`
        BreakerList = "breaker.list",
        /// `breaker.get`
        BreakerGet = "breaker.get",
        /// `breaker.force`
        BreakerForce = "breaker.force",
        /// `breaker.reset`
        BreakerReset = "breaker.reset",
        /// `rollout.put`
        RolloutPut = "rollout.put",
        /// `rollout.lint`
        RolloutLint = "rollout.lint",
        /// `rollout.plan`
        RolloutPlan = "rollout.plan",
        /// `rollout.start`
        RolloutStart = "rollout.start",
        /// `rollout.approve`
        RolloutApprove = "rollout.approve",
        /// `rollout.promote`
        RolloutPromote = "rollout.promote",
        /// `rollout.extend`
        RolloutExtend = "rollout.extend",
        /// `rollout.pause`
        RolloutPause = "rollout.pause",
        /// `rollout.resume`
        RolloutResume = "rollout.resume",
        /// `rollout.rollback`
        RolloutRollback = "rollout.rollback",
        /// `rollout.abort`
        RolloutAbort = "rollout.abort",
        /// `rollout.drill`
        RolloutDrill = "rollout.drill",
        /// `rollout.issue`
        RolloutIssue = "rollout.issue",
        /// `rollout.graduate`
        RolloutGraduate = "rollout.graduate",
        /// `rollout.delete`
        RolloutDelete = "rollout.delete",
        /// `rollout.get`
        RolloutGet = "rollout.get",
        /// `rollout.list`
        RolloutList = "rollout.list",
        /// `rollout.status`
        RolloutStatus = "rollout.status",
        /// `rollout.history`
        RolloutHistory = "rollout.history",
        /// `rollout.report`
        RolloutReport = "rollout.report",
        /// `flag.set`
        FlagSet = "flag.set",
        /// `flag.get`
        FlagGet = "flag.get",
        /// Any other subject under the control prefix.
        Other = "other",
    }
}

impl Verb {
    /// The verb that the end of a control subject names.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::ALL.iter().copied().find(|verb| verb.text() == text).unwrap_or(Self::Other)
    }
}

/// How a control request was answered: `ok`, or its error code.
impl Label for Option<ErrorCode> {
    const ALL: &'static [Self] = &[
        None,
        Some(ErrorCode::InvalidRequest),
        Some(ErrorCode::Unauthorized),
        Some(ErrorCode::PolicyNotFound),
        Some(ErrorCode::CircuitOpen),
        Some(ErrorCode::DecisionFailed),
        Some(ErrorCode::Overloaded),
        Some(ErrorCode::Internal),
        Some(ErrorCode::Conflict),
        Some(ErrorCode::NotFound),
        Some(ErrorCode::Unavailable),
        Some(ErrorCode::NoExecutor),
    ];

    fn index(self) -> usize {
        self.map_or(0, |code| code as usize + 1)
    }

    fn text(self) -> &'static str {
        self.map_or("ok", ErrorCode::as_str)
    }
}

labels! {
    /// What could not be published.
    Publish {
        /// An answer to a request.
        Reply = "reply",
        /// An assignment.
        Assignment = "assignment",
        /// A message on the events subjects.
        Event = "event",
        /// A usage event.
        Usage = "usage",
        /// An entry of the log.
        Log = "log",
        /// A revision in the policies bucket.
        Policy = "policy",
        /// A message of a rollout.
        Rollout = "rollout",
    }
}

labels! {
    /// A bounded queue of this worker.
    Queue {
        /// Requests for decisions.
        Decide = "decide",
        /// Messages for the events subjects.
        Events = "events",
        /// Assignments whose end is awaited.
        Assignments = "assignments",
        /// Claims that wait for their verdicts.
        Claims = "claims",
        /// Control requests.
        Control = "control",
        /// Viewers of the console: streams, and what a slow one missed.
        Console = "console",
        /// Requests of tenants that a rollout watches.
        Evidence = "evidence",
        /// Connections over HTTP, and requests of the API.
        Http = "http",
    }
}

labels! {
    /// What control requests wait in.
    Lane {
        /// Of verbs that are needed when something is wrong.
        Emergency = "emergency",
        /// Of all others.
        Ordinary = "ordinary",
    }
}

labels! {
    /// What the bounds of the evidence of rollouts made it lose.
    EvidenceLost {
        /// Closed windows that were dropped before they were judged.
        Windows = "windows",
        /// Entries of requests for which there was no room.
        Units = "units",
        /// Settled requests that were forgotten for others.
        Settled = "settled",
        /// Opens that were dropped before their windows closed.
        Opens = "opens",
        /// Steps of rollouts, since too many are running.
        Steps = "steps",
        /// Runs of workers that were forgotten.
        Workers = "workers",
    }
}

labels! {
    /// What became of a pushed assignment.
    Assignment {
        /// The executor accepted it.
        Acked = "acked",
        /// The executor refused it.
        Rejected = "rejected",
        /// The executor answered with an error.
        Error = "error",
        /// Nothing came by its deadline.
        Timeout = "timeout",
        /// Its result came.
        Result = "result",
        /// Its deadline passed and was not told to the log.
        Untold = "untold",
        /// Nobody is subscribed to its subject.
        NoExecutor = "no_executor",
    }
}

labels! {
    /// Why an acknowledgement was refused.
    AckRefused {
        /// The assignment is another tenant's.
        Tenant = "tenant",
        /// It came on the subject of all tenants.
        Subject = "subject",
    }
}

labels! {
    /// How a claim for a probe ended.
    Claim {
        /// It has a slot.
        Granted = "granted",
        /// All slots were taken, or it came too late.
        Refused = "refused",
        /// The request took its fallback before the answer came.
        TimedOut = "timed_out",
        /// It took over a slot that was granted too late for an earlier request.
        TakenOver = "taken_over",
        /// Its slot was granted too late, and no request took it over.
        Unused = "unused",
        /// The log could not be reached.
        Failed = "failed",
    }
}

labels! {
    /// What became of a usage event.
    Usage {
        /// It stands in the usage stream.
        Published = "published",
        /// It could not be published yet; the result is redelivered.
        Failed = "failed",
        /// The result meters nothing.
        Skipped = "skipped",
    }
}

labels! {
    /// What is wrong with the streams and buckets.
    Trouble {
        /// One is lacking, and cannot be made.
        Streams = "streams",
        /// One is at its limit, and refuses what comes.
        Full = "full",
        /// The broker stores nothing.
        Storage = "storage",
        /// The log needs a newer program.
        Fold = "fold",
    }
}

labels! {
    /// What became of a value in a bucket that is no valid document.
    Damage {
        /// It is the last one of its key.
        Found = "found",
        /// This worker wrote the last valid one back.
        PutBack = "put_back",
        /// Another worker or an operator wrote before.
        Overtaken = "overtaken",
        /// It stays: there is no last valid one, or to write it back would change what is in force.
        Left = "left",
    }
}

labels! {
    /// Where a message came from that could not be read.
    Source {
        /// A request for a decision.
        Decide = "decide",
        /// An executor's acknowledgement.
        Ack = "ack",
        /// A control verb.
        Control = "control",
        /// A question of service discovery.
        Discovery = "discovery",
        /// An entry of the log.
        Log = "log",
        /// A value in a bucket.
        Bucket = "bucket",
    }
}

labels! {
    /// What became of a snapshot of the fold.
    Snapshot {
        /// This worker wrote it.
        Stored = "stored",
        /// Another worker wrote the same.
        Equal = "equal",
        /// Another worker wrote something else: workers disagree.
        Differs = "differs",
        /// It could not be written.
        Failed = "failed",
        /// At a start it was damaged, unfinished or of another version.
        Refused = "refused",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn is_closed<L: Label + std::fmt::Debug>() {
        let texts: HashSet<_> = L::ALL.iter().map(|l| l.text()).collect();
        assert_eq!(texts.len(), L::ALL.len(), "texts of {:?}", L::ALL);
        for (place, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), place, "{label:?}");
        }
    }

    #[test]
    fn every_label_stands_at_its_index_and_has_a_text_of_its_own() {
        is_closed::<Outcome>();
        is_closed::<Option<Reason>>();
        is_closed::<Option<Status>>();
        is_closed::<Disposition>();
        is_closed::<Verb>();
        is_closed::<Option<ErrorCode>>();
        is_closed::<Publish>();
        is_closed::<Queue>();
        is_closed::<Lane>();
        is_closed::<EvidenceLost>();
        is_closed::<Assignment>();
        is_closed::<AckRefused>();
        is_closed::<Claim>();
        is_closed::<Usage>();
        is_closed::<Trouble>();
        is_closed::<Damage>();
        is_closed::<Source>();
    }

    #[test]
    fn a_verb_that_is_not_ours_is_other() {
        assert_eq!(Verb::parse("policy.put"), Verb::PolicyPut);
        assert_eq!(Verb::parse("policy.putt"), Verb::Other);
        assert_eq!(Verb::parse(""), Verb::Other);
    }

    #[test]
    fn an_outcome_bears_the_text_of_its_error_code() {
        for code in <Option<ErrorCode> as Label>::ALL.iter().flatten() {
            let outcome = Outcome::from(*code);
            if outcome != Outcome::Internal {
                assert_eq!(outcome.text(), code.as_str());
            }
        }
    }
}
