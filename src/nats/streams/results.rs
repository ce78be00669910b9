//! When the log takes results: last, once everything that judges them stands before them.
//!
//! A result is judged by the policies that stand before it in the log. Executors repeat what is not acknowledged, so a
//! log that takes results from its first moment on holds them before any policy, and rejects them all. Hence the order:
//!
//! 1. The log's stream is made with the router's own subjects only. Executors get no acknowledgement and repeat.
//! 2. Workers append policies and flags from the buckets (`reconcile`), and those of `--policy-dir`.
//! 3. A worker adds the subjects of results by an update of the stream.
//!
//! Each step may be done by any worker, by several at once, and again: a worker that ends between two steps is
//! replaced by any other. The update takes the configuration that stands and adds what is missing, so it takes nothing
//! back that an operator set. A stream that has the subjects, such as one made by an older version, is left as it is.
//!
//! A worker adds the subjects only to the stream that its own complete fold has read. Its fold may still be that of the
//! log before, which says nothing about one that was just made.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Names;
use crate::nats::Worker;
use crate::nats::ledger::{Progress, nanos_of};

/// Between looks at whether results may enter.
const EVERY: Duration = Duration::from_millis(200);
/// Between tries where the broker does not let them in.
const RETRY: Duration = Duration::from_secs(2);
/// An answer of the broker that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a stream with subjects of others is left as it is: what it takes is for its operator to say.
const FOREIGN: &str = "the stream stands with other subjects";

/// Whether results enter the log, as this worker last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Results {
    /// The stream was not described yet.
    #[default]
    Unknown,
    /// The stream has their subjects.
    Enter,
    /// Policies come first.
    Wait,
    /// Their subjects were not added, and why.
    Refused(String),
}

/// What subjects the log's stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nats) enum LogSubjects {
    /// All of ours.
    All,
    /// All of ours but some of those of results, and no others.
    WithoutResults,
    /// Those of another deployment.
    Foreign,
}

impl LogSubjects {
    /// Those of a stream. One that has all of ours may have more.
    pub(in crate::nats) fn of(names: &Names, have: &[String]) -> Self {
        let has = |subject: &String| have.contains(subject);
        let results = [&names.exec_result, &names.exec_result_tenants];
        match (has(&names.log_all), results.iter().all(|subject| has(subject))) {
            (true, true) => Self::All,
            (true, false) if have.iter().all(|s| *s == names.log_all || results.contains(&s)) => {
                Self::WithoutResults
            }
            _ => Self::Foreign,
        }
    }
}

/// Follows whether results enter.
#[derive(Debug, Default)]
pub struct ResultsGate(watch::Sender<Results>);

impl ResultsGate {
    /// Follows it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Results> {
        self.0.subscribe()
    }

    /// The stream was described.
    pub(in crate::nats) fn note_subjects(&self, subjects: LogSubjects) {
        self.0.send_if_modified(|results| {
            let now = match (subjects, &*results) {
                (LogSubjects::All, _) => Results::Enter,
                (LogSubjects::Foreign, _) => Results::Refused(FOREIGN.to_owned()),
                // The last try says why.
                (LogSubjects::WithoutResults, Results::Refused(why)) if why != FOREIGN => return false,
                (LogSubjects::WithoutResults, _) => Results::Wait,
            };
            std::mem::replace(results, now.clone()) != now
        });
    }
}

/// Whether the fold is that of the stream that was made at `created`, and complete.
fn may_admit(created: i128, progress: &Progress, complete: bool) -> bool {
    complete && progress.caught_up && progress.made == created
}

/// What is to be written over a stream's configuration for results to enter: nothing where they do.
fn admission(config: Value, names: &Names) -> Result<Option<Value>, &'static str> {
    let subjects = config.get("subjects").and_then(Value::as_array).into_iter().flatten();
    let subjects: Vec<_> = subjects.filter_map(Value::as_str).map(str::to_owned).collect();
    match LogSubjects::of(names, &subjects) {
        LogSubjects::All => Ok(None),
        LogSubjects::WithoutResults => Ok(with_results(config, names)),
        LogSubjects::Foreign => Err(FOREIGN),
    }
}

/// A stream's configuration with the subjects of results, and all else as it stands. `None` if it has them.
fn with_results(mut config: Value, names: &Names) -> Option<Value> {
    let subjects = config.get_mut("subjects")?.as_array_mut()?;
    let before = subjects.len();
    for subject in [&names.exec_result, &names.exec_result_tenants] {
        if !subjects.iter().any(|have| have == subject) {
            subjects.push(Value::from(subject.as_str()));
        }
    }
    let added = subjects.len() > before;
    added.then_some(config)
}

