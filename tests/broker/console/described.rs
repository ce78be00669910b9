use serde_json::json;

use super::policy;
use crate::support::{Stage, run};

/// The API is as its document says, also to who does not know what was meant: schemathesis sends what the
/// document allows and what it does not, and holds every answer against it. All of its checks are on.
#[tokio::test]
async fn the_api_is_what_its_document_says() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let tool = root.join(".tools/schemathesis");
    let program = tool.join("bin/schemathesis");
    assert!(program.exists(), "no schemathesis; scripts/tools.py test gets it");

    // What the document's examples name.
    let stage = Stage::with(|l| l.switch("--console-actions")).await;
    stage.caller.put_policy("acme", &policy(&["openai"])).await;
    stage.caller.put_policy("acme", &policy(&["openai", "mistral"])).await;
    stage.fail("acme", "openai", 5).await;
    let plan = crate::rollouts::plan(&json!({"id": "cb-2026", "cohort": {"include": ["acme"]}}));
    stage.caller.command("rollout.put", &json!({"plan": plan, "actor": "dana", "reason": "a draft"})).await;

    // From a file: by its address it would leave out the operation that serves the document.
    let document = stage.worker.get("/api/v1/openapi.json").await.unwrap();
    let operations = document.json()["paths"].as_object().unwrap().len();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("openapi.json"), &document.body).unwrap();
    let mut command = std::process::Command::new("python3");
    command.arg(program).current_dir(&folder).env("PYTHONPATH", tool);
    let url = format!("http://127.0.0.1:{}", stage.worker.http_port());
    command.args(["run", "openapi.json", "--url", &url]);
    command.args(["--checks", "all", "--max-examples", "20", "--seed", "1"]);
    command.args(["--generation-database", "none", "--request-timeout", "10", "--no-color"]);
    // An answer without an end: no check sees one whole. `every_answer_is_as_the_document_says` reads it.
    command.args(["--exclude-path", "/api/v1/stream"]);
    let done = run(command, "").await;
    assert_eq!(done.code, 0, "{}\n{}", done.stdout, done.stderr);
    let tested = format!("Tested: {}", operations - 1);
    assert!(done.stdout.contains(&tested), "not \"{tested}\":\n{}", done.stdout);
}
