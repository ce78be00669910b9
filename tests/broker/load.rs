//! The load scenarios in their short form, as CI runs them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Done, bare, nats_server, program_folder};

async fn load(folder: &Path, args: &[&str]) -> Done {
    let server = nats_server();
    let mut all = vec!["load", "--short", "--json", "--nats-server", server.to_str().unwrap()];
    all.extend(args);
    let temporary = folder.to_str().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    bare(&all, &[("TMPDIR", temporary), ("PATH", &path)], folder).await
}

/// All that stands below a folder of temporary ones, by the names of its entries.
fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut entries: Vec<String> = entries.collect();
    entries.sort_unstable();
    entries
}

#[tokio::test]
async fn every_scenario_keeps_its_bounds_and_the_report_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let done = load(folder.path(), &["--clients", "20,200", "--requests", "3000"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stdout.lines().count(), 1, "{done:?}");
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((report["ok"].as_bool(), report["drained"].as_bool()), (Some(true), Some(true)));
    assert!(report["machine"]["cores"].as_u64() > Some(0), "{}", report["machine"]);
    let scenarios = report["scenarios"].as_array().unwrap();
    assert_eq!(scenarios.len(), 5);
    for (scenario, least) in scenarios.iter().zip([6, 9, 20, 24, 22]) {
        let bounds = scenario["bounds"].as_array().unwrap();
        assert!(bounds.len() >= least, "{}: {} bounds", scenario["name"], bounds.len());
        assert!(bounds.iter().all(|b| b["kept"] == true), "{scenario:#}");
    }
    // The traffic was real: it is what the accounts were of.
    let figures = &scenarios[3]["figures"];
    let figure = |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name}: {figures:#}"));
    assert!(figure("requests") >= 200.0 + 1_000.0 + 3_000.0, "{figures:#}");
    assert!(figure("pushed") > 0.4 * figure("results"), "{figures:#}");
    assert!(figure("probes") >= 2.0 && figure("fail_fast") > 0.0, "{figures:#}");
    assert!(figure("broker_in_msgs") > 4.0 * figure("requests"), "{figures:#}");
    let figures = &scenarios[4]["figures"];
    assert!(figures["refused"].as_f64() > Some(100.0), "{figures:#}");

    // The report stands where it should, and nothing else is left.
    assert_eq!(entries(folder.path()), ["load-report.md"]);
    let text = std::fs::read_to_string(folder.path().join("load-report.md")).unwrap();
    assert!(text.starts_with("# Load scenarios: passed\n"), "{text}");
    for scenario in scenarios {
        assert!(text.contains(scenario["name"].as_str().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn a_scenario_that_is_stopped_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let server = nats_server();
    let mut command = Command::new(program_folder().join("beamline-router"));
    command.args(["load", "--nats-server", server.to_str().unwrap()]);
    command.current_dir(folder.path()).env("TMPDIR", folder.path());
    let mut process = crate::support::Process::spawn("load", &mut command);
    let ready = || process.stdout.all().iter().any(|line| line.starts_with("worker 2 is ready"));
    crate::support::eventually("it has started all", crate::support::SOON, async || ready()).await;
    let started = children(process.id());
    assert!(started.len() >= 3, "{started:?}");
    process.signal("INT");
    assert_eq!(process.ends(crate::support::SOON).await.code(), Some(1));
    for id in started {
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "{id} still runs");
    }
    assert_eq!(entries(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_broker_that_cannot_be_started_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let done = bare(&["load", "--short", "--nats-server", "/nowhere/nats-server"], &[], folder.path()).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("cannot start /nowhere/nats-server"), "{done:?}");
}

/// The processes that a process started.
fn children(parent: u32) -> Vec<u32> {
    let stats = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Behind the name, which may hold anything: state, parent.
        let of: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (of == parent).then_some(id)
    });
    stats.collect()
}
