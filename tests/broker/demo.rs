//! The demo, as a script would see it.

use std::path::{Path, PathBuf};

use crate::support::{Done, bare, nats_server};

/// Long enough for a busy machine to show all of it.
const RUN: &str = "20s";

#[tokio::test]
async fn the_demo_shows_providers_fail_and_recover_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let done = demo(folder.path(), &["--for", RUN]).await;
    // A provider fails, a circuit opens, probes find it well, the circuit closes; then the summary.
    let parts = [
        "worker 2 is ready",
        "> All providers are well",
        "> Provider openai begins to fail",
        "/openai ",
        "> Provider openai fails. Circuits open:",
        "> Provider openai is well again, its circuits are closed",
        "> Provider anthropic begins to limit its rate",
        "> Provider anthropic is well again, its circuits are closed",
        "beamline-router demo, 20",
        "they agree",
        "nothing is left running",
    ];
    in_order(&done, &parts);
    let moved = |how: &str| done.stdout.lines().filter(|line| line.contains(how)).count();
    assert!(moved("closed -> open") >= 3 && moved("half-open -> closed") >= 3, "{}", done.stdout);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn the_rollout_demo_rolls_one_tenant_back_completes_and_leaves_its_pages_alone() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pages = out.path().join("pages");
    let done = demo(folder.path(), &["--rollout", "--out", pages.to_str().unwrap()]).await;
    let in_pages = format!("the pages of the rollout are in {}", pages.display());
    let parts = [
        "worker 2 is ready",
        "running, phase canary, step 3, 50 % enforced",
        "awaiting_approval, phase canary",
        "$ beamline-router rollout approve",
        "running, phase limited, step 1, 50 % enforced",
        "> openai is down for every tenant",
        "> openai is well again. The circuit of delta is still open, and its fallback is broken",
        "  delta is rolled back: evidence of harm ",
        "> the fallback of delta is mended",
        "running, phase all, step 1, 50 % enforced",
        ": final_bake",
        ": completed",
        "nothing is left running",
        &in_pages,
    ];
    in_order(&done, &parts);
    assert_eq!(done.stdout.matches("is rolled back:").count(), 1, "delta alone: {}", done.stdout);
    assert_eq!(done.stderr, "");

    let log = std::fs::read_to_string(pages.join("EXECUTION_LOG.md")).unwrap();
    for part in ["roll back `delta` | the controller | `harm`", "complete at 100 % | the controller"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let (daily, weekly) = (files(&pages.join("daily")), files(&pages.join("weekly")));
    assert!(!daily.is_empty() && !weekly.is_empty());
    let tickets =
        files(&pages.join("tickets")).into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    let back = |ticket: &String| ticket.contains("| Kind | `rolled_back` |");
    let back: Vec<String> = tickets.filter(back).collect();
    assert_eq!(back.len(), 1, "{back:?}");
    assert!(back[0].contains("| Tenant | `delta` |"), "{}", back[0]);

    assert_eq!(files(folder.path()), [] as [PathBuf; 0], "nothing else is left");
    let workers =
        done.stdout.lines().filter_map(|line| line.split_once("is ready: process ")?.1.split_once(','));
    let workers: Vec<&str> = workers.map(|(id, _)| id).collect();
    assert_eq!(workers.len(), 2, "{}", done.stdout);
    for id in workers {
        assert!(!Path::new("/proc").join(id).exists(), "worker {id} still runs");
    }
    let broker = done.stdout.split_once("nats://").unwrap().1.split_once(',').unwrap().0;
    assert!(std::net::TcpStream::connect(broker).is_err(), "{broker} still listens");
}

/// Runs a demo to its end, with its temporary files in a folder.
async fn demo(folder: &Path, args: &[&str]) -> Done {
    let server = nats_server();
    let mut all = vec!["demo", "--plain", "--nats-server", server.to_str().unwrap()];
    all.extend(args);
    let path = std::env::var("PATH").unwrap_or_default();
    let done = bare(&all, &[("TMPDIR", folder.to_str().unwrap()), ("PATH", &path)], folder).await;
    assert_eq!(done.code, 0, "{done:?}");
    done
}

/// Each part is in a line of its own, after the one before.
fn in_order(done: &Done, parts: &[&str]) {
    let mut lines = done.stdout.lines();
    for part in parts {
        let found = lines.any(|line| line.contains(part));
        assert!(found, "{part}, after what stands before it:\n{}", done.stdout);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}
