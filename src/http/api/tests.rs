mod actions;
mod rollouts;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::*;
use crate::breaker::State;
use crate::http::tests::{Server, ask, row, say, start, start_with};

const BOUND: Duration = Duration::from_secs(20);

/// One who follows, from its side of the connection.
struct Viewer {
    lines: BufReader<TcpStream>,
}

impl Viewer {
    async fn join(server: &Server) -> Self {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        Self { lines: BufReader::new(stream) }
    }

    /// The next event and its data; `None` when the stream ends.
    async fn next(&mut self) -> Option<(String, Value)> {
        let mut event = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(BOUND, self.lines.read_line(&mut line)).await.unwrap();
            if read.unwrap_or(0) == 0 {
                return None;
            }
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.trim_end().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((event, serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// The next event that `wanted` knows.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (_, data) = self.next().await.expect("the stream goes on");
            if wanted(&data) {
                return data;
            }
        }
    }
}

#[test]
fn the_document_describes_every_route_and_no_other() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            described.insert((method.clone(), path.clone()));
            let named: BTreeSet<_> = path.split(['{', '}']).skip(1).step_by(2).collect();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = parameters.iter().filter(|p| p["in"] == "path");
            let told: BTreeSet<_> = in_path.map(|p| p["name"].as_str().unwrap()).collect();
            assert_eq!(named, told, "{method} {path}");
        }
    }
    let routes: BTreeSet<_> = ROUTES.iter().map(|(m, p)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(described, routes);
}

#[tokio::test]
async fn a_viewer_gets_the_whole_and_then_what_differs() {
    let server = start().await;
    *server.worker.rows.lock().unwrap() = vec![row("acme", "a"), row("acme", "b")];
    let mut viewer = Viewer::join(&server).await;
    let (event, whole) = viewer.next().await.unwrap();
    assert_eq!((event.as_str(), whole["breakers"].as_array().unwrap().len()), ("snapshot", 2));
    {
        let mut rows = server.worker.rows.lock().unwrap();
        rows[1].state = State::Open;
        rows[1].since = server.worker.overview().now;
        rows[1].open_until = Some(7);
        rows.push(row("globex", "a"));
    }
    let delta = viewer.until(|d| d["changed"].as_array().is_some_and(|c| !c.is_empty())).await;
    let changed = delta["changed"].as_array().unwrap();
    let since = server.worker.rows.lock().unwrap()[1].since;
    let want =
        json!({"tenant_id": "acme", "provider_id": "b", "state": "open", "since": since, "open_until": 7});
    assert_eq!(changed[0], want);
    assert_eq!(changed[1]["tenant_id"], "globex");
    assert_eq!(changed[1]["error_rate_threshold"], 0.5, "a new one comes whole");
    assert_eq!(delta["alerts"][0]["name"], "RouterCircuitBreakerOpened");
    {
        let mut rows = server.worker.rows.lock().unwrap();
        rows[1].open_until = None;
        rows.remove(0);
    }
    let delta = viewer.until(|d| d["gone"].as_array().is_some_and(|g| !g.is_empty())).await;
    assert_eq!(delta["gone"], json!([["acme", "a"]]));
    assert_eq!(delta["changed"], json!([{"tenant_id": "acme", "provider_id": "b", "open_until": null}]));
}

#[tokio::test]
async fn nothing_is_copied_while_nobody_looks() {
    let server = start().await;
    let looks = || server.worker.looks.load(Ordering::Relaxed);
    let mut viewer = Viewer::join(&server).await;
    viewer.next().await.unwrap();
    viewer.until(|d| d["changed"].is_array()).await;
    assert!(looks() >= 2);
    drop(viewer);
    // Whether it stops is seen by its standing still, over more than twice the time between copies.
    let mut before = looks();
    let quiet = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            if looks() == before {
                return;
            }
            before = looks();
        }
    };
    tokio::time::timeout(BOUND, quiet).await.expect("the copying stops");
}

