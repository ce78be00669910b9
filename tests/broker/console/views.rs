use serde_json::{Value, json};

use super::{Front, api, breakers, policy};
use crate::support::{Browser, SOON, Stage, Worker, eventually, request};

/// What each row of the list of breakers says, by the page.
const ROWS: &str = r#"
    return [...document.querySelectorAll(".rows .row")].map((row) => {
        const text = (part) => row.querySelector(part).textContent;
        return [text(".name"), text(".badge"), text(".c-window"), text(".c-refused"), text(".c-trips"), text(".c-rate")];
    }).sort();
"#;

/// The same, by the API.
fn rows(breakers: &[Value]) -> Value {
    let words = |b: &Value| match b["state"].as_str().unwrap() {
        "half_open" => "Half-open",
        "open" if b["forced"].is_object() => "Open, forced",
        "open" => "Open",
        _ => "Closed",
    };
    let rate =
        |b: &Value| match (b["window_requests"].as_u64().unwrap(), b["error_rate"].as_f64().unwrap() * 100.0)
        {
            (0, _) => "–".to_owned(),
            (_, whole) if whole == 0.0 || whole == 100.0 => format!("{whole}%"),
            (_, small) if small < 10.0 => format!("{small:.1}%"),
            (_, share) => format!("{share:.0}%"),
        };
    let mut rows: Vec<_> = breakers
        .iter()
        .map(|b| {
            let name =
                format!("{} / {}", b["tenant_id"].as_str().unwrap(), b["provider_id"].as_str().unwrap());
            let window = format!("{} / {}", b["window_failures"], b["window_requests"]);
            json!([name, words(b), window, b["fail_fast"].to_string(), b["trips"].to_string(), rate(b)])
        })
        .collect();
    rows.sort_by_key(Value::to_string);
    json!(rows)
}

/// Of each text that tells something: the least ratio between it and what it stands on, times ten.
const CONTRAST: &str = r#"
    const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const parse = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ground = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const color = parse(getComputedStyle(e).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    let least = [99, ""];
    for (const e of document.querySelectorAll(".badge, .state, .muted, .count, .why, time, dt, dd, .figure, .pill, .name span, nav a, button:not(:disabled), label, .level, .n, .cell, code, del, ins, th, td, .rung, .what, summary, .lead")) {
        if (!e.checkVisibility()) continue;
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < least[0]) least = [ratio, `${e.tagName}.${e.className} ${e.textContent}`];
    }
    return least;
"#;

pub(super) async fn readable(browser: &Browser, view: &str) {
    for scheme in ["light", "dark"] {
        browser.prefers(scheme).await;
        let least = browser.run(CONTRAST).await;
        assert!(least[0].as_f64().unwrap() >= 4.5, "{view}, {scheme}: {least}");
    }
    browser.prefers("light").await;
}

