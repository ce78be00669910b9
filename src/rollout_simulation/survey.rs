use super::line::{Content, Line};
use crate::domain::Stamp;
use crate::log::Entry;
use crate::rollout::controller::Verb;

/// What is known of a file once all of its lines were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The first and the last stamp; `None` where there is no line.
    pub span: Option<(Stamp, Stamp)>,
    /// Whether a line starts the rollout.
    pub starts: bool,
    requests: bool,
    tallies: bool,
}

/// Where it is known from which requests workers answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// The file has the tallies of its workers.
    Tallied,
    /// The file has requests. A simulated worker answers them.
    Listed,
    /// Each request that has a result was answered by a simulated worker.
    Implied,
}

impl Survey {
    /// Takes the next line.
    pub fn note(&mut self, line: &Line<'_>) {
        let (first, _) = self.span.unwrap_or((line.at, line.at));
        self.span = Some((first, line.at));
        match &line.content {
            Content::Entry(entry) => self.tallies |= matches!(**entry, Entry::Tally(_)),
            Content::Request(_) => self.requests = true,
            Content::Command(command) => self.starts |= matches!(command.verb, Verb::Start { .. }),
        }
    }

    /// Where it is known from which requests workers answered.
    ///
    /// # Errors
    /// Where it is said twice.
    pub const fn requests(&self) -> Result<Requests, &'static str> {
        match (self.tallies, self.requests) {
            (true, true) => Err("a file has tallies or requests, not both: tallies count the requests"),
            (true, false) => Ok(Requests::Tallied),
            (false, true) => Ok(Requests::Listed),
            (false, false) => Ok(Requests::Implied),
        }
    }
}