#[tokio::test]
async fn viewers_never_take_all_places_and_one_too_many_is_counted() {
    let server = start().await;
    let mut viewers = Vec::new();
    for _ in 0..hub::VIEWERS {
        let mut viewer = Viewer::join(&server).await;
        viewer.next().await.unwrap();
        viewers.push(viewer);
    }
    let answer = ask(&server, "GET", "/api/v1/stream").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("unavailable")));
    assert!(answer.head.contains("retry-after"), "{}", answer.head);
    assert_eq!(server.worker.refused.load(Ordering::Relaxed), 1);
    assert_eq!(ask(&server, "GET", "/healthz").await.status, 200);
    // A place comes back with its viewer's going.
    viewers.pop();
    let again = async {
        loop {
            let mut viewer = Viewer::join(&server).await;
            if viewer.next().await.is_some() {
                return;
            }
        }
    };
    tokio::time::timeout(BOUND, again).await.expect("the place comes back");
}

#[tokio::test]
async fn who_falls_behind_gets_the_whole_anew_and_is_counted() {
    let desk = std::sync::Arc::new(crate::http::tests::Worker::default());
    let hub = Hub::new(desk.clone(), CancellationToken::new());
    let (_, mut frames) = hub.join().await;
    for n in 0..40 {
        *desk.rows.lock().unwrap() = vec![row(&format!("t{n}"), "a")];
        hub.advance_now().await;
    }
    let lagged = frames.recv().await.unwrap_err();
    assert_eq!(lagged, tokio::sync::broadcast::error::RecvError::Lagged(24));
    hub.missed(24);
    assert_eq!(desk.refused.load(Ordering::Relaxed), 24);
    let (whole, _frames) = hub.join().await;
    let text = String::from_utf8(whole.to_vec()).unwrap();
    assert!(text.starts_with("event: snapshot\n") && text.contains("\"t39\""), "{text}");
}

