use serde_json::json;

use super::{Front, policy};
use crate::support::{Browser, SOON, Stage, eventually};

const MARKUP: &str = "<img src=x onerror='globalThis.pwned=1'><script>globalThis.pwned=1</script>";

#[tokio::test]
async fn markup_in_free_text_is_text() {
    let Some(browser) = Browser::start().await else { return };
    let stage = Stage::start().await;
    let mut document = policy(&["open:ai.v1_x", "b"]);
    document["version"] = json!("<img src=x onerror=globalThis.pwned=1>");
    document["circuit_breaker"]["ignored_error_codes"] = json!([MARKUP]);
    let put = json!({"tenant_id": "a.c:m_e-1", "policy": document, "actor": MARKUP, "reason": MARKUP});
    stage.caller.command("policy.put", &put).await;
    document["circuit_breaker"]["ignored_error_codes"] = json!([format!("{MARKUP}x")]);
    let put = json!({"tenant_id": "a.c:m_e-1", "policy": document, "actor": MARKUP});
    stage.caller.command("policy.put", &put).await;
    let force = json!({"tenant_id": "a.c:m_e-1", "provider_id": "open:ai.v1_x", "state": "open",
                       "actor": MARKUP, "reason": MARKUP});
    stage.caller.command("breaker.force", &force).await;
    let front = Front::before(&stage.worker).await;
    for (view, text) in [
        ("overview", "#panel-transitions .why"),
        ("breaker/a.c%3Am_e-1/open%3Aai.v1_x", "#panel-history .why"),
        ("breaker/a.c:m_e-1/open:ai.v1_x", "#panel-settings div:last-child dd"),
        ("policy/a.c:m_e-1/default", ".revisions .by"),
        ("policy/a.c:m_e-1/default", "#panel-diff .values"),
        ("policy/a.c:m_e-1/default", "#panel-document pre"),
    ] {
        browser.open("about:blank").await;
        browser.open(&front.url(view)).await;
        let shown = format!("return document.querySelector('{text}')?.textContent.includes('<script>')");
        browser.sees(&format!("{view} {text}"), &shown).await;
        let made =
            "return document.querySelectorAll('main img, main script, dialog img, dialog script').length";
        assert_eq!(browser.run(made).await, 0, "{view}");
        assert!(browser.run("return globalThis.pwned").await.is_null(), "{view}");
    }
    // Nor is an address taken for markup, or for a breaker.
    for (view, words) in [
        ("breaker/%3Cimg%20src=x%3E/<b>x<%2Fb>?tenant=<b>", "No policy"),
        ("breaker/%3Cimg%20src=x%3E/<b>x</b>", "Nothing is at #/breaker/"),
    ] {
        browser.open("about:blank").await;
        browser.open(&front.url(view)).await;
        let told = format!("return document.querySelector('.lead')?.textContent.startsWith('{words}')");
        browser.sees(view, &told).await;
        assert_eq!(browser.run("return document.querySelectorAll('main img, main b').length").await, 0);
    }
    assert_eq!(browser.complaints().await, [""; 0]);
    // Were it tried, the browser would not have it.
    let tried = browser
        .run("try { document.body.innerHTML = '<b>x</b>'; return 'done' } catch (e) { return e.name }")
        .await;
    assert_eq!(tried, "TypeError");
}

#[tokio::test]
async fn an_action_needs_the_setting_the_name_and_our_own_page() {
    let Some(browser) = Browser::start().await else { return };
    let stage = Stage::with(|l| l.switch("--console-actions")).await;
    stage.caller.put_policy("acme", &policy(&["openai", "mistral"])).await;
    let front = Front::before(&stage.worker).await;
    let key = async |text: &str| browser.keys(text).await;
    browser.open(&front.url("breaker/acme/openai")).await;
    browser.sees("the actions", "return document.querySelector('.actions').checkVisibility()").await;
    key("f").await;
    browser.sees("the question", "return document.querySelector('#act').open").await;
    let locked = "return document.querySelector('#act .danger').disabled";
    assert_eq!(browser.run(locked).await, true);
    key("acme/mistral").await;
    assert_eq!(browser.run(locked).await, true, "another's name");
    key("\u{e007}").await;
    browser.run("document.querySelector('#act input').select()").await;
    key("acme/openai").await;
    assert_eq!(browser.run(locked).await, false);
    stage.state_is("acme", "openai", "closed").await;
    key("\u{e004}maintenance <b>now</b>").await;
    key("\u{e007}").await;
    eventually("it is forced", SOON, async || {
        stage.caller.breaker("acme", "openai").await["state"] == "open"
    })
    .await;
    browser.sees("the dialog is gone", "return !document.querySelector('#act').open").await;
    browser
        .sees("the page says so", "return document.querySelector('.big').textContent === 'Open, forced'")
        .await;
    browser.sees("so does the history", "return document.querySelector('#panel-history .why')?.textContent.includes('by console: maintenance <b>now</b>')").await;
    let logged = stage.worker.events("console_action");
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!((&logged[0]["verb"], &logged[0]["actor"]), (&json!("breaker.force"), &json!("console")));

    // The force ends by another action, and a reset is one too.
    browser.run("document.querySelector('#unforce').click()").await;
    key("acme/openai\u{e007}").await;
    browser
        .sees("no longer forced", "return document.querySelector('.big').textContent === 'Half-open'")
        .await;
    key("r").await;
    key("acme/openai\u{e007}").await;
    browser.sees("reset", "return document.querySelector('.big').textContent === 'Closed'").await;

    // A page of somebody else reaches the port, and changes nothing.
    let other = Front::before(&stage.worker).await;
    browser.open(&format!("http://127.0.0.1:{}/healthz", other.port)).await;
    for more in [
        "mode: 'no-cors', headers: {'content-type': 'text/plain'}",
        "mode: 'no-cors'",
        "headers: {'content-type': 'application/json', 'x-beamline-console': '1'}",
    ] {
        let told = browser
            .run_async(&format!(
                "const answer = await fetch('http://127.0.0.1:{}/api/v1/breakers/acme/openai/force', \
                 {{method: 'POST', body: '{{\"state\":\"open\"}}', {more}}}); return answer.type + answer.status;",
                front.port
            ))
            .await;
        let told = told.as_str().unwrap();
        assert!(told == "opaque0" || told.contains("Failed to fetch"), "{told}");
    }
    stage.state_is("acme", "openai", "closed").await;
    assert_eq!(stage.worker.events("console_action").len(), 3);
    let refused = browser
        .run_async(&format!(
            "return (await (await fetch('http://127.0.0.1:{}/api/v1/overview')).text())",
            front.port
        ))
        .await;
    assert!(refused.as_str().unwrap().contains("Failed to fetch"), "it reads nothing: {refused}");
}

#[tokio::test]
async fn without_the_setting_the_console_only_shows() {
    let Some(browser) = Browser::start().await else { return };
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["openai"])).await;
    let front = Front::before(&stage.worker).await;
    browser.open(&front.url("breaker/acme/openai")).await;
    browser.sees("the page", "return document.querySelector('.big').textContent === 'Closed'").await;
    assert_eq!(browser.run("return document.querySelector('.actions').checkVisibility()").await, false);
    browser.keys("fr").await;
    assert_eq!(browser.run("return document.querySelector('#act').open").await, false);
    let told = browser
        .run_async(
            "return (await fetch('/api/v1/breakers/acme/openai/reset', {method: 'POST', body: '{}', \
             headers: {'content-type': 'application/json', 'x-beamline-console': '1'}})).status",
        )
        .await;
    assert_eq!(told, 403);
}
