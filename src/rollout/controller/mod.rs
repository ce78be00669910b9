//! The controller of rollouts: a fold over the stream of rollouts. Plans, commands, histories and blocks of
//! evidence go in; decisions, steps for the log and answers come out as [`Effects`].
//!
//! **A decision is a record.** From its state a controller knows which decision is *due*. It does not act on
//! it: it gives it to the caller, who records it in the stream. A decision takes effect at the place of its
//! record, on every worker alike. Decisions are numbered from 1 in each rollout, and the first record of a
//! number counts. So it does not matter how many workers record it, which of them, or with which version of the
//! program: a replay obeys what is recorded, and reports ([`Event::Differs`]) where it would have decided
//! otherwise.
//!
//! **A record is void** if a plan, a command or a decision was accepted after the place at which it became due
//! ([`Decision::at_seq`]): whoever gave that command did so without it. The controller then decides anew. A
//! decision that a command ordered is not overtaken in this way, since other commands are refused until it is
//! recorded.
//!
//! **Order of precedence.** Proven harm rolls back, always, paused or not. Then a step is renewed that the log
//! took to 0 while nothing was judged. Then the course of the plan, by [`judge::decide`](super::judge::decide).
//!
//! # States
//!
//! | state | decisions | leads to |
//! |---|---|---|
//! | `draft` | start | `preparing` of phase 0 |
//! | `preparing` | step, once the history is there | `running`, first step |
//! | `running` | step, at the end of a step before the last | `running`, next step |
//! | | await approval, at the last step | `awaiting_approval` |
//! | | promote, without approval | `preparing` of the next phase with tenants of its own |
//! | | final bake, where there is no such phase | `final_bake` |
//! | `awaiting_approval` | promote or final bake, by `approve` | as above |
//! | `final_bake` | complete | `completed` |
//! | these four | pause, resume | themselves, beside which they are paused |
//! | these four | renew | themselves, with the same shares as a new step |
//! | these four, `completed` | tenant back | themselves, the tenant's share at 0 |
//! | these four, `completed` | roll back | `rolled_back` |
//! | these four | abort | `aborted` |
//! | `draft`, `completed`, `rolled_back`, `aborted` | delete | `deleted`; a plan may be put again |
//!
//! # Verbs
//!
//! | verb | possible in |
//! |---|---|
//! | `put` | no rollout, `draft`, `deleted` |
//! | `start` | `draft` |
//! | `approve` | `awaiting_approval`, where `decide` says promote |
//! | `promote` | `running`, `awaiting_approval`, where `decide` says promote but for one criterion |
//! | `extend` | `running` |
//! | `pause`, `suspend`, `resume`, `abort` | `preparing`, `running`, `awaiting_approval`, `final_bake` |
//! | `rollback` | these and `completed` |
//! | `drill` | `running`, `awaiting_approval`, `final_bake` |
//! | `issue` | all but `draft`, `aborted`, `deleted` |
//! | `graduate` | `completed` |
//! | `delete` | `draft`, `completed`, `rolled_back`, `aborted` |
//!
//! # Judging
//!
//! Windows are taken strictly in order. Rows count if they are of the newest step and of its shares, and their
//! window is whole and treated; an operator's drill takes its tenant out meanwhile. The tenants that came in
//! with the phase are judged on its ladder; those of earlier phases are a holdout, compared for HARM alone. A
//! step at 0 compares two halves that are treated alike: what it finds is `evidence_suspect`.
//!
//! A pause by the controller ends by itself once `decide` no longer says so. One that took shares to 0, and one
//! for suspect evidence, ends by `resume` alone, and the step's evidence begins anew.
//!
//! # What always holds
//!
//! - Without units in both arms of the step, no decision of this controller raises a share.
//! - A tenant that was rolled back has share 0 for as long as the rollout is known.
//! - No criterion but one that a command names is passed over, never harm, and never a lack of all data.
//! - Equal messages give equal states, which serialise to equal bytes. A state that is read goes on as the one
//!   that was written; its format must describe itself, as JSON does, since enums carry tags. There is no clock,
//!   no randomness, and no float outside of the judge.
//!
//! # Bounds
//!
//! [`MAX_ROLLOUTS`]; 10,000 tenants of a history (a greater one is passed over); for each rollout 64 verdicts
//! for copies of messages, 256 open issues, 64 drills, 4,096 opens of a phase (one more is unexplained), and the
//! flags of twelve windows. A judge holds a kilobyte or so for each tenant of its phase.
//!
//! # What it does not do
//!
//! It does not know whether workers lack support for rollouts, nor whether accounts add up, nor whether a
//! fallback is healthy at the moment of a drill: the history says whether there is one.

mod criterion;
mod decision;
mod due;
mod effects;
mod findings;
mod fold;
mod holdout;
mod latency;
mod message;
mod obey;
mod opens;
mod outlook;
mod overlay;
mod refusal;
mod rollout;
mod run;
mod stage;
mod status;
mod stored;
mod summary;
mod take;
mod terms;
#[cfg(test)]
mod tests;
mod thresholds;
mod verbs;
mod windows;

pub use criterion::Criterion;
pub use decision::{Decision, Figures, Kind};
pub use effects::{DecisionFault, Effects, Event, HistoryWanted};
pub use fold::{Controllers, MAX_ROLLOUTS};
pub use message::{
    Command, History, IssueChange, Message, PlanMessage, Span, Suspension, TenantHistory, Verb,
};
pub use outlook::{PhaseOutlook, outlook};
pub use refusal::{CommandVerdict, Outcome, Refusal};
pub use rollout::TenantState;
pub use stage::{PAUSED, Pause, STATES, Stage};
pub use status::{EvidenceStatus, Next, Status, TenantStatus};
pub use summary::CriterionStatus;
pub use thresholds::Thresholds;

/// The version of the judge that this program has.
pub const JUDGE_VERSION: u32 = 1;
