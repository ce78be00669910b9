//! How a command ends: what a script can tell by the exit code, and what is said on the way out.

use std::process::ExitCode;

use super::output::Output;
use super::policy_files::FileFault;
use crate::config::SettingsFaults;
use crate::nats::connect::ConnectFailed;
use crate::nats::control_client::ControlError;

/// What `--help` says of [`Exit`].
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the router, or faults found
  2  wrong usage, settings or files
  3  cannot reach NATS, or no router answers, or the router cannot reach its buckets and log
  4  conflict: the revision, or the number of a rollout, is not the expected one
  5  no such policy, revision, breaker, tenant, rollout or verb";

/// The exit codes of all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: refused by the router, or faults found.
    Refused,
    /// 2: wrong usage, settings or files.
    Usage,
    /// 3: cannot reach NATS, or no router answers, or the router cannot reach its buckets and log.
    Unreachable,
    /// 4: the revision, or the number of a rollout, is not the expected one.
    Conflict,
    /// 5: nothing of that name.
    NotFound,
    /// 10: a rollout goes on, or is paused.
    Undecided,
    /// 11: a rollout is rolled back or aborted.
    RolledBack,
    /// 13: a rollout waits for a person.
    AwaitsApproval,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Conflict => 4,
            Exit::NotFound => 5,
            Exit::Undecided => 10,
            Exit::RolledBack => 11,
            Exit::AwaitsApproval => 13,
        })
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    Settings(SettingsFaults),
    Usage(String),
    Files(Vec<FileFault>),
    Control(ControlError),
    /// The command has said it itself.
    Told(Exit),
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl From<Vec<FileFault>> for Failure {
    fn from(faults: Vec<FileFault>) -> Self {
        Self::Files(faults)
    }
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Settings(_) | Self::Usage(_) | Self::Files(_) => Exit::Usage,
            Self::Control(error) => exit_of(error),
            Self::Told(exit) => *exit,
        }
    }

    /// Says what went wrong: on standard error for people, and the router's own body on standard output
    /// where machines asked for it.
    pub(super) fn tell(&self, out: Output) {
        match self {
            Self::Settings(faults) => out.error(&faults.to_string()),
            Self::Usage(message) => out.error(message),
            Self::Files(faults) => faults.iter().for_each(|fault| out.error(&fault.to_string())),
            Self::Control(error) => {
                if let ControlError::Refused(refusal) = error {
                    out.body(&refusal.body);
                }
                tell_control(out, None, error);
            }
            Self::Told(_) => {}
        }
    }
}

/// The exit code of a control request that came to nothing.
pub(super) fn exit_of(error: &ControlError) -> Exit {
    match error {
        ControlError::Refused(refusal) => match refusal.code.as_str() {
            "conflict" => Exit::Conflict,
            "not_found" | "policy_not_found" => Exit::NotFound,
            "unavailable" => Exit::Unreachable,
            _ => Exit::Refused,
        },
        ControlError::Connect(ConnectFailed::File(_)) => Exit::Usage,
        ControlError::TooLong { .. } => Exit::Refused,
        ControlError::Connect(_)
        | ControlError::NoResponders { .. }
        | ControlError::TimedOut { .. }
        | ControlError::NotPermitted(_)
        | ControlError::Disconnected
        | ControlError::NotARouter { .. }
        | ControlError::Failed(_) => Exit::Unreachable,
    }
}

/// Says why a control request came to nothing, each fault of a policy on a line of its own, behind the
/// file that it stands in.
pub(super) fn tell_control(out: Output, file: Option<&str>, error: &ControlError) {
    let file = file.map(|file| format!("{file}: ")).unwrap_or_default();
    out.error(&format!("{file}{error}"));
    if let ControlError::Refused(refusal) = error {
        for (pointer, message) in &refusal.faults {
            out.error(&format!("{file}{}: {message}", shown_pointer(pointer)));
        }
    }
}

/// A pointer for people: the whole document is `/`.
pub(super) fn shown_pointer(pointer: &str) -> &str {
    if pointer.is_empty() { "/" } else { pointer }
}
