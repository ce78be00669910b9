//! The pictures of the docs: a worker under traffic, as a browser shows it. Made anew by
//!
//! ```text
//! cargo test --locked --test broker pictures -- --ignored
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Front, policy};
use crate::rollouts::with_users;
use crate::support::{Browser, Caller, Stage, eventually, request};

const TENANTS: [&str; 12] = [
    "acme",
    "aperture",
    "cyberdyne",
    "globex",
    "hooli",
    "initech",
    "soylent",
    "stark",
    "tyrell",
    "umbrella",
    "wayne",
    "wonka",
];
const PROVIDERS: [&str; 5] = ["anthropic", "azure-eu", "bedrock", "mistral", "openai"];

/// A phase of the plan takes so long at most.
const PHASE: Duration = Duration::from_secs(120);

/// Of a thousand calls of a tenant to a provider, those that fail.
fn failing(tenant: &str, provider: &str) -> u64 {
    match (tenant, provider) {
        ("acme", "openai") | ("globex", "openai") => 900,
        ("acme", "azure-eu") => 800,
        ("initech", "openai") | ("hooli", "mistral") | ("stark", "bedrock") => 300,
        _ => 10,
    }
}

/// One request and its result.
async fn one(caller: Caller, tenant: &'static str, n: u64) {
    let request_id = format!("{tenant}-{n}");
    let answer = caller.decide(&request(tenant, &request_id)).await;
    let Some(provider) = answer["decision"]["provider_id"].as_str() else { return };
    let dice = xxh(&format!("{request_id}{provider}"));
    let fails = dice % 1_000 < failing(tenant, provider);
    if tenant == "globex" && answer["decision"]["probe"] == true {
        // A call that hangs, so that a half-open circuit is in the pictures.
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    let latency = if fails { 60 } else { 250 + dice / 1_000 % 500 + (dice / 7_000 % 40) * 20 };
    caller
        .result(&json!({"assignment_id": request_id, "request_id": request_id, "tenant_id": tenant,
                        "provider_id": provider, "status": if fails { "error" } else { "success" },
                        "latency_ms": latency}))
        .await;
}

/// A number that a text stands for, the same in each run.
fn xxh(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        >> 8
}

#[tokio::test]
#[ignore = "makes the pictures of the docs"]
async fn pictures() {
    let Some(browser) = Browser::start().await else { return };
    let stage = Stage::with(|l| l.flag("--worker-name", "router-1")).await;
    for (n, tenant) in TENANTS.into_iter().enumerate() {
        let mut document = policy(&PROVIDERS);
        let breaker = &mut document["circuit_breaker"];
        breaker["error_rate_window_seconds"] = json!(60);
        breaker["timeout_ms"] = json!(25_000 + 3_000 * n);
        breaker["latency_threshold_ms"] = json!(1_300);
        breaker["enabled"] = json!(tenant != "tyrell");
        let put = json!({"tenant_id": tenant, "policy": document, "actor": "deploy", "reason": "roll-out"});
        stage.caller.command("policy.put", &put).await;
    }
    let patch = json!({"tenant_id": "acme", "policy_id": "default", "actor": "dana", "reason": "probe sooner",
                       "patch": {"circuit_breaker": {"timeout_ms": 15_000, "backoff_multiplier": 1.5},
                                 "sticky": {"enabled": true, "session_key": "user_id"}}});
    stage.caller.command("policy.patch", &patch).await;
    let force = json!({"tenant_id": "wayne", "provider_id": "bedrock", "state": "open", "ttl_seconds": 3_600,
                       "actor": "dana", "reason": "maintenance"});
    stage.caller.command("breaker.force", &force).await;

    let count = Arc::new(AtomicU64::new(0));
    let traffic = {
        let (caller, count) = (stage.caller.clone(), Arc::clone(&count));
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(120));
            loop {
                beat.tick().await;
                for tenant in TENANTS {
                    let n = count.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(one(caller.clone(), tenant, n));
                }
            }
        })
    };
    let front = Front::before(&stage.worker).await;
    browser.open(&front.url("overview")).await;
    let ready =
        "return document.querySelector('.alert.firing') !== null && beamline.store.failFast.length > 200
            && [...beamline.store.rows.values()].some((row) => row.state === 'half_open')";
    eventually(
        "an alert fires, the chart is filled, and a circuit is half-open",
        Duration::from_secs(240),
        async || browser.run(ready).await == true,
    )
    .await;
    for (name, view, theme, width, height, there) in [
        ("console-overview", "overview", "light", 1280, 1120, "#panel-transitions li"),
        ("console-overview-dark", "overview", "dark", 1280, 860, "#panel-transitions li"),
        ("console-breakers", "breakers?tenant=", "light", 1280, 620, ".rows .row"),
        ("console-breaker", "breaker/acme/openai", "dark", 1280, 660, "#panel-history li"),
        ("console-policy", "policy/acme/default", "light", 1280, 620, "#panel-diff li"),
        ("console-phone", "overview", "light", 390, 844, "#panel-rates li"),
    ] {
        browser.size(width, height).await;
        browser.prefers(theme).await;
        shot(&browser, name, view, there).await;
    }
    traffic.abort();
}

/// Takes the picture of a view, once something is there.
async fn shot(browser: &Browser, name: &str, view: &str, there: &str) {
    browser.run(&format!("location.hash = '#/{view}'")).await;
    browser.sees(name, &format!("return document.querySelector('{there}') !== null")).await;
    browser
        .run_async("await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
        .await;
    let shot =
        browser.cdp("Page.captureScreenshot", &json!({"format": "png", "optimizeForSpeed": false})).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/images/{name}.png"));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let picture = base64(shot["data"].as_str().unwrap());
    assert!(picture.len() < 200_000, "{name} has {} bytes", picture.len());
    std::fs::write(&file, picture).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "makes the pictures of the docs"]
async fn rollout_pictures() {
    let Some(browser) = Browser::start().await else { return };
    let stage = Stage::with(|l| l.flag("--worker-name", "router-1").switch("--console-actions")).await;
    let front = Front::before(&stage.worker).await;
    with_users(&stage.caller, async {
        super::rollouts::start(&stage, "roll-out").await;
        // The page gathers evidence while it is open.
        browser.open(&front.url("rollout/cb")).await;
        stage
            .caller
            .rollout_becomes("the canary has passed", PHASE, |s| s["state"] == "awaiting_approval")
            .await;
        let approve = json!({"rollout": "cb", "actor": "dana", "reason": "no complaints"});
        stage.caller.command("rollout.approve", &approve).await;
        let judged = |s: &Value| s["phase"] == "all" && s["percent"] == 50;
        stage.caller.rollout_becomes("all tenants are judged", PHASE, judged).await;
        let gathered = "return [...document.querySelectorAll('.evidence polyline.safe:not(.past)')].at(-1)?.points.length >= 4";
        browser.sees("evidence of the step", gathered).await;
        for (name, theme, width, height) in
            [("console-rollout", "light", 1280, 1140), ("console-rollout-phone", "dark", 390, 1000)]
        {
            browser.size(width, height).await;
            browser.prefers(theme).await;
            shot(&browser, name, "rollout/cb", "#panel-criteria td").await;
        }
    })
    .await;
}

/// What a text in base 64 stands for.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    for digit in text.bytes().filter_map(|b| DIGITS.iter().position(|d| *d == b)) {
        held = held << 6 | u32::try_from(digit).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xFF).unwrap());
        }
    }
    bytes
}
