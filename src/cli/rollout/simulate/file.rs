use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::shown;
use crate::cli::output::Output;
use crate::cli::policy_files::FileFault;
use crate::domain::Stamp;
use crate::log::Entry;
use crate::rollout::controller::HistoryWanted;
use crate::rollout::history::HistoryCount;
use crate::rollout::plan::Plan;
use crate::rollout_simulation::{Content, Line, Report, Surroundings, Survey};

/// The longest line, in bytes: what the broker takes as a message, and a little more.
const MAX_LINE: u64 = 2 << 20;
/// The longest time between two lines. The simulated worker writes a tally every ten seconds of it.
const MAX_GAP_MS: u64 = 366 * 24 * 60 * 60 * 1_000;
/// Faults that are reported; a file that is of another kind has one in each line.
const MAX_FAULTS: usize = 20;

/// A file of entries. It is read several times: to check it, for each history, and for the rollout.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    path: PathBuf,
}

impl Entries {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Checks all lines.
    ///
    /// # Errors
    /// The first 20 faults, each with its line.
    pub(super) fn survey(&self) -> Result<Survey, Vec<FileFault>> {
        let mut survey = Survey::default();
        let mut faults = Vec::new();
        let metadata = std::fs::metadata(&self.path);
        if !metadata.map_err(|error| vec![FileFault::unreadable(&self.path, &error)])?.is_file() {
            return Err(vec![FileFault::unfit(&self.path, "is no regular file")]);
        }
        self.texts(|number, text| {
            let before = survey.span.map(|(_, last)| last);
            match Line::parse(number, text) {
                Ok(line) if before.is_some_and(|before| line.at.since(before) > MAX_GAP_MS) => {
                    faults.push(self.fault(number, "at: is more than 366 days after the line before"));
                }
                Ok(line) => survey.note(&line),
                Err(fault) => faults.push(self.fault(number, &fault)),
            }
            Ok(faults.len() < MAX_FAULTS)
        })
        .map_err(|fault| vec![fault])?;
        if faults.is_empty() { Ok(survey) } else { Err(faults) }
    }

    /// Gives each line to `take`, until that returns `false`.
    ///
    /// # Errors
    /// The first fault, and that of `take`.
    pub(super) fn each(
        &self,
        mut take: impl FnMut(Line<'_>) -> Result<bool, FileFault>,
    ) -> Result<(), FileFault> {
        self.texts(|number, text| {
            let line = Line::parse(number, text).map_err(|fault| self.fault(number, &fault))?;
            take(line)
        })
    }

    /// Lines that are not empty.
    fn texts(&self, mut take: impl FnMut(u64, &str) -> Result<bool, FileFault>) -> Result<(), FileFault> {
        let unreadable = |error: std::io::Error| FileFault::unreadable(&self.path, &error);
        let mut reader = BufReader::new(File::open(&self.path).map_err(unreadable)?);
        let mut text = String::new();
        let mut number = 0;
        loop {
            text.clear();
            number += 1;
            let read = reader.by_ref().take(MAX_LINE).read_line(&mut text).map_err(unreadable)?;
            if read == 0 {
                return Ok(());
            }
            if read as u64 == MAX_LINE && !text.ends_with('\n') {
                return Err(self.fault(number, "is longer than 2 MiB"));
            }
            // Some editors write a byte order mark.
            let text = text.trim_start_matches('\u{feff}').trim();
            if !text.is_empty() && !take(number, text)? {
                return Ok(());
            }
        }
    }

    fn fault(&self, number: u64, fault: &str) -> FileFault {
        FileFault::unfit(&self.path, format!("line {number}: {fault}"))
    }
}

/// The entries of a simulation, and where its reports go.
pub(super) struct Shown {
    pub(super) entries: Entries,
    pub(super) plan: Plan,
    pub(super) out: Output,
}

impl Surroundings for Shown {
    type Error = FileFault;

    fn count(&mut self, wanted: &HistoryWanted, settle_ms: u64) -> Result<(Stamp, HistoryCount), FileFault> {
        let mut count = HistoryCount::new(settle_ms);
        let mut first = None;
        self.entries.each(|line| {
            let from = *first.get_or_insert(line.at);
            if line.at >= wanted.from.max(from)
                && line.at <= wanted.to
                && let Content::Entry(entry) = &line.content
                && let Entry::Result(outcome) = &**entry
            {
                count.result(&outcome.tenant_id, outcome.request_id.as_deref(), outcome.status, line.at);
            }
            Ok(line.at <= wanted.to)
        })?;
        // The file may not go back as far as the history does.
        let from = first.unwrap_or(wanted.from).max(wanted.from);
        Ok((from, count))
    }

    fn report(&mut self, report: Report) {
        shown::report(self.out, &report, &self.plan);
    }
}