#[tokio::test]
async fn a_stop_sends_viewers_away_at_once() {
    let server = start().await;
    let mut viewer = Viewer::join(&server).await;
    viewer.next().await.unwrap();
    server.stop.send(()).unwrap();
    let ended = async { while viewer.next().await.is_some() {} };
    // Well below the two seconds that answers under way are given.
    tokio::time::timeout(Duration::from_millis(1_500), ended).await.expect("the stream ends");
    tokio::time::timeout(BOUND, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn lists_are_sorted_filtered_and_paged() {
    let server = start().await;
    let mut rows: Vec<_> = (0..7).map(|n| row("acme", &format!("p{n}"))).collect();
    rows[3].state = State::HalfOpen;
    rows.push(row("globex", "p0"));
    *server.worker.rows.lock().unwrap() = rows;
    let mut found = Vec::new();
    let mut path = "/api/v1/breakers?limit=3".to_owned();
    loop {
        let page = ask(&server, "GET", &path).await.json();
        assert_eq!(page["total"], 8);
        for breaker in page["breakers"].as_array().unwrap() {
            found.push(format!("{}/{}", breaker["tenant_id"].as_str().unwrap(), breaker["provider_id"]));
        }
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/api/v1/breakers?limit=3&cursor={cursor}");
    }
    assert_eq!(found.len(), 8);
    assert!(found.is_sorted());
    let keys = async |query: &str| {
        let page = ask(&server, "GET", &format!("/api/v1/breakers?{query}")).await.json();
        page["total"].as_u64().unwrap()
    };
    assert_eq!(keys("tenant_id=globex").await, 1);
    assert_eq!(keys("provider_id=p0").await, 2);
    assert_eq!(keys("state=half_open&tenant_id=acme").await, 1);
    assert_eq!(keys("state=open").await, 0);
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let server = start().await;
    for (path, field) in [
        ("/api/v1/breakers?limit=0", "limit"),
        ("/api/v1/breakers?limit=1001", "limit"),
        ("/api/v1/breakers?state=shut", "state"),
        ("/api/v1/breakers?tenant_id=a%20b", "tenant_id"),
        ("/api/v1/breakers?tenat_id=a", "query"),
        ("/api/v1/breakers?limit=1&limit=2", "limit"),
        ("/api/v1/breakers?cursor=a", "cursor"),
        ("/api/v1/breakers?cursor=a/", "cursor"),
        ("/api/v1/breakers?cursor=", "cursor"),
        ("/api/v1/breakers?limit=", "limit"),
        ("/api/v1/breakers?limit=%2B5", "limit"),
        ("/api/v1/breakers?tenant_id=", "tenant_id"),
        ("/api/v1/policies?cursor=a", "cursor"),
        ("/api/v1/rollouts?cursor=A", "cursor"),
        ("/api/v1/rollouts/cb/history?cursor=7", "cursor"),
        ("/api/v1/breakers/a%3Cb/c", "tenant_id"),
        ("/api/v1/breakers/a/c%FF", "path"),
        ("/api/v1/transitions?within_seconds=604801", "within_seconds"),
        ("/api/v1/policies?limit=x", "limit"),
        ("/api/v1/policies/a/b/diff?to=1", "from"),
        ("/api/v1/policies/a/b/diff?from=1&to=9007199254740992", "to"),
    ] {
        let answer = ask(&server, "GET", path).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, error["code"].as_str()), (400, Some("invalid_request")), "{path}");
        assert_eq!(error["details"]["field"], field, "{path}: {error}");
    }
    // What clients would resolve away stands behind a mark.
    for path in ["/api/v1/breakers/~./~..", "/api/v1/breakers/%7e./~..", "/api/v1/breakers/~acme/~b"] {
        assert_eq!(ask(&server, "GET", path).await.status, 404, "{path}");
    }
    let asked = std::mem::take(&mut *server.worker.asked.lock().unwrap());
    let asked: Vec<_> = asked
        .iter()
        .map(|(_, b)| (b["tenant_id"].as_str().unwrap(), b["provider_id"].as_str().unwrap()))
        .collect();
    assert_eq!(asked, [(".", ".."), (".", ".."), ("acme", "b")]);
    assert_eq!(ask(&server, "GET", "/api/v1/breakers/~~a/b").await.status, 400);
    let answer = ask(&server, "GET", "/api/v1/breakers/a/b").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("not_found")));
    let answer = ask(&server, "GET", "/api/v1/nothing").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("not_found")));
    let answer = ask(&server, "DELETE", "/api/v1/overview").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (405, Some("method_not_allowed")));
    assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
    let answer = ask(&server, "HEAD", "/api/v1/overview").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
}

#[tokio::test]
async fn a_name_that_is_not_ours_reads_nothing() {
    let access = Access { actions: false, hosts: vec!["router.example.com".to_owned()] };
    let server = start_with(access).await;
    let status = async |host: &str| {
        let text = format!("GET /api/v1/overview HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        say(server.address, &text).await.status
    };
    for ours in [
        "localhost",
        "LOCALHOST:9464",
        "127.0.0.1:1",
        "10.0.0.7",
        "[::1]",
        "[::1]:9464",
        "Router.example.com:80",
    ] {
        assert_eq!(status(&format!("Host: {ours}\r\n")).await, 200, "{ours}");
    }
    for foreign in [
        "evil.example",
        "evil.example:9464",
        "localhost.evil.example",
        "router.example.com.evil",
        "127.0.0.1.evil",
        "[::1",
        "[::1]x",
        "localhost:9a",
        "",
    ] {
        assert_eq!(status(&format!("Host: {foreign}\r\n")).await, 403, "{foreign}");
    }
    assert_eq!(status("Host: localhost\r\nHost: evil.example\r\n").await, 403, "two");
}