#[tokio::test]
async fn the_page_shows_what_the_api_says_and_follows_it() {
    let Some(browser) = Browser::start().await else { return };
    let stage = Stage::start().await;
    for tenant in ["acme", "globex"] {
        stage.caller.put_policy(tenant, &policy(&["anthropic", "mistral", "openai"])).await;
    }
    stage.fail("acme", "openai", 5).await;
    stage.results("globex", "mistral", "success", 4).await;
    stage.fail("globex", "mistral", 1).await;
    for n in 0..12 {
        stage.caller.decide(&request("acme", &format!("r-{n}"))).await;
    }
    let front = Front::before(&stage.worker).await;
    let origin = format!("http://127.0.0.1:{}/", front.port);

    // The list equals the API, and goes on doing so without being loaded anew.
    browser.size(1440, 900).await;
    browser.open(&front.url("breakers")).await;
    browser.sees("the list", "return document.querySelectorAll('.rows .row').length === 6").await;
    browser.run("globalThis.stays = true").await;
    let told = rows(&breakers(&stage).await);
    eventually("the list equals the API", SOON, async || browser.run(ROWS).await == told).await;
    assert!(told.to_string().contains("\"Open\"") && told.to_string().contains("20%"), "{told}");
    stage.fail("acme", "mistral", 5).await;
    browser.sees("the row turns open", r#"
        const row = [...document.querySelectorAll(".rows .row")].find((r) => r.textContent.includes("acme / mistral"));
        return row.querySelector(".badge").textContent === "Open" && row.querySelector(".badge svg") !== null;
    "#).await;
    let told = rows(&breakers(&stage).await);
    eventually("the list equals the API", SOON, async || browser.run(ROWS).await == told).await;
    stage.caller.put_policy("umbrella", &policy(&["openai"])).await;
    browser.sees("a new one comes", "return document.querySelectorAll('.rows .row').length === 7").await;
    stage.caller.command("policy.delete", &json!({"tenant_id": "umbrella", "policy_id": "default"})).await;
    browser.sees("and goes", "return document.querySelectorAll('.rows .row').length === 6").await;
    assert_eq!(browser.run("return globalThis.stays").await, true, "it was loaded anew");
    readable(&browser, "breakers").await;

    nine_views(&browser, &stage).await;
    filters(&browser, &front).await;
    keyboard(&browser, &front).await;
    themes(&browser, &front).await;
    phone(&browser, &front).await;

    assert_eq!(browser.complaints().await, [""; 0]);
    let strange: Vec<_> =
        browser.requests().await.into_iter().filter(|url| !url.starts_with(&origin)).collect();
    assert_eq!(strange, [""; 0], "another host was asked");
}

/// Each of the nine views against the API.
async fn nine_views(browser: &Browser, stage: &Stage) {
    browser.run("location.hash = '#/overview'").await;
    browser.sees("nine views", "return document.querySelectorAll('main .panel').length === 9").await;
    browser.sees("states", "return document.querySelector('#panel-states li') !== null").await;
    let all = breakers(stage).await;
    let count = |state: &str| all.iter().filter(|b| b["state"] == state).count();
    let sum = |field: &str| all.iter().map(|b| b[field].as_u64().unwrap()).sum::<u64>();
    let tiles = browser
        .run("return [...document.querySelectorAll('.tile dd')].slice(0, 4).map((d) => d.textContent)")
        .await;
    assert_eq!(tiles, json!([all.len().to_string(), count("open").to_string(), "0", "2"]));
    let panel = async |id: &str, part: &str| {
        let script =
            format!("return [...document.querySelectorAll('#panel-{id} {part}')].map((e) => e.textContent)");
        browser.run(&script).await
    };
    // By provider: open, half-open, closed.
    assert_eq!(panel("states", "li .name").await, json!(["mistral", "openai", "anthropic"]));
    assert_eq!(panel("states", "li .n").await, json!(["1", "0", "1", "1", "0", "1", "0", "0", "2"]));
    // Nearest to the threshold first, with the mark at it.
    assert_eq!(panel("rates", "li .figure").await, json!(["100%", "100%", "20%"]));
    let mark = "return document.querySelector('#panel-rates .mark').style.left";
    assert_eq!(browser.run(mark).await, "50%");
    assert_eq!(panel("opens", "li").await, json!(["mistral1", "openai1"]));
    assert_eq!(panel("failfast", ".count").await, json!([format!("{} in all", sum("fail_fast"))]));
    assert!(sum("fail_fast") > 0, "nothing was refused");
    let moves = api(&stage.worker, "transitions").await["transitions"].as_array().unwrap().clone();
    assert_eq!(panel("transitions", "li .name").await, json!(["acme / mistral", "acme / openai"]));
    assert_eq!(moves.len(), 2);
    let stats = panel("windows", "tbody td").await;
    assert_eq!(stats.as_array().unwrap().iter().step_by(4).collect::<Vec<_>>(), ["5", "5", "5"]);
    // Counts down.
    let left = "return document.querySelector('#panel-due .figure').textContent";
    let first = browser.run(left).await;
    eventually("the time runs", SOON, async || browser.run(left).await != first).await;
    let cells = browser.run("return [...document.querySelectorAll('#panel-matrix a.cell')].map((c) => c.getAttribute('aria-label'))").await;
    assert_eq!(cells.as_array().unwrap().len(), all.len());
    assert_eq!(cells[1], "acme / mistral: open, 100% of 5 failed");
    let alerts = api(&stage.worker, "alerts").await["alerts"].as_array().unwrap().clone();
    let summaries: Vec<_> = alerts.iter().map(|a| a["summary"].clone()).collect();
    assert_eq!(panel("alerts", "strong").await, json!(summaries));
    assert_eq!(summaries.len(), 3, "two circuits, and that they are two");
    readable(browser, "overview").await;
}

async fn filters(browser: &Browser, front: &Front) {
    let shown = "return [...document.querySelectorAll('.rows .row .name')].map((n) => n.textContent)";
    browser.open(&front.url("breakers")).await;
    browser.sees("the list", "return document.querySelectorAll('.rows .row').length === 6").await;
    browser.run("document.querySelector('input[name=tenant]').focus()").await;
    browser.keys("glob").await;
    browser.sees("the filter holds", "return document.querySelectorAll('.rows .row').length === 3").await;
    browser.run("document.querySelector('input[value=open]').click()").await;
    browser.sees("nothing is open there", "return document.querySelector('.empty').checkVisibility()").await;
    assert_eq!(browser.run("return location.hash").await, "#/breakers?tenant=glob&state=open");
    browser.run("document.querySelector('#clear').click()").await;
    browser.sees("all are there again", "return document.querySelectorAll('.rows .row').length === 6").await;
    // The address alone brings a filter back.
    browser.open("about:blank").await;
    browser.open(&front.url("breakers?provider=mistral&state=open")).await;
    browser
        .sees("the filter of the address", "return document.querySelectorAll('.rows .row').length === 1")
        .await;
    assert_eq!(browser.run(shown).await, json!(["acme / mistral"]));
    assert_eq!(browser.run("return document.querySelector('input[name=provider]').value").await, "mistral");
    browser.run("document.querySelector('nav a').click()").await;
    browser
        .sees("it goes along", "return document.querySelectorAll('#panel-matrix a.cell').length === 1")
        .await;
}

async fn keyboard(browser: &Browser, front: &Front) {
    let view = "return location.hash";
    browser.open("about:blank").await;
    browser.open(&front.url("overview")).await;
    browser.sees("it lives", "return document.querySelector('#link').textContent === 'Live'").await;
    browser.keys("\u{e004}").await;
    assert_eq!(browser.run("return document.activeElement.id").await, "skip");
    let ring = "return getComputedStyle(document.activeElement).outlineStyle";
    for _ in 0..4 {
        browser.keys("\u{e004}").await;
        assert_eq!(browser.run(ring).await, "solid", "focus is seen");
    }
    browser.keys("2").await;
    browser.sees("the list", "return document.querySelectorAll('.rows .row').length === 6").await;
    assert_eq!(browser.run(view).await, "#/breakers");
    browser.keys("/x").await;
    browser.sees("the filter is typed into", "return document.activeElement.value === 'x'").await;
    browser.run("document.querySelector('#clear').click()").await;
    browser.keys("\u{e00c}").await;
    browser.sees("the list", "return document.querySelectorAll('.rows .row').length === 6").await;
    browser.keys("jjk\u{e015}").await;
    browser
        .sees(
            "the second row is marked",
            "return document.querySelector('.row.here')?.getAttribute('aria-rowindex') === '3'",
        )
        .await;
    browser.keys("\u{e007}").await;
    browser
        .sees("the breaker's page", "return document.querySelector('h1')?.textContent === 'acme / mistral'")
        .await;
    browser.keys("?").await;
    browser.sees("the keys", "return document.querySelector('#keys').open").await;
    browser.keys("\u{e00c}").await;
    browser.sees("closed", "return !document.querySelector('#keys').open").await;
    browser.keys("\u{e00c}").await;
    browser.sees("back in the list", "return location.hash === '#/breakers'").await;
}

async fn themes(browser: &Browser, front: &Front) {
    let ground = "return getComputedStyle(document.body).backgroundColor";
    browser.prefers("light").await;
    let light = browser.run(ground).await;
    browser.prefers("dark").await;
    let dark = browser.run(ground).await;
    assert_ne!(light, dark, "the system's theme is followed");
    browser.keys("t").await;
    assert_eq!(browser.run(ground).await, light);
    browser.open("about:blank").await;
    browser.open(&front.url("overview")).await;
    assert_eq!(browser.run(ground).await, light, "the choice is remembered");
    browser.run("localStorage.clear()").await;
    browser.prefers("light").await;
}

async fn phone(browser: &Browser, front: &Front) {
    browser.size(360, 740).await;
    for (view, there) in [
        ("overview", "#panel-states li"),
        ("breakers", ".rows .row"),
        ("breaker/acme/openai", "#panel-history li"),
        ("policies", "#panel-policies td"),
        ("policy/acme/default", "#panel-revisions li"),
    ] {
        browser.open("about:blank").await;
        browser.open(&front.url(view)).await;
        browser.sees(view, &format!("return document.querySelector('{there}') !== null")).await;
        let wide = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wide.as_i64().unwrap() <= 0, "{view} is {wide} too wide");
    }
    browser.size(1440, 900).await;
}

