use super::*;

#[tokio::test]
async fn actions_are_taken_from_our_own_pages_only() {
    const GOOD: &str = "Host: localhost:9\r\nContent-Type: application/json\r\nX-Beamline-Console: 1\r\n";
    const PATH: &str = "/api/v1/breakers/acme/a/force";
    let act = async |server: &Server, path: &str, headers: &str, body: &str| {
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        say(server.address, &text).await
    };
    let off = start().await;
    let answer = act(&off, PATH, GOOD, r#"{"state":"open"}"#).await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("--console-actions"), "{}", answer.body);

    let on = start_with(Access { actions: true, hosts: Vec::new() }).await;
    let body = r#"{"state":"open","reason":"<b>why</b>"}"#;
    for (headers, status) in [
        (GOOD.to_owned(), 200),
        (format!("{GOOD}Origin: http://localhost:9\r\nSec-Fetch-Site: same-origin\r\n"), 200),
        (format!("{GOOD}Origin: https://localhost:9\r\n"), 200),
        (format!("{}Origin: https://localhost\r\n", GOOD.replace(":9", ":443")), 200),
        (format!("{}Origin: https://localhost\r\n", GOOD.replace(":9", ":80")), 403),
        (format!("{GOOD}Origin: https://localhost\r\n"), 403),
        (format!("{GOOD}Origin: http://localhost:8\r\n"), 403),
        (format!("{GOOD}Origin: http://evil.example\r\n"), 403),
        (format!("{GOOD}Origin: null\r\n"), 403),
        (format!("{GOOD}Sec-Fetch-Site: same-site\r\n"), 403),
        (format!("{GOOD}Sec-Fetch-Site: cross-site\r\n"), 403),
        (format!("{GOOD}Sec-Fetch-Site: none\r\n"), 403),
        (GOOD.replace("X-Beamline-Console: 1", "X-Other: 1"), 403),
        (GOOD.replace("localhost:9", "evil.example"), 403),
        (GOOD.replace("application/json", "text/plain"), 415),
        (GOOD.replace("application/json", "application/x-www-form-urlencoded"), 415),
        (GOOD.replace("application/json", "Application/JSON; charset=utf-8"), 200),
    ] {
        let answer = act(&on, PATH, &headers, body).await;
        assert_eq!(answer.status, status, "{headers}{}", answer.body);
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    let asked = std::mem::take(&mut *on.worker.asked.lock().unwrap());
    assert_eq!(asked.len(), 5);
    let want = json!({"tenant_id": "acme", "provider_id": "a", "state": "open", "reason": "<b>why</b>", "actor": "console"});
    assert!(
        asked
            .iter()
            .all(|(verb, body)| *verb == crate::telemetry::labels::Verb::BreakerForce && *body == want)
    );

    for (body, status) in [
        (r#"{"actor":"me"}"#, 400),
        ("[]", 400),
        ("{", 400),
        ("", 400),
        (r#"{"reason":null}"#, 400),
        (&format!(r#"{{"reason":"{}"}}"#, "é".repeat(257)), 400),
        (&format!(r#"{{"reason":"{}"}}"#, "é".repeat(256)), 200),
        ("{}", 200),
    ] {
        let path = "/api/v1/breakers/acme/a/reset";
        assert_eq!(act(&on, path, GOOD, body).await.status, status, "{body}");
    }
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(20_000));
    let answer = act(&on, "/api/v1/breakers/acme/a/reset", GOOD, &long).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (413, Some("payload_too_large")));
    assert_eq!(ask(&on, "OPTIONS", PATH).await.status, 405, "nobody is given leave");
    *on.worker.reasons.lock().unwrap() = vec!["log: catching up".to_owned()];
    assert_eq!(act(&on, PATH, GOOD, r#"{"state":"open"}"#).await.status, 503);
}

#[tokio::test]
async fn who_may_not_act_is_refused_before_the_body_is_read() {
    let head = |more: &str| {
        format!(
            "POST /api/v1/breakers/acme/a/reset HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: 9\r\n\r\n"
        )
    };
    const MAY: &str = "Content-Type: application/json\r\nX-Beamline-Console: 1\r\n";
    let off = start().await;
    assert_eq!(say(off.address, &head(MAY)).await.status, 403);
    let on = start_with(Access { actions: true, hosts: Vec::new() }).await;
    assert_eq!(say(on.address, &head("Content-Type: application/json\r\n")).await.status, 403);
    *on.worker.reasons.lock().unwrap() = vec!["log: catching up".to_owned()];
    assert_eq!(say(on.address, &head(MAY)).await.status, 503);
    assert!(on.worker.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn requests_that_wait_for_the_broker_leave_room_for_health() {
    let server = start().await;
    server.worker.silent.store(true, Ordering::Relaxed);
    let request = "GET /api/v1/policies HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut waiting = Vec::new();
    for _ in 0..REQUESTS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let full = async {
        loop {
            // One that is let in is as silent as the others, and makes room for none.
            let answer = tokio::time::timeout(Duration::from_millis(200), say(server.address, &last)).await;
            if let Ok(answer) = answer {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(BOUND, full).await.expect("no more are let in");
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("unavailable")));
    assert!(answer.head.contains("retry-after"), "{}", answer.head);
    assert_eq!(server.worker.refused.load(Ordering::Relaxed), 1);
    assert_eq!(ask(&server, "GET", "/healthz").await.status, 200);
    assert_eq!(ask(&server, "GET", "/api/v1/breakers").await.status, 503);
}
