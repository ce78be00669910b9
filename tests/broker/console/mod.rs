//! The console and the API that it lives on, in a real browser.

mod actions;
mod api;
mod described;
mod pictures;
mod rollouts;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::{Stage, Worker};

/// A policy whose windows do not move on while a test looks.
fn policy(providers: &[&str]) -> Value {
    let providers: Vec<_> = providers.iter().map(|name| json!({"name": name, "weight": 10})).collect();
    json!({
        "policy_id": "default", "providers": providers,
        "circuit_breaker": {"enabled": true, "failure_threshold": 5, "error_rate_window_seconds": 3600,
                            "minimum_requests": 20, "timeout_ms": 300_000}
    })
}

/// GET of a worker's API, which must answer.
async fn api(worker: &Worker, path: &str) -> Value {
    let page = worker.get(&format!("/api/v1/{path}")).await.expect("the API answers");
    assert_eq!(page.status, 200, "{path}: {}", page.body);
    page.json()
}

/// Every breaker, by the API.
async fn breakers(stage: &Stage) -> Vec<Value> {
    api(&stage.worker, "breakers?limit=1000").await["breakers"].as_array().unwrap().clone()
}

/// Stands before a worker, so that the worker behind an address can go and another come.
struct Front {
    port: u16,
    behind: Arc<AtomicU16>,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    async fn before(worker: &Worker) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind = Arc::new(AtomicU16::new(worker.http_port()));
        let to = Arc::clone(&behind);
        let task = tokio::spawn(async move {
            let mut pipes = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                let to = Arc::clone(&to);
                pipes.spawn(async move {
                    let Ok(mut to) = TcpStream::connect(("127.0.0.1", to.load(Ordering::Relaxed))).await
                    else {
                        return;
                    };
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self { port, behind, task }
    }

    fn url(&self, view: &str) -> String {
        format!("http://127.0.0.1:{}/#/{view}", self.port)
    }

    fn lead_to(&self, worker: &Worker) {
        self.behind.store(worker.http_port(), Ordering::Relaxed);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