#[tokio::test]
async fn a_lost_worker_is_told_and_its_successor_shows_the_same_history() {
    let Some(browser) = Browser::start().await else { return };
    let mut stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["openai"])).await;
    stage.fail("acme", "openai", 5).await;
    let reset =
        json!({"tenant_id": "acme", "provider_id": "openai", "actor": "dana", "reason": "it is back"});
    stage.caller.command("breaker.reset", &reset).await;
    let front = Front::before(&stage.worker).await;
    browser.open(&front.url("breaker/acme/openai")).await;
    let history = "return [...document.querySelectorAll('#panel-history .move')].map((m) => m.textContent)";
    browser.sees("the history", "return document.querySelectorAll('#panel-history li').length === 2").await;
    browser.run("globalThis.stays = true").await;
    stage.worker.kill();
    browser.sees("the loss is told", "return document.querySelector('#link').textContent === 'Reconnecting' && document.querySelector('#notice').checkVisibility()").await;
    let successor = Worker::start(&stage.broker, |l| l).await;
    front.lead_to(&successor);
    browser.sees("it is back", "return document.querySelector('#link').textContent === 'Live' && !document.querySelector('#notice').checkVisibility()").await;
    assert_eq!(browser.run(history).await, json!(["Open→Closed", "Closed→Open"]));
    let why = browser.run("return document.querySelector('#panel-history .why').textContent").await;
    assert!(why.as_str().unwrap().contains("by dana: it is back"), "{why}");
    let why = browser.run("return document.querySelectorAll('#panel-history .why')[1].textContent").await;
    assert_eq!(why, "too many failures in a row · 5 of 5 failed (100%)");
    assert_eq!(browser.run("return globalThis.stays").await, true, "it was loaded anew");
    // The recent transitions of the overview are the stream's too.
    browser.run("location.hash = '#/overview'").await;
    browser.sees("the hour", "return document.querySelectorAll('#panel-transitions li').length === 2").await;
}