/// Lets results into the log whenever they do not enter and its policies are complete, until stopped. To be run once
/// the policies of the directory are put.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let mut gate = worker.ledger.results.watch();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            shut = gate.wait_for(|r| matches!(r, Results::Wait | Results::Refused(_))) => {
                if shut.is_err() { return }
            }
        }
        let mut pause = EVERY;
        if worker.link.is_up() && worker.ledger.is_complete() {
            let error = match tokio::time::timeout(PATIENCE, admit(&worker)).await {
                Ok(admitted) => admitted.err().map(|error| error.to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if let Some(error) = error {
                note_refused(&worker, error);
                pause = RETRY;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn note_refused(worker: &Worker, error: String) {
    if let Some(stands_for) = worker.line_due("results_not_admitted", &error) {
        tracing::warn!(event = "results_not_admitted", error, stands_for);
    }
    worker.ledger.results.0.send_replace(Results::Refused(error));
}

/// Adds the subjects of results, if the stream is the one that the fold has read.
async fn admit(worker: &Worker) -> Result<(), async_nats::Error> {
    let names = &worker.settings.names;
    let stream = &names.log_stream;
    let info = ask(worker, format!("STREAM.INFO.{stream}"), &()).await?;
    let created = info.get("created").and_then(Value::as_str).and_then(nanos_of);
    let progress = *worker.ledger.progress().borrow();
    let complete = worker.ledger.is_complete();
    if !created.is_some_and(|created| may_admit(created, &progress, complete)) {
        return Ok(());
    }
    let config = info.get("config").cloned().unwrap_or_default();
    if let Some(config) = admission(config, names)? {
        ask(worker, format!("STREAM.UPDATE.{stream}"), &config).await?;
        tracing::info!(event = "results_admitted", position = progress.position);
    }
    worker.ledger.results.note_subjects(LogSubjects::All);
    Ok(())
}

async fn ask(
    worker: &Worker,
    verb: String,
    body: &(impl serde::Serialize + Sync),
) -> Result<Value, async_nats::Error> {
    match worker.jetstream.request(verb, body).await? {
        Response::Ok(answer) => Ok(answer),
        Response::Err { error } => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::SubjectPrefix;

    fn names() -> Names {
        let prefix = |text| SubjectPrefix::try_new(text).unwrap();
        Names::new(&prefix("beamline.router"), &prefix("caf.exec"), &prefix("beamline.usage"))
    }

    const LOG: &str = "beamline.router.v1.log.>";
    const RESULT: &str = "caf.exec.result.v1";
    const TENANTS: &str = "caf.exec.result.v1.*";

    #[test]
    fn a_log_without_results_is_ours_and_one_with_other_subjects_is_not() {
        let of = |have: &[&str]| {
            LogSubjects::of(&names(), &have.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[RESULT, TENANTS, LOG]), LogSubjects::All);
        assert_eq!(of(&[LOG, RESULT, TENANTS, "audit.>"]), LogSubjects::All, "an operator's addition");
        assert_eq!(of(&[LOG]), LogSubjects::WithoutResults);
        assert_eq!(of(&[LOG, RESULT]), LogSubjects::WithoutResults, "half an update by hand");
        assert_eq!(of(&[LOG, "jobs.result.v1", "jobs.result.v1.*"]), LogSubjects::Foreign);
        assert_eq!(of(&[RESULT, TENANTS]), LogSubjects::Foreign);
        assert_eq!(of(&[]), LogSubjects::Foreign);
    }

    #[test]
    fn the_update_adds_what_is_missing_and_keeps_the_rest() {
        let config =
            json!({"name": "L", "subjects": [LOG], "max_age": 7, "a_setting_of_a_newer_server": {"x": 1}});
        let with = with_results(config.clone(), &names()).unwrap();
        assert_eq!(with["subjects"], json!([LOG, RESULT, TENANTS]));
        let mut rest = with.clone();
        rest["subjects"] = config["subjects"].clone();
        assert_eq!(rest, config);
        assert_eq!(with_results(with, &names()), None, "a second worker's update is none");
        let half = json!({"subjects": [TENANTS, LOG]});
        assert_eq!(with_results(half, &names()).unwrap()["subjects"], json!([TENANTS, LOG, RESULT]));
        assert_eq!(with_results(Value::Null, &names()), None);
    }

    #[test]
    fn a_stream_with_subjects_of_others_is_not_updated() {
        let admit = |subjects: &[&str]| admission(json!({"name": "L", "subjects": subjects}), &names());
        assert_eq!(admit(&[LOG, "jobs.result.v1"]), Err(FOREIGN));
        assert_eq!(admit(&["orders.>"]), Err(FOREIGN));
        assert_eq!(admission(Value::Null, &names()), Err(FOREIGN));
        assert_eq!(admit(&[LOG, RESULT, TENANTS]), Ok(None));
        let with = admit(&[LOG]).unwrap().unwrap();
        assert_eq!(with["subjects"], json!([LOG, RESULT, TENANTS]));
    }

    #[test]
    fn only_a_complete_fold_of_this_very_stream_admits_results() {
        let read = Progress { made: 7, caught_up: true, ..Progress::default() };
        assert!(may_admit(7, &read, true));
        assert!(!may_admit(8, &read, true), "the fold is that of the log before");
        assert!(!may_admit(7, &read, false), "the buckets were not compared");
        assert!(!may_admit(7, &Progress { caught_up: false, ..read }, true));
    }

    #[test]
    fn a_refusal_lasts_until_the_subjects_are_there() {
        let gate = ResultsGate::default();
        let after = |subjects| {
            gate.note_subjects(subjects);
            gate.watch().borrow().clone()
        };
        assert_eq!(after(LogSubjects::WithoutResults), Results::Wait);
        gate.0.send_replace(Results::Refused("no".to_owned()));
        assert_eq!(after(LogSubjects::WithoutResults), Results::Refused("no".to_owned()));
        assert_eq!(after(LogSubjects::All), Results::Enter);
        assert_eq!(after(LogSubjects::WithoutResults), Results::Wait, "it was made anew");
        let foreign = Results::Refused(FOREIGN.to_owned());
        assert_eq!(after(LogSubjects::Foreign), foreign);
        assert_eq!(after(LogSubjects::WithoutResults), Results::Wait, "its operator put it right");
        gate.0.send_replace(Results::Enter);
        assert_eq!(after(LogSubjects::Foreign), foreign);
    }
}
