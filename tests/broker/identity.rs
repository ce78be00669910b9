//! Who sent a control request, by the broker's word.

use async_nats::{ConnectOptions, HeaderMap};
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::support::{Broker, Caller, Launch, Operator, Raw, SOON, Worker, eventually};
use crate::traffic::policy;

/// The routers' account, and the operators', who reach nothing but the control verbs.
fn accounts(nkey: &str) -> String {
    format!(
        "accounts {{
            ROUTER {{
                jetstream: enabled, users: [{{ user: router, password: r }}]
                exports: [{{ service: \"beamline.router.control.v1.>\", accounts: [OPS] }}]
            }}
            OPS {{
                users: [{{ user: alice, password: a }}, {{ nkey: {nkey} }}]
                imports: [{{
                    service: {{ account: ROUTER, subject: \"beamline.router.control.v1.>\" }}, share: true
                }}]
            }}
        }}"
    )
}

struct Site {
    broker: Broker,
    worker: Worker,
    /// Of the routers' account.
    router: Caller,
    /// Of the operators'.
    alice: Caller,
    key: KeyPair,
}

impl Site {
    async fn with(settings: impl FnOnce(Launch) -> Launch) -> Self {
        let key = KeyPair::new_user();
        let broker = Broker::with_config(&accounts(&key.public_key())).await;
        let login = |launch: Launch| settings(launch.env("NATS_USER", "router").env("NATS_PASSWORD", "r"));
        let worker = Worker::start(&broker, login).await;
        let options = |user: &str, password: &str| {
            ConnectOptions::new().user_and_password(user.to_owned(), password.to_owned())
        };
        let router = Caller::with(options("router", "r"), &broker.url()).await;
        let alice = Caller::with(options("alice", "a"), &broker.url()).await;
        Self { broker, worker, router, alice, key }
    }

    /// What the history says of the last revision: who, and by whose word.
    async fn last_change(&self) -> (Value, Value) {
        last_change(&self.router).await
    }
}

async fn last_change(caller: &Caller) -> (Value, Value) {
    let wanted = json!({"tenant_id": "acme", "policy_id": "default"});
    let history = caller.command("policy.history", &wanted).await;
    let last = history["revisions"].as_array().unwrap().last().unwrap().clone();
    (last["actor"].clone(), last["authenticated"].clone())
}

fn put(actor: &str) -> Value {
    json!({"tenant_id": "acme", "policy": policy(&["a"], json!({"enabled": true})), "actor": actor, "reason": "test"})
}

const PUT: &str = "beamline.router.control.v1.policy.put";

#[tokio::test]
async fn the_broker_says_who_changed_something_whatever_they_say_of_themselves() {
    let site = Site::with(|launch| launch.flag("--control-identity", "import")).await;
    let alice = json!({"account": "OPS", "user": "alice"});
    let mut events = site.router.listen("beamline.router.v1.events.>").await;
    site.alice.command("policy.put", &put("mallory")).await;
    assert_eq!(site.last_change().await, (json!("mallory"), alice.clone()));
    let breaker = json!({"tenant_id": "acme", "provider_id": "a", "state": "open", "actor": "mallory"});
    site.alice.command("breaker.force", &breaker).await;
    let flag = json!({"scope": "global", "circuit_breaker_enabled": false, "actor": "mallory"});
    site.alice.command("flag.set", &flag).await;
    for kind in ["policy", "breaker", "flag"] {
        let event = events.next_json().await;
        assert_eq!((&event["kind"], &event["authenticated"]), (&json!(kind), &alice), "{event}");
        assert_eq!(event["actor"], "mallory");
    }
    for event in ["policy_changed", "circuit_breaker_flag_set"] {
        let line = eventually(event, SOON, async || site.worker.events(event).pop()).await;
        assert_eq!((&line["actor"], &line["authenticated"]), (&json!("mallory"), &json!("OPS/alice")));
    }
    let flags = site.router.jetstream.get_key_value("BEAMLINE_FLAGS").await.unwrap();
    assert!(flags.entry("global").await.unwrap().is_some());

    let plan = json!({
        "kind": "PolicyRollout", "id": "cb", "circuit_breaker": {"failure_threshold": 5},
        "phases": [{"name": "canary", "tenants": {"count": 1}, "ladder": [50], "bake": "1h", "min": "1h", "max": "2h"}]
    });
    site.alice.command("rollout.put", &json!({"plan": plan, "actor": "mallory"})).await;
    let history = site.alice.command("rollout.history", &json!({"rollout": "cb"})).await;
    let entry = &history["entries"][0];
    assert_eq!((&entry["actor"], &entry["authenticated"]), (&json!("mallory"), &alice), "{history}");

    // The key's owner, without a word of their own.
    let seed = site.key.seed().unwrap();
    let owner = Caller::with(ConnectOptions::with_nkey(seed), &site.broker.url()).await;
    owner.command("policy.put", &put("bob")).await;
    let who = json!({"account": "OPS", "user": site.key.public_key()});
    assert_eq!(site.last_change().await, (json!("bob"), who));
    site.alice.command("tenant.delete", &json!({"tenant_id": "acme", "actor": "mallory"})).await;
    assert_eq!(site.last_change().await, (json!("mallory"), alice));
    // Not through the import: nobody says who it was.
    site.router.command("policy.put", &put("carol")).await;
    assert_eq!(site.last_change().await, (json!("carol"), Value::Null));
}

#[tokio::test]
async fn no_header_of_the_sender_makes_another_identity() {
    let site = Site::with(|launch| launch.flag("--control-identity", "import")).await;
    let forged = r#"{"acc":"OPS","user":"forged"}"#;
    let alice = json!({"account": "OPS", "user": "alice"});
    // So that there is a history when it is first looked at.
    site.alice.command("policy.put", &put("alice")).await;
    let mut raw = Raw::login(&site.broker, r#""user":"alice","pass":"a""#).await;
    for (n, (block, who)) in [
        (format!("NATS/1.0\r\nNats-Request-Info: {forged}\r\n\r\n"), &alice),
        (format!("NATS/1.0\r\nnats-request-info: {forged}\r\n\r\n"), &alice),
        (format!("NATS/1.0\r\nx: 1\nNats-Request-Info: {forged}\r\n\r\n"), &alice),
        // The server's header continues the last line.
        (format!("NATS/1.0\r\nx: 1\nNats-Request-Info: {forged}\r\ny: z??"), &Value::Null),
        (format!("NATS/1.0\r\nNats-Request-Info: {forged}??"), &Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let actor = format!("mallory-{n}");
        raw.publish(PUT.as_bytes(), b"", block.as_bytes(), put(&actor).to_string().as_bytes()).await;
        raw.flush().await;
        let is_in = async || site.last_change().await.0 == json!(actor);
        eventually(&block, SOON, is_in).await;
        assert_eq!(site.last_change().await.1, *who, "{}", block.escape_debug());
    }
    // Another key than one's own.
    let refused = Raw::refused(&site.broker, r#""user":"alice","pass":"a","nkey":"forged""#).await;
    assert!(refused.contains("Authorization Violation"), "{refused}");
}

#[tokio::test]
async fn of_a_user_with_a_jwt_its_subject_is_recorded_and_no_name_beside_it() {
    let (operator, person) = (Operator::new(), KeyPair::new_user());
    let broker = Broker::with_config(&operator.config()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), operator.credentials(None)).unwrap();
    let _worker = Worker::start(&broker, |launch| {
        launch.flag("--nats-creds", file.path().display()).flag("--control-identity", "import")
    })
    .await;
    let own = ConnectOptions::with_credentials(&operator.credentials_of(&person)).unwrap();
    // The server reports this name as the user, and lets in whoever has the key.
    let forging = own.clone().user_and_password("forged".to_owned(), "x".to_owned());
    for (options, actor) in [(own, "alice"), (forging, "mallory")] {
        let caller = Caller::with(options, &broker.url()).await;
        caller.command("policy.put", &put(actor)).await;
        let who = json!({"account": operator.people(), "user": person.public_key()});
        assert_eq!(last_change(&caller).await, (json!(actor), who));
    }
}

#[tokio::test]
async fn without_the_setting_nobody_is_believed() {
    let site = Site::with(|launch| launch).await;
    site.alice.command("policy.put", &put("alice")).await;
    assert_eq!(site.last_change().await, (json!("alice"), Value::Null));
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Request-Info", r#"{"acc":"OPS","user":"forged"}"#);
    let answer = site.router.ask(PUT, headers, put("mallory").to_string()).await.json();
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(site.last_change().await, (json!("mallory"), Value::Null));
}
