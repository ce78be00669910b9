//! `top`, in a terminal and in a pipe.

use serde_json::{Value, json};

use crate::support::{Broker, SOON, Stage, Terminal, Worker, cli, eventually, request};
use crate::traffic::policy;

/// Two tenants, three breakers, and a worker called w-1.
async fn stage() -> Stage {
    let stage = Stage::with(|l| l.flag("--worker-name", "w-1")).await;
    let breaker = json!({"enabled": true, "failure_threshold": 3, "timeout_ms": 300_000});
    stage.caller.put_policy("acme", &policy(&["openai", "mistral"], breaker.clone())).await;
    stage.caller.put_policy("beta", &policy(&["local_llm"], breaker)).await;
    stage
}

/// The line of the screen that tells of a breaker.
fn row(screen: &str, tenant: &str, provider: &str) -> Option<String> {
    screen.lines().find(|l| l.starts_with(tenant) && l.contains(provider)).map(str::to_owned)
}

fn is(screen: &str, tenant: &str, provider: &str, state: &str) -> bool {
    row(screen, tenant, provider).is_some_and(|row| row.split_whitespace().nth(2) == Some(state))
}

#[tokio::test]
async fn a_person_watches_filters_and_quits() {
    let stage = stage().await;
    // No second list comes: what changes after the first one was heard as it happened.
    let mut top = Terminal::run(&stage.broker, (24, 110), &["top", "--interval", "5m"], &[]);
    top.says("3 breakers: 0 open, 0 half-open, 3 closed").await;
    top.says("1 worker").await;
    top.says("connected").await;
    stage.fail("acme", "openai", 3).await;
    top.shows("the circuit opens", |s| is(s, "acme", "openai", "open") && s.contains("1 open")).await;
    let screen = top.screen();
    let open = row(&screen, "acme", "openai").unwrap();
    assert!(open.contains("100.0%") && open.contains("3/3") && open.contains("4m"), "{screen}");
    assert!(top.bytes().contains("\u{1b}[38;5;1"), "red, on a terminal with colours");

    top.press("/BETA\r");
    top.shows("one of three", |s| {
        row(s, "beta", "local_llm").is_some() && row(s, "acme", "openai").is_none()
    })
    .await;
    top.says("shown: 1 with \"BETA\"").await;
    top.press("\u{1b}");
    top.shows("all again", |s| row(s, "acme", "mistral").is_some() && !s.contains("shown:")).await;
    top.press("f");
    top.shows("the open one", |s| row(s, "acme", "openai").is_some() && row(s, "acme", "mistral").is_none())
        .await;
    top.press("f");
    top.says("no breaker passes the filter").await;
    top.press("ff");
    top.shows("all again", |s| row(s, "acme", "mistral").is_some()).await;

    // The open one stands first; by tenant it is the second.
    top.press("s");
    top.shows("by tenant", |s| s.lines().nth(3).is_some_and(|l| l.contains("mistral"))).await;
    top.press("j\r");
    top.says("half_open_in_flight").await;
    top.says(" acme/openai ").await;
    top.press("q");
    assert_eq!(top.ends().await, 0);
}

#[tokio::test]
async fn a_lost_connection_is_shown_and_comes_back() {
    let mut stage = stage().await;
    let top =
        &mut Terminal::run(&stage.broker, (12, 60), &["top", "--interval", "250ms"], &[("NO_COLOR", "1")]);
    top.says("3 closed").await;
    stage.broker.kill();
    top.says("connection lost for").await;
    top.says("trying again").await;
    assert!(row(&top.screen(), "acme", "openai").is_some(), "what was seen stays");
    stage.broker.restart().await;
    stage.worker.ready().await;
    top.shows("connected again", |s| s.contains("connected") && !s.contains("lost")).await;
    stage.fail("beta", "local_llm", 3).await;
    top.shows("live again", |s| is(s, "beta", "local_llm", "open")).await;
    // Decisions of the worker, by discovery.
    let asked = async || {
        stage.caller.decide(&request("acme", &uuid::Uuid::new_v4().to_string())).await;
        let screen = top.screen();
        let rate =
            screen.split(" decisions/s").next().and_then(|s| s.split_whitespace().last()?.parse().ok());
        screen.contains("decisions/s") && rate.is_some_and(|rate: u64| rate > 0)
    };
    eventually("decisions a second are shown", SOON, asked).await;

    // A screen that grows shows more columns.
    assert!(!top.screen().contains("POLICY"), "{}", top.screen());
    top.resize((30, 120));
    top.says("POLICY").await;
    assert!(!top.bytes().contains("\u{1b}[38;5;"), "no colour where there should be none");
    top.signal("TERM");
    assert_eq!(top.ends().await, 0);
    let mut again = Terminal::run(&stage.broker, (12, 60), &["top", "--tenant", "beta"], &[]);
    again.says("1 breaker: 1 open").await;
    again.press("\u{3}");
    assert_eq!(again.ends().await, 0, "Ctrl-C");
}

