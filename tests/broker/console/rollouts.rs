use std::time::Duration;

use serde_json::{Value, json};

use super::api::{faults, post, schema_of};
use super::views::readable;
use super::{Front, api};
use crate::rollouts::{plan, with_users};
use crate::support::{Browser, SOON, Stage, eventually};
use crate::traffic::policy;

const MARKUP: &str = "<img src=x onerror='globalThis.pwned=1'>";
/// A phase of a plan in seconds takes so long at most, on a machine that does other things too.
const PHASE: Duration = Duration::from_secs(120);

/// Tenants whose documents say nothing of breakers, and a rollout that waits for approval after each phase.
pub(super) async fn start(stage: &Stage, reason: &str) {
    for tenant in ["t1", "t2", "t3"] {
        let mut document = policy(&["a", "b"], json!({}));
        document.as_object_mut().unwrap().remove("circuit_breaker");
        stage.caller.put_policy(tenant, &document).await;
    }
    eventually("the log has a history", SOON, async || {
        api(&stage.worker, "overview").await["decisions"]["decided"].as_u64().unwrap() > 300
    })
    .await;
    let document = plan(&json!({"approval": "each_phase"}));
    stage.caller.command("rollout.put", &json!({"plan": document, "actor": "dana", "reason": reason})).await;
    let start = json!({"rollout": "cb", "actor": "dana", "reason": reason});
    stage.caller.command("rollout.start", &start).await;
}

async fn shows(browser: &Browser, state: &str) {
    let shown = format!("return document.querySelector('.big')?.textContent === '{state}'");
    eventually(state, PHASE, async || browser.run(&shown).await == true).await;
}