#[tokio::test]
async fn names_that_browsers_resolve_away_and_texts_that_turn_round_are_shown_in_their_place() {
    const BAD: &str = "a\u{202e}b\u{9b}";
    let Some(browser) = Browser::start().await else { return };
    let stage = Stage::with(|l| l.switch("--console-actions")).await;
    let mut document = policy(&["."]);
    document["policy_id"] = json!("..");
    document["version"] = json!(BAD);
    let put = json!({"tenant_id": "..", "policy": document, "actor": BAD, "reason": BAD});
    stage.caller.command("policy.put", &put).await;
    stage.fail("..", ".", 5).await;
    let front = Front::before(&stage.worker).await;

    // From the list to the breaker's page, an action, its history, and the policy's page.
    browser.open(&front.url("breakers")).await;
    browser.sees("the list", "return document.querySelectorAll('.rows .row').length === 1").await;
    browser.run("document.querySelector('.rows .row .name').click()").await;
    browser.sees("settings", "return document.querySelector('#panel-settings dd') !== null").await;
    assert_eq!(browser.run("return document.querySelector('h1').textContent").await, ".. / .");
    browser.keys("r").await;
    browser.sees("the dialog", "return document.querySelector('#act').open").await;
    browser.keys("../.").await;
    let reason = format!("document.querySelector('#act [name=reason]').value = {}", json!(BAD));
    browser.run(&reason).await;
    browser.run("document.querySelector('#act [type=submit]').click()").await;
    let history = "return document.querySelector('#panel-history .why')?.textContent ?? ''";
    let told = format!("an operator reset it · 5 of 5 failed (100%) · by console: {BAD}");
    eventually("its history", SOON, async || browser.run(history).await == told).await;
    let isolated = "return [...document.querySelectorAll('#panel-history bdi')].map((b) => [b.textContent, getComputedStyle(b).unicodeBidi])";
    assert_eq!(browser.run(isolated).await, json!([["console", "isolate"], [BAD, "isolate"]]));
    browser.run("document.querySelector('a.button').click()").await;
    browser.sees("revisions", "return document.querySelector('#panel-revisions li') !== null").await;
    let by = "return document.querySelector('#panel-revisions .by').textContent";
    assert_eq!(browser.run(by).await, format!("by {BAD}: {BAD}"));
    let shown = browser.run("return document.querySelector('#panel-document pre').textContent").await;
    let shown = shown.as_str().unwrap();
    assert!(shown.contains(r"a\u202eb\u009b"), "{shown}");
    assert_eq!(serde_json::from_str::<Value>(shown).unwrap(), document);

    // The digest as the metric has it.
    let metrics = stage.worker.metrics().await;
    let digest = metrics.value("router_log_state_digest", &[]).unwrap();
    let foot = "return document.querySelector('#foot').textContent";
    eventually("the metric's digest", SOON, async || {
        browser.run(foot).await.as_str().unwrap().contains(&format!("digest {digest:.0} at"))
    })
    .await;

    // Addresses that lead nowhere say so.
    for nowhere in ["nothing", "breaker/acme", "breaker/acme/openai/more", "overview/x", "policy//default"] {
        browser.run(&format!("location.hash = '#/{nowhere}'")).await;
        browser
            .sees(nowhere, "return document.querySelector('h1')?.textContent === 'There is no such page'")
            .await;
        let address = browser.run("return document.querySelector('main code').textContent").await;
        assert_eq!(address, format!("#/{nowhere}"));
    }
    for (view, there) in
        [("", "#panel-states"), ("breakers/", ".rows"), ("overview?tenant=x", "#panel-states")]
    {
        browser.run(&format!("location.hash = '#/{view}'")).await;
        browser.sees(view, &format!("return document.querySelector('{there}') !== null")).await;
    }
    assert_eq!(browser.complaints().await, [""; 0]);
}