#[tokio::test]
async fn a_pipe_gets_lines_or_json() {
    let stage = stage().await;
    let mut second = Worker::start(&stage.broker, |l| l.flag("--worker-name", "w-2")).await;
    second.follows(&stage.caller).await;
    stage.fail("acme", "openai", 3).await;
    second.follows(&stage.caller).await;
    let done = cli(&stage.broker, &["top", "--once"]).await;
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let lines: Vec<_> = done.stdout.lines().collect();
    assert_eq!(lines[0], "workers: 2; breakers: 1 open, 0 half-open, 2 closed; shown: 3");
    assert!(lines[1].starts_with("TENANT") && is(lines[2], "acme", "openai", "open"), "{done:?}");
    assert!(!done.stdout.contains('\u{1b}'), "nothing but text");
    let done =
        cli(&stage.broker, &["top", "--once", "--json", "--tenant", "acme", "--sort", "provider"]).await;
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    let names: Vec<_> =
        told["workers"].as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap()).collect();
    assert!(names.len() == 2 && names.contains(&"w-1") && names.contains(&"w-2"), "{told}");
    let breakers = told["breakers"].as_array().unwrap();
    assert_eq!(breakers.len(), 2, "{told}");
    assert_eq!(
        (&breakers[0]["provider_id"], &breakers[1]["provider_id"]),
        (&json!("mistral"), &json!("openai"))
    );
    assert_eq!((&breakers[1]["state"], &breakers[1]["trips"]), (&json!("open"), &json!(1)));
    let left = breakers[1]["timeout_remaining_ms"].as_u64().unwrap();
    assert!((200_000..=300_000).contains(&left), "{told}");
    let done = cli(&stage.broker, &["top", "--once", "--json", "--state", "half_open"]).await;
    assert_eq!(serde_json::from_str::<Value>(&done.stdout).unwrap()["breakers"], json!([]));

    // Who refuses adds up over both workers, whoever answers.
    let alone = json!({"enabled": true, "failure_threshold": 1, "timeout_ms": 300_000});
    stage.caller.put_policy("solo", &policy(&["x"], alone)).await;
    second.follows(&stage.caller).await;
    stage.fail("solo", "x", 1).await;
    second.follows(&stage.caller).await;
    for n in 0..40 {
        let answer = stage.caller.decide(&request("solo", &format!("r-{n}"))).await;
        assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
    }
    let top =
        Terminal::run(&stage.broker, (20, 120), &["top", "--interval", "250ms", "--tenant", "solo"], &[]);
    top.shows("40 refusals", |s| {
        row(s, "solo", "x").is_some_and(|row| row.split_whitespace().rev().nth(1) == Some("40"))
    })
    .await;
    assert_eq!(second.stop().await, 0);
    top.says("1 worker ").await;
}

#[tokio::test]
async fn thousands_of_breakers_are_listed_and_scrolled() {
    let stage = Stage::start().await;
    let providers: Vec<_> = (0..250).map(|n| format!("provider-{n:03}")).collect();
    let providers: Vec<_> = providers.iter().map(String::as_str).collect();
    for tenant in 0..20 {
        stage
            .caller
            .put_policy(&format!("tenant-{tenant:02}"), &policy(&providers, json!({"enabled": true})))
            .await;
    }
    let done = cli(&stage.broker, &["top", "--once", "--json"]).await;
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((told["breakers"].as_array().unwrap().len(), &told["closed"]), (5_000, &json!(5_000)));
    let mut top =
        Terminal::run(&stage.broker, (40, 100), &["top", "--sort", "tenant", "--interval", "500ms"], &[]);
    top.says("5000 breakers").await;
    top.press("G");
    top.says("provider-249").await;
    top.says("tenant-19").await;
    top.press("/tenant-07 provider-123\r");
    top.says("shown: 1 with").await;
    top.press("q");
    assert_eq!(top.ends().await, 0);
}

#[tokio::test]
async fn who_cannot_be_asked_is_told_with_a_code() {
    let broker = Broker::start().await;
    let done = cli(&broker, &["top", "--once", "--timeout", "2s"]).await;
    assert_eq!(done.code, 3, "no router: {done:?}");
    assert!(done.stderr.contains("no responders"), "{done:?}");
    // Who may list and nothing else gets the list.
    let permissions =
        "permissions: {publish: \"beamline.router.control.v1.breaker.list\", subscribe: \"_INBOX.>\"}";
    let users = format!(
        "authorization {{ users: [{{user: all, password: p}}, {{user: few, password: p, {permissions}}}] }}"
    );
    let strict = Broker::with_config(&users).await;
    let _worker = Worker::start(&strict, |l| l.env("NATS_USER", "all").env("NATS_PASSWORD", "p")).await;
    let done = cli(&strict, &["top", "--once", "--nats-user", "few", "--nats-password", "p"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.stdout.starts_with("workers: 0; breakers: 0 open") && done.stderr.contains("Violation"),
        "{done:?}"
    );

    let url = format!("nats://127.0.0.1:{}", crate::support::free_port());
    let done = cli(&broker, &["top", "--once", "--timeout", "2s", "--nats-url", &url]).await;
    assert_eq!(done.code, 3, "no broker: {done:?}");
    for wrong in [
        &["top", "--interval", "10m"][..],
        &["top", "--sort", "beauty"],
        &["top", "--state", "ajar"],
        &["top", "--once", "--tenant", "<b>"],
    ] {
        assert_eq!(cli(&broker, wrong).await.code, 2, "{wrong:?}");
    }
}
