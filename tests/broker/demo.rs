//! The demo, as a script would see it.

use crate::support::{bare, nats_server};

/// Long enough for a busy machine to show all of it.
const RUN: &str = "20s";

#[tokio::test]
async fn the_demo_shows_providers_fail_and_recover_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = nats_server();
    let args = ["demo", "--plain", "--for", RUN, "--nats-server", server.to_str().unwrap()];
    let path = std::env::var("PATH").unwrap_or_default();
    let env = [("TMPDIR", folder.path().to_str().unwrap()), ("PATH", &path)];
    let done = bare(&args, &env, folder.path()).await;
    assert_eq!(done.code, 0, "{done:?}");
    // A provider fails, a circuit opens, probes find it well, the circuit closes; then the summary.
    let mut lines = done.stdout.lines();
    for part in [
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
    ] {
        assert!(
            lines.any(|line| line.contains(part)),
            "{part}, after what stands before it:\n{}",
            done.stdout
        );
    }
    let moved = |how: &str| done.stdout.lines().filter(|line| line.contains(how)).count();
    assert!(moved("closed -> open") >= 3 && moved("half-open -> closed") >= 3, "{}", done.stdout);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}
