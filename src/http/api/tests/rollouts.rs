use serde_json::{Value, json};

use crate::http::Access;
use crate::http::tests::{Answer, Server, ask, say, start, start_with};
use crate::telemetry::labels::Verb;

const OURS: &str = "Host: localhost:9\r\nContent-Type: application/json\r\nX-Beamline-Console: 1\r\n";

async fn post(server: &Server, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{headers}Content-Length: {length}\r\nConnection: close\r\n");
    say(server.address, &format!("POST /api/v1/rollouts/{path} HTTP/1.1\r\n{head}\r\n{body}")).await
}

async fn with_actions() -> Server {
    start_with(Access { actions: true, hosts: Vec::new() }).await
}

fn asked(server: &Server) -> Vec<(Verb, Value)> {
    std::mem::take(&mut *server.worker.asked.lock().unwrap())
}

#[tokio::test]
async fn rollouts_are_read_by_the_verbs() {
    let server = start().await;
    let page = json!({"limit": 100, "cursor": null});
    for (path, verb, body) in [
        ("", Verb::RolloutList, page),
        ("?limit=7&cursor=cb", Verb::RolloutList, json!({"limit": 7, "cursor": "cb"})),
        ("/cb-1", Verb::RolloutGet, json!({"rollout": "cb-1"})),
        ("/cb-1/status", Verb::RolloutStatus, json!({"rollout": "cb-1"})),
        (
            "/cb-1/history?limit=2&cursor=9.2",
            Verb::RolloutHistory,
            json!({"rollout": "cb-1", "limit": 2, "cursor": "9.2"}),
        ),
    ] {
        let answer = ask(&server, "GET", &format!("/api/v1/rollouts{path}")).await;
        assert_eq!((answer.status, answer.json().get("ok")), (200, None), "{path}");
        assert_eq!(asked(&server), [(verb, body)], "{path}");
    }
}

#[tokio::test]
async fn a_wrong_id_or_parameter_of_a_rollout_is_named() {
    let server = start().await;
    for (path, field) in [
        ("?limit=0", "limit"),
        ("?state=running", "query"),
        ("/CB", "rollout"),
        ("/a.b/status", "rollout"),
        ("/a%FF/history", "path"),
        ("/cb/history?limit=1001", "limit"),
    ] {
        let answer = ask(&server, "GET", &format!("/api/v1/rollouts{path}")).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["details"]["field"]),
            (400, &json!(field)),
            "{path}"
        );
    }
    assert_eq!(asked(&server), [], "nothing was asked for");
}

#[tokio::test]
async fn an_action_on_a_rollout_is_the_verb_with_the_console_as_its_actor() {
    let server = with_actions().await;
    for (action, verb, body) in [
        ("approve", Verb::RolloutApprove, json!({"expected_seq": 4, "reason": "<b>good</b>"})),
        ("pause", Verb::RolloutPause, json!({"reason": "holidays"})),
        ("resume", Verb::RolloutResume, json!({"expected_seq": 5})),
        ("rollback", Verb::RolloutRollback, json!({"tenant_id": "acme", "reason": "complaints"})),
        ("rollback", Verb::RolloutRollback, json!({})),
    ] {
        let answer = post(&server, &format!("cb/{action}"), OURS, &body.to_string()).await;
        assert_eq!((answer.status, answer.json().get("ok")), (200, None), "{action}: {}", answer.body);
        let mut want = body;
        want["rollout"] = json!("cb");
        want["actor"] = json!("console");
        assert_eq!(asked(&server), [(verb, want)], "{action}");
    }
}

#[tokio::test]
async fn rollouts_are_acted_on_from_our_own_pages_only() {
    const BODY: &str = r#"{"reason":"why"}"#;
    let off = start().await;
    let on = with_actions().await;
    for action in ["approve", "pause", "resume", "rollback"] {
        let path = format!("cb/{action}");
        let answer = post(&off, &path, OURS, BODY).await;
        assert_eq!(answer.status, 403, "{action}");
        assert!(answer.body.contains("--console-actions"), "{}", answer.body);
        for (headers, status) in [
            (format!("{OURS}Origin: http://evil.example\r\n"), 403),
            (format!("{OURS}Sec-Fetch-Site: cross-site\r\n"), 403),
            (OURS.replace("X-Beamline-Console: 1", "X-Other: 1"), 403),
            (OURS.replace("localhost:9", "evil.example"), 403),
            (OURS.replace("application/json", "text/plain"), 415),
        ] {
            assert_eq!(post(&on, &path, &headers, BODY).await.status, status, "{action}: {headers}");
        }
    }
    for (path, body, status) in [
        ("cb/approve", r#"{"actor":"me"}"#, 400),
        ("cb/approve", r#"{"tenant_id":"acme"}"#, 400),
        ("cb/approve", "[]", 400),
        ("CB/approve", "{}", 400),
        ("cb/start", "{}", 404),
    ] {
        assert_eq!(post(&on, path, OURS, body).await.status, status, "{path} {body}");
    }
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(20_000));
    assert_eq!(post(&on, "cb/rollback", OURS, &long).await.status, 413);
    *on.worker.reasons.lock().unwrap() = vec!["log: catching up".to_owned()];
    assert_eq!(post(&on, "cb/rollback", OURS, BODY).await.status, 503);
    assert_eq!((asked(&off), asked(&on)), (vec![], vec![]), "nothing was asked for");
}
