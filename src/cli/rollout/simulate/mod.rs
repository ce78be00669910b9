//! `rollout simulate`: a plan over a file of entries, without a broker.
//!
//! What happens is [`crate::rollout_simulation`]'s; [`file`] reads the lines, and [`shown`] says how a report looks.

mod file;
mod shown;

use std::path::PathBuf;

use clap::Args;

use super::args::PlanFile;
use super::standing::Standing;
use super::{page_files, plain, plan_file};
use crate::cli::exit::{Exit, Failure};
use crate::cli::policy_files::FileFault;
use crate::cli::shell::Session;
use crate::document::Fault;
use crate::domain::Stamp;
use crate::rollout::plan::{self, Plan};
use crate::rollout_simulation::{Course, Simulation, Survey, parse_moment};
use file::{Entries, Shown};

/// The command line of `simulate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  beamline-router rollout simulate -f cb-2026.yaml entries.jsonl
  beamline-router rollout simulate -f cb-2026.yaml entries.jsonl --approve --out pages
  beamline-router rollout simulate -f cb-2026.yaml entries.jsonl --start 2026-11-08T00:00:00Z --json

Needs no broker. It ends with the exit code of status. docs/rollout-simulate.md has the format of the file.")]
pub(super) struct SimulateArgs {
    #[command(flatten)]
    plan: PlanFile,
    /// The entries, one JSON object a line
    #[arg(value_name = "ENTRIES")]
    entries: PathBuf,
    /// When the rollout starts; without, once the plan's history has passed
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    start: Option<Stamp>,
    /// Approve each phase as soon as it may be
    #[arg(long)]
    approve: bool,
    /// Write the pages of the rollout too
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl SimulateArgs {
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let out = session.out;
        let document = plan_file::read(&self.plan.file).map_err(|fault| vec![fault])?;
        let of_plan =
            |fault: &Fault| FileFault::unfit(&self.plan.file, format!("{}: {}", fault.path, fault.message));
        let checked =
            plan::parse(&document).map_err(|faults| Failure::Files(faults.iter().map(of_plan).collect()))?;
        let plan = checked.plan;
        let entries = Entries::new(&self.entries);
        let survey = entries.survey()?;
        let unfit = |message: &str| vec![FileFault::unfit(&self.entries, message)];
        let requests = survey.requests().map_err(unfit)?;
        let start = start(self.start, &survey, &plan).map_err(unfit)?;
        let course =
            Course { rollout: plan.id().clone(), plan: document, start, approve: self.approve, requests };
        let shown = Shown { entries: entries.clone(), plan: plan.clone(), out };
        let mut simulation = Simulation::new(course, shown);
        let read = entries.each(|line| {
            simulation.take(&line)?;
            Ok(!out.is_unread())
        });
        read.map_err(|fault| vec![fault])?;
        if let Some(folder) = &self.out {
            page_files::write(&simulation.pages(), folder).map_err(|(path, error)| {
                vec![FileFault::unfit(&path, format!("cannot be written: {error}"))]
            })?;
        }
        let Some(status) = simulation.status() else {
            return Err(Failure::Usage(
                "the rollout has not been put: no line comes after its start".to_owned(),
            ));
        };
        let standing = Standing::of(status, plan);
        out.body(&shown::end(&standing.status));
        plain::lines(&standing).iter().for_each(|line| out.line(line));
        match standing.exit() {
            Exit::Done => Ok(()),
            exit => Err(Failure::Told(exit)),
        }
    }
}

/// When the rollout starts; `None` where a line does that.
fn start(given: Option<Stamp>, survey: &Survey, plan: &Plan) -> Result<Option<Stamp>, &'static str> {
    let Some((first, last)) = survey.span else { return Err("has no entries") };
    let start = match given {
        Some(_) if survey.starts => return Err("has a line that starts the rollout, so --start has no use"),
        None if survey.starts => return Ok(None),
        Some(start) => start,
        None => first.plus(plan.history_ms()),
    };
    if start > last {
        return Err("ends before the rollout starts; give --start, or the plan a shorter history");
    }
    Ok(Some(start))
}
