//! Credentials and certificates that are replaced while a worker runs.

use std::path::Path;
use std::time::{Duration, SystemTime};

use async_nats::ConnectOptions;
use serde_json::{Value, json};

use crate::support::{Authority, Broker, Caller, Operator, SOON, Worker, eventually, request};
use crate::traffic::{Asking, RECOVERY, policy};

/// Longer than it takes to start a worker on a busy machine.
const VALID: Duration = Duration::from_secs(25);

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

async fn in_use(worker: &Worker, times: usize) {
    eventually("the new ones are in use", SOON, async || worker.events("credentials_in_use").len() >= times)
        .await;
}

async fn unusable(worker: &Worker, file: &Path) -> Value {
    let line = eventually("it is reported", SOON, async || worker.events("credentials_unusable").pop()).await;
    assert_eq!(line["file"], json!(file), "{line}");
    line
}

/// A broker with JWTs, a worker whose credentials expire, and somebody whose do not.
async fn expiring(file: &Path, operator: &Operator) -> (Broker, Worker, Caller, u64) {
    let broker = Broker::with_config(&operator.config()).await;
    let expires = now() + VALID.as_secs();
    std::fs::write(file, operator.credentials(Some(expires))).unwrap();
    let worker = Worker::start(&broker, |launch| {
        launch.flag("--nats-creds", file.display()).flag("--decide-connections", 2)
    })
    .await;
    let options = ConnectOptions::with_credentials(&operator.credentials(None)).unwrap();
    let caller = Caller::with(options, &broker.url()).await;
    caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    (broker, worker, caller, expires)
}

#[tokio::test]
async fn credentials_are_replaced_under_load_before_they_expire_and_no_request_is_lost() {
    let (folder, operator) = (tempfile::tempdir().unwrap(), Operator::new());
    let file = folder.path().join("worker.creds");
    let (_broker, worker, caller, expires) = expiring(&file, &operator).await;
    let asking = Asking::start(&caller.client, "acme", 100, SOON);
    asking.goes_on(50).await;

    // A file that is just being written changes nothing.
    let whole = operator.credentials(None);
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    worker.hang_up();
    let line = unusable(&worker, &file).await;
    assert!(line["error"].as_str().is_some_and(|error| !error.is_empty()), "{line}");
    asking.goes_on(50).await;
    assert!(worker.events("credentials_in_use").is_empty());

    std::fs::write(&file, whole).unwrap();
    worker.hang_up();
    in_use(&worker, 1).await;
    caller.put_policy("acme", &policy(&["b"], json!({"enabled": true}))).await;
    // Whoever still had the old ones is cut off then.
    eventually("the old ones expire", VALID + SOON, async || now() > expires + 1).await;
    asking.goes_on(50).await;
    let asked = asking.stop().await;
    assert_eq!(asked.decided, asked.sent, "{asked:?}");
    assert!(worker.events("nats_disconnected").is_empty(), "{:#?}", worker.logs());
    assert_eq!(worker.count("router_nats_reconnects_total").await, 0);
    assert_eq!(caller.decided(&request("acme", "r-1")).await["provider_id"], "b");
}

#[tokio::test]
async fn credentials_that_the_broker_refuses_cut_nothing_and_right_ones_follow() {
    let (folder, operator) = (tempfile::tempdir().unwrap(), Operator::new());
    let file = folder.path().join("worker.creds");
    let (_broker, worker, caller, _) = expiring(&file, &operator).await;
    // Sound as a file, of another operator.
    std::fs::write(&file, Operator::new().credentials(None)).unwrap();
    worker.hang_up();
    let refused = async || {
        let lines = worker.events("nats_client_error");
        lines.iter().any(|line| line["error"].as_str().is_some_and(|e| e.contains("refused")))
    };
    eventually("it is refused", SOON, refused).await;
    assert_eq!(caller.decided(&request("acme", "r-1")).await["provider_id"], "a");
    caller.put_policy("acme", &policy(&["b"], json!({"enabled": true}))).await;
    assert!(worker.events("credentials_in_use").is_empty());

    std::fs::write(&file, operator.credentials(None)).unwrap();
    worker.hang_up();
    eventually("they are in use", RECOVERY, async || !worker.events("credentials_in_use").is_empty()).await;
    assert!(worker.events("nats_disconnected").is_empty(), "{:#?}", worker.logs());
    assert_eq!(caller.decided(&request("acme", "r-2")).await["provider_id"], "b");
}

#[tokio::test]
async fn certificates_are_replaced_and_a_bad_file_does_not_even_hinder_a_reconnect() {
    let authority = Authority::new();
    let file = |name: &str| authority.file(name).display().to_string();
    let mut broker = Broker::with_config(&format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    ))
    .await;
    let url = broker.url().replace("127.0.0.1", "localhost");
    let mut worker = Worker::start(&broker, |launch| {
        launch
            .env("NATS_URL", &url)
            .env("NATS_CA", file("ca.pem"))
            .env("NATS_CERT", file("client.pem"))
            .env("NATS_KEY", file("client.key"))
    })
    .await;
    let options = ConnectOptions::new()
        .add_root_certificates(authority.file("ca.pem"))
        .add_client_certificate(authority.file("server.pem"), authority.file("server.key"));
    let caller = Caller::with(options, &url).await;
    caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;

    let sound = std::fs::read(authority.file("client.key")).unwrap();
    std::fs::write(authority.file("client.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n").unwrap();
    worker.hang_up();
    unusable(&worker, &authority.file("client.key")).await;
    broker.restart().await;
    worker.ready().await;
    assert_eq!(caller.decided(&request("acme", "r-1")).await["provider_id"], "a", "by what was read before");

    // A key that is another certificate's.
    std::fs::copy(authority.file("server.key"), authority.file("client.key")).unwrap();
    worker.hang_up();
    eventually("it is reported", SOON, async || worker.events("credentials_unusable").len() == 2).await;
    std::fs::write(authority.file("client.key"), sound).unwrap();
    authority.certify("client", "renewed");
    worker.hang_up();
    in_use(&worker, 1).await;
    caller.put_policy("acme", &policy(&["b"], json!({"enabled": true}))).await;
    assert_eq!(caller.decided(&request("acme", "r-2")).await["provider_id"], "b");

    // Another authority on both sides: nothing of what was there before fits any more.
    let other = Authority::new();
    for name in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
        std::fs::copy(other.file(name), authority.file(name)).unwrap();
    }
    worker.hang_up();
    eventually("they are read", SOON, async || worker.events("credentials_read").len() == 2).await;
    assert_eq!(caller.decided(&request("acme", "r-3")).await["provider_id"], "b", "the old ones still work");
    broker.restart().await;
    in_use(&worker, 2).await;
    worker.ready().await;
    caller.put_policy("acme", &policy(&["c"], json!({"enabled": true}))).await;
    assert_eq!(caller.decided(&request("acme", "r-4")).await["provider_id"], "c");
}

#[tokio::test]
async fn without_files_a_hang_up_changes_nothing() {
    let broker = Broker::start().await;
    let mut worker = Worker::start(&broker, |launch| launch).await;
    let caller = Caller::connect(&broker).await;
    caller.put_policy("acme", &policy(&["a"], json!({"enabled": true}))).await;
    worker.hang_up();
    let line = eventually("it is heard", SOON, async || worker.events("credentials_read").pop()).await;
    assert_eq!(line["files"], "");
    assert_eq!(caller.decided(&request("acme", "r-1")).await["provider_id"], "a");
    assert!(worker.runs() && worker.events("credentials_in_use").is_empty());
}
