//! NATS service discovery, asked by a client that is not ours.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Stage, Worker, run};
use crate::traffic::policy;

/// What `discovery.py` found; it fails where anything is not as ADR-32 has it.
async fn found(stage: &Stage, workers: usize) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.arg(root.join("tests/broker/discovery.py")).arg(workers.to_string());
    command.env("NATS_URL", stage.broker.url()).env("PYTHONPATH", root.join(".tools/python"));
    let done = run(command, "").await;
    assert_eq!(done.code, 0, "{}\n{}", done.stdout, done.stderr);
    serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"))
}

#[tokio::test]
async fn discovery_is_what_adr_32_says_and_its_figures_are_what_was_sent() {
    let mut stage = Stage::with(|l| l.flag("--worker-name", "w-1")).await;
    stage.caller.put_policy("acme", &policy(&["a"], json!({}))).await;
    let sent = json!({"decide": [30, 7], "tenant_decide": [9, 2], "control": [7, 2]});
    assert_eq!(found(&stage, 1).await, json!({"workers": ["w-1"], "total": sent}));

    // Each of several workers answers for itself, and together they had it all.
    let mut second = Worker::start(&stage.broker, |l| l.flag("--worker-name", "w-2")).await;
    assert_eq!(found(&stage, 2).await, json!({"workers": ["w-1", "w-2"], "total": sent}));
    assert_eq!(stage.worker.stop().await, 0);
    assert_eq!(found(&stage, 1).await["workers"], json!(["w-2"]), "who is gone is not there");
    assert_eq!(second.stop().await, 0);
}
