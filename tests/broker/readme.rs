//! The commands of the README and of the runbook, as a reader would run them.
//!
//! A block whose info string has the word `test` is run, in the order of the page, all of them in one
//! empty folder, beside a broker and a worker; its exit code must be 0. If a `text` block follows it,
//! the lines of that one must be among the lines of its output, in that order.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::{Stage, program_folder, request, run};
use crate::traffic::policy;

struct Block {
    line: usize,
    script: String,
    output: Option<Vec<String>>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    // Whether what stands since the last block was prose alone, so that an output may follow.
    let mut awaits_output = false;
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let words: Vec<_> = info.split_whitespace().collect();
        let body: Vec<&str> = lines.by_ref().map(|(_, l)| l).take_while(|l| !l.starts_with("```")).collect();
        let is_test = words.contains(&"test");
        if is_test {
            assert!(matches!(words.first(), Some(&("sh" | "bash"))), "line {}: {info}", number + 1);
            blocks.push(Block { line: number + 1, script: body.join("\n"), output: None });
        } else if words.first() == Some(&"text") && awaits_output {
            let block = blocks.last_mut().unwrap();
            block.output = Some(body.into_iter().map(str::to_owned).collect());
        }
        awaits_output = is_test;
    }
    blocks
}

/// Runs the blocks of a page beside a broker and a worker, with this environment.
async fn run_blocks(page: &str, stage: &Stage, environment: &[(&str, String)]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let blocks = blocks(&std::fs::read_to_string(root.join(page)).unwrap());
    assert!(!blocks.is_empty(), "{page} has no block marked test");
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{path}", program_folder().display(), root.join(".tools/bin").display());
    for block in blocks {
        let mut command = Command::new("bash");
        // What it says on either stream is its output, as in a terminal.
        command.args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{}", block.script)]);
        command.current_dir(folder.path()).env("PATH", &path).env("NATS_URL", stage.broker.url());
        command.env("PYTHONPATH", root.join(".tools/python")).envs(environment.iter().cloned());
        let done = run(command, "").await;
        let place = format!("{page} line {}", block.line);
        assert_eq!(done.code, 0, "{place}:\n{}\n---\n{}", block.script, done.stdout);
        let mut said = done.stdout.lines().map(str::trim_end);
        for want in block.output.iter().flatten().map(|l| l.trim_end()).filter(|l| !l.is_empty()) {
            assert!(
                said.any(|line| line == want),
                "{place}: not said, or not in this order: {want}\n---\n{}",
                done.stdout
            );
        }
    }
}

#[tokio::test]
async fn the_commands_of_the_readme_do_what_it_says() {
    run_blocks("README.md", &Stage::start().await, &[]).await;
}

#[tokio::test]
async fn the_commands_of_the_runbook_can_be_run() {
    let stage = Stage::start().await;
    let breaker = json!({"enabled": true, "failure_threshold": 3});
    stage.caller.put_policy("acme", &policy(&["openai", "anthropic"], breaker)).await;
    stage.caller.decided(&request("acme", "r-1")).await;
    stage.fail("acme", "openai", 3).await;
    let worker = format!("http://127.0.0.1:{}", stage.worker.http_port());
    let names = [("TENANT", "acme".to_owned()), ("PROVIDER", "openai".to_owned()), ("WORKER", worker)];
    run_blocks("docs/runbook.md", &stage, &names).await;
}

#[test]
fn blocks_are_found_with_their_output() {
    let page = "a\n```sh test\none\ntwo\n```\nprose\n```text\nout\n```\n```text\nnot this\n```\n```sh\nnot run\n```\n```bash test\nthree\n```\n";
    let found = blocks(page);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].line, found[0].script.as_str()), (2, "one\ntwo"));
    assert_eq!(found[0].output, Some(vec!["out".to_owned()]));
    assert_eq!((found[1].script.as_str(), &found[1].output), ("three", &None));
}