/// What stands in a part of the page, element by element.
async fn texts(browser: &Browser, part: &str) -> Vec<String> {
    let script = format!("return [...document.querySelectorAll('{part}')].map((e) => e.textContent)");
    serde_json::from_value(browser.run(&script).await).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_is_followed_and_acted_on_from_its_page() {
    let Some(browser) = Browser::start().await else { return };
    let stage = Stage::with(|l| l.switch("--console-actions")).await;
    let front = Front::before(&stage.worker).await;
    with_users(&stage.caller, async {
        start(&stage, MARKUP).await;
        follows(&browser, &front).await;
        approves(&browser, &stage).await;
        answers_are_documented(&stage).await;
        holds_and_rolls_back(&browser, &stage).await;
    })
    .await;
    assert_eq!(browser.complaints().await, [""; 0]);
}

/// From the list to the page, which follows the rollout until the canary has passed.
async fn follows(browser: &Browser, front: &Front) {
    browser.open(&front.url("rollouts")).await;
    browser.sees("the list", "return document.querySelector('#panel-rollouts td .name')").await;
    browser.run("document.querySelector('#panel-rollouts td .name').click()").await;
    browser.sees("the ladder", "return document.querySelector('.rung[aria-current=step]')").await;
    assert_eq!(browser.run("return document.querySelector('h1').textContent").await, "cb");
    assert_eq!(
        browser.run("return document.querySelector('nav [aria-current]').textContent").await,
        "Rollouts"
    );
    assert_eq!(texts(browser, ".ladder > li strong").await, ["canary", "all", "Final bake", "Completed"]);
    browser
        .sees("criteria", "return document.querySelectorAll('#panel-criteria tbody tr').length === 11")
        .await;
    let whose = "return [...document.querySelectorAll('#panel-tenants details')].map((d) => [d.querySelector('strong').textContent, d.querySelectorAll('tbody tr').length])";
    assert_eq!(browser.run(whose).await, json!([["canary", 1], ["all", 2]]));
    // Who started it and why, as text.
    browser.sees("the start", "return [...document.querySelectorAll('#panel-journal .command')].some((e) => e.textContent.includes('Start') && e.textContent.includes('by dana'))").await;
    let started = texts(browser, "#panel-journal .command .why").await;
    assert!(started[0].contains(MARKUP), "{started:?}");
    assert_eq!(browser.run("return document.querySelectorAll('main img').length").await, 0);
    assert!(browser.run("return globalThis.pwned").await.is_null());
    shows(browser, "Awaits approval").await;
    let evidence = "return document.querySelector('.evidence').getAttribute('aria-label')";
    let told = browser.run(evidence).await;
    assert!(told.as_str().unwrap().starts_with("Evidence of harm is at"), "{told}");
    browser.sees("a line", "return document.querySelectorAll('.evidence polyline').length >= 2").await;
    assert_eq!(texts(browser, "#panel-next .needs li").await, ["it is not approved"]);
    for verdict in texts(browser, "#panel-criteria .badge").await {
        assert_eq!(verdict, "Pass");
    }
    readable(browser, "rollout").await;
    browser.size(360, 740).await;
    let wide = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
    assert!(wide.as_i64().unwrap() <= 0, "it is {wide} too wide");
    browser.size(1440, 900).await;
}

/// The approval asks for the rollout's name and a reason, and only then is it given.
async fn approves(browser: &Browser, stage: &Stage) {
    let enabled =
        "return [...document.querySelectorAll('.actions button:not(:disabled)')].map((b) => b.textContent)";
    assert_eq!(browser.run(enabled).await, json!(["Approve…", "Pause…", "Roll back…"]));
    browser.run("document.querySelector('[data-action=approve]').click()").await;
    browser.sees("the question", "return document.querySelector('#act').open").await;
    let locked = "return document.querySelector('#act .danger').disabled";
    browser.keys("cb").await;
    assert_eq!(browser.run(locked).await, true, "without a reason");
    browser.keys("x\u{e004}<b>good</b>").await;
    assert_eq!(browser.run(locked).await, true, "another's name");
    browser.keys("\u{e007}").await;
    let status = api(&stage.worker, "rollouts/cb/status").await;
    assert_eq!((&status["state"], &status["phase"]), (&json!("awaiting_approval"), &json!("canary")));
    browser.run("document.querySelector('#act input').select()").await;
    browser.keys("cb").await;
    assert_eq!(browser.run(locked).await, false);
    browser.keys("\u{e007}").await;
    browser.sees("the dialog is gone", "return !document.querySelector('#act').open").await;
    browser.sees("it is in the journal", "return [...document.querySelectorAll('#panel-journal .command')].some((e) => e.textContent.includes('Approve') && e.textContent.includes('by console · <b>good</b>'))").await;
    browser
        .sees("the next phase", "return document.querySelectorAll('.phase')[1]?.matches('.here') && document.querySelector('.phase').matches('.passed')")
        .await;
    let logged = stage.worker.events("console_action");
    assert_eq!(logged.len(), 1, "{logged:?}");
    let told = |field: &str| logged[0][field].clone();
    assert_eq!(
        [told("verb"), told("rollout"), told("reason"), told("actor")],
        [json!("rollout.approve"), json!("cb"), json!("<b>good</b>"), json!("console")]
    );
}

/// With tenants, criteria and decisions the answers are as the document says.
async fn answers_are_documented(stage: &Stage) {
    let document = api(&stage.worker, "openapi.json").await;
    let mut pairs = Vec::new();
    for (template, path) in [
        ("rollouts", "rollouts"),
        ("rollouts/{rollout}", "rollouts/cb"),
        ("rollouts/{rollout}/status", "rollouts/cb/status"),
        ("rollouts/{rollout}/history", "rollouts/cb/history?limit=1000"),
    ] {
        let schema = schema_of(&format!("/api/v1/{template}"), "get", "200");
        pairs.push((schema, api(&stage.worker, path).await, path.to_owned()));
    }
    let stale = post(&stage.worker, "/api/v1/rollouts/cb/pause", &json!({"expected_seq": 1})).await;
    assert_eq!((stale.status, &stale.json()["error"]["code"]), (409, &json!("conflict")));
    let paused = post(&stage.worker, "/api/v1/rollouts/cb/pause", &json!({"reason": "holidays"})).await;
    assert_eq!((paused.status, &paused.json()["state"]), (200, &json!("paused")), "{}", paused.body);
    pairs.push((
        schema_of("/api/v1/rollouts/{rollout}/pause", "post", "200"),
        paused.json(),
        "pause".to_owned(),
    ));
    assert_eq!(faults(&document, &pairs).await, "");
}

/// What another paused is resumed here; then all goes back.
async fn holds_and_rolls_back(browser: &Browser, stage: &Stage) {
    shows(browser, "Paused").await;
    for (action, state) in [("resume", None), ("rollback", Some("Rolled back"))] {
        let able = format!("return !document.querySelector('[data-action={action}]').disabled");
        browser.sees(action, &able).await;
        // What is seen may be older than a decision that has just come: then it is asked for again.
        browser.run(&format!("document.querySelector('[data-action={action}]').click()")).await;
        browser.sees("the question", "return document.querySelector('#act').open").await;
        browser.keys("cb\u{e004}by the test\u{e007}").await;
        browser.sees("the dialog is gone", "return !document.querySelector('#act').open").await;
        if let Some(state) = state {
            shows(browser, state).await;
        }
    }
    let status = api(&stage.worker, "rollouts/cb/status").await;
    let shares = status["tenants"].as_array().unwrap().iter().map(|t| t["percent"].clone());
    assert_eq!(shares.collect::<Vec<Value>>(), [json!(0), json!(0), json!(0)], "{status}");
    browser
        .sees(
            "it stopped there",
            "return document.querySelector('.phase.stopped strong')?.textContent === 'all'",
        )
        .await;
    let verbs: Vec<Value> = stage.worker.events("console_action").iter().map(|e| e["verb"].clone()).collect();
    assert_eq!(verbs, ["rollout.approve", "rollout.pause", "rollout.resume", "rollout.rollback"]);
}

#[tokio::test]
async fn without_the_setting_a_rollout_is_only_shown() {
    let Some(browser) = Browser::start().await else { return };
    let stage = Stage::start().await;
    stage.caller.command("rollout.put", &json!({"plan": plan(&json!({}))})).await;
    let front = Front::before(&stage.worker).await;
    browser.open(&front.url("rollout/cb")).await;
    shows(&browser, "Draft").await;
    assert_eq!(browser.run("return document.querySelector('.actions').checkVisibility()").await, false);
    let refused = browser
        .run_async(
            "return (await fetch('/api/v1/rollouts/cb/rollback', {method: 'POST', body: '{}', \
             headers: {'content-type': 'application/json', 'x-beamline-console': '1'}})).status",
        )
        .await;
    assert_eq!(refused, 403);
    // An id that is none says so.
    browser.run("location.hash = '#/rollout/none'").await;
    browser
        .sees(
            "it is not there",
            "return document.querySelector('.problem')?.textContent.includes('there is no rollout none')",
        )
        .await;
}
