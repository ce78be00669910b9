//! The connection for what others send, by itself: against real servers, over TCP and TLS.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::{
    Address, Auth, Client, ConnectError, Credentials, Event, Options, PublishError, RequestError, Seed, Tls,
};
use nkeys::KeyPair;
use serde_json::json;

use crate::support::{Authority, Broker, SOON, credentials_file, eventually, jwt};

/// What happened to a connection.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    fn hear(&self) -> impl Fn(Event) + Send + Sync + 'static {
        let events = self.clone();
        move |event| events.0.lock().unwrap().push(event)
    }

    fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, wanted: fn(&Event) -> bool) -> usize {
        self.all().iter().filter(|event| wanted(event)).count()
    }

    async fn come(&self, what: &str, count: usize, wanted: fn(&Event) -> bool) {
        eventually(what, SOON, async || self.count(wanted) >= count).await;
    }
}

fn at(broker: &Broker) -> Address {
    Address { host: "127.0.0.1".to_owned(), port: broker.port(), tls: false, tls_name: None }
}

fn options(broker: &Broker) -> Options {
    Options { name: "test".to_owned(), servers: vec![at(broker)], ..Options::default() }
}

async fn connect(options: Options) -> Result<Client, ConnectError> {
    Client::connect(options, SOON, |_| {}).await
}

fn publish(client: &Client, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
    client.publish(&Outgoing { subject: subject.as_bytes(), reply: b"", headers: &[], payload })
}

/// A message that comes back shows that the connection works.
async fn works(client: &Client) {
    let inbox = client.new_inbox();
    let mut back = client.subscribe(&inbox, None).unwrap();
    let headers = [("id", "7")];
    let message =
        Outgoing { subject: inbox.as_bytes(), reply: b"there", headers: &headers, payload: b"hello" };
    client.publish(&message).unwrap();
    let message = tokio::time::timeout(SOON, back.next()).await.unwrap().unwrap();
    let read = message.as_ref().read().unwrap();
    assert_eq!((read.subject, read.reply, read.payload), (inbox.as_str(), Some("there"), &b"hello"[..]));
    assert_eq!(read.headers.get("ID"), Some("7"));
}

#[tokio::test]
async fn each_way_to_say_who_we_are_is_accepted_and_a_wrong_one_refused() {
    let user =
        |name: &str, password: &str| Auth::User { name: name.to_owned(), password: password.to_owned() };
    let (known, unknown) = (KeyPair::new_user(), KeyPair::new_user());
    let seed = |pair: &KeyPair| Seed::parse(&pair.seed().unwrap()).unwrap();
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let version = |kind: &str| json!({"type": kind, "version": 2});
    let operator_jwt = jwt(&operator, &operator, "O", version("operator"), None);
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let account_jwt =
        jwt(&operator, &account, "A", json!({"type": "account", "version": 2, "limits": limits}), None);
    let credentials = |issuer: &KeyPair| {
        let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        let file = credentials_file(&jwt(issuer, &known, "U", claims, None), &known);
        Auth::Credentials(Credentials::parse(&file).unwrap())
    };
    let with_jwt = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}",
        account.public_key()
    );
    for (what, config, right, wrong) in [
        ("a user", "authorization { user: u, password: p }".to_owned(), user("u", "p"), user("u", "q")),
        (
            "a token",
            "authorization { token: t }".to_owned(),
            Auth::Token("t".into()),
            Auth::Token("x".into()),
        ),
        (
            "a key",
            format!("authorization {{ users: [{{ nkey: {} }}] }}", known.public_key()),
            Auth::NKey(seed(&known)),
            Auth::NKey(seed(&unknown)),
        ),
        ("credentials", with_jwt, credentials(&account), credentials(&KeyPair::new_account())),
    ] {
        // With an operator the server has no JetStream without a system account.
        let broker = Broker::plain(&config).await;
        let client = connect(Options { auth: right, ..options(&broker) }).await;
        works(&client.unwrap_or_else(|error| panic!("{what}: {error}"))).await;
        for auth in [wrong, Auth::Anonymous] {
            let refused = connect(Options { auth, ..options(&broker) }).await.unwrap_err();
            assert!(matches!(refused, ConnectError::Refused(_)), "{what}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn tls_trusts_the_authority_that_is_named_and_proves_who_we_are() {
    let (authority, other) = (Authority::new(), Authority::new());
    let file = |name: &str| authority.file(name).display().to_string();
    let config = |verify: &str| {
        format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}{verify} }}",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        )
    };
    let tls = |ca: &Path, client: Option<&Authority>| Tls {
        required: true,
        ca: Some(ca.to_owned()),
        client: client.map(|from| (from.file("client.pem"), from.file("client.key"))),
    };
    let connecting = async |broker: &Broker, host: &str, tls: Tls| {
        let servers = vec![Address { host: host.to_owned(), ..at(broker) }];
        connect(Options { servers, tls, ..options(broker) }).await
    };
    let broker = Broker::with_config(&config("")).await;
    works(&connecting(&broker, "localhost", tls(&authority.file("ca.pem"), None)).await.unwrap()).await;
    // Wanted by the server alone.
    let wanted = Tls { required: false, ..tls(&authority.file("ca.pem"), None) };
    works(&connecting(&broker, "localhost", wanted).await.unwrap()).await;
    for (what, host, tls) in [
        ("another authority", "localhost", tls(&other.file("ca.pem"), None)),
        ("another name", "127.0.0.1", tls(&authority.file("ca.pem"), None)),
        ("the system's authorities", "localhost", Tls { required: true, ..Tls::default() }),
        ("no certificate in the file", "localhost", tls(&authority.file("server.key"), None)),
    ] {
        let refused = connecting(&broker, host, tls).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Tls(_)), "{what}: {refused:?}");
    }
    let verifying = Broker::with_config(&config(", verify: true")).await;
    works(
        &connecting(&verifying, "localhost", tls(&authority.file("ca.pem"), Some(&authority))).await.unwrap(),
    )
    .await;
    for client in [None, Some(&other)] {
        assert!(connecting(&verifying, "localhost", tls(&authority.file("ca.pem"), client)).await.is_err());
    }
    let plain = Broker::start().await;
    let refused = connecting(&plain, "127.0.0.1", tls(&authority.file("ca.pem"), None)).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Tls(_)), "a server without TLS: {refused:?}");
}

#[tokio::test]
async fn what_is_not_permitted_is_reported_and_the_connection_stays() {
    let broker = Broker::with_config(
        "authorization { users: [{ user: u, password: p, permissions: { publish: [\"ok.>\", \"_INBOX.>\"], \
         subscribe: [\"ok.>\", \"_INBOX.>\"] } }] }",
    )
    .await;
    let events = Events::default();
    let auth = Auth::User { name: "u".to_owned(), password: "p".to_owned() };
    let client = Client::connect(Options { auth, ..options(&broker) }, SOON, events.hear()).await.unwrap();
    let _none = client.subscribe("secret", None).unwrap();
    publish(&client, "secret", b"x").unwrap();
    events.come("both are denied", 2, |event| matches!(event, Event::Denied(_))).await;
    works(&client).await;
    assert_eq!(events.count(|event| matches!(event, Event::Disconnected(_))), 0, "{:?}", events.all());
}

#[tokio::test]
async fn limits_are_those_of_the_broker_and_of_the_settings() {
    let broker = Broker::with_config("max_payload: 1000").await;
    let events = Events::default();
    let outbound_limit = 10_000;
    let ping_interval = Duration::from_millis(200);
    let options = Options { outbound_limit, ping_interval, subscription_capacity: 100, ..options(&broker) };
    let client = Client::connect(options, SOON, events.hear()).await.unwrap();
    assert_eq!(client.max_payload(), 1_000);
    assert_eq!(publish(&client, "a", &[0; 1_001]), Err(PublishError::TooLong { limit: 1_000 }));
    assert_eq!(client.request("nobody", &[], b"", SOON).await.map(|_| ()), Err(RequestError::NoResponders));
    // A subscriber that nobody reads from drops what is too much, and says how much.
    let mut slow = client.subscribe("slow", None).unwrap();
    for batch in 0..50 {
        (0..10).for_each(|_| publish(&client, "slow", b"x").unwrap());
        client.flush().await.unwrap();
        let dropped: u64 = events.all().iter().map(|e| if let Event::Dropped(n) = e { *n } else { 0 }).sum();
        assert_eq!(dropped, 10 * (batch + 1_u64).saturating_sub(10), "{:?}", events.all());
    }
    slow.drain();
    let mut received = 0;
    while slow.next().await.is_some() {
        received += 1;
    }
    assert_eq!(received, 100, "what was taken is there");
    // A broker that stands still takes nothing: what waits is bounded, and the connection is left.
    broker.pause();
    let full = (0..1_000_000).find_map(|_| publish(&client, "a", &[0; 900]).err());
    assert_eq!(full, Some(PublishError::Full));
    events.come("it is stale", 1, |event| matches!(event, Event::Disconnected(_))).await;
    tokio::time::timeout(SOON, client.room()).await.expect("nobody waits for a connection that is gone");
    broker.resume();
    events.come("it is back", 2, |event| *event == Event::Connected).await;
    works(&client).await;
}

#[tokio::test]
async fn a_lost_connection_comes_back_with_its_subscriptions() {
    let mut broker = Broker::start().await;
    let events = Events::default();
    let client = Client::start(options(&broker), events.hear());
    let mut requests = client.subscribe("service", Some("q")).unwrap();
    events.come("it is there", 1, |event| *event == Event::Connected).await;
    let caller = crate::support::Caller::connect(&broker).await;
    for round in 1..=3 {
        caller.client.publish("service", "x".into()).await.unwrap();
        let message = tokio::time::timeout(SOON, requests.next()).await.unwrap().unwrap();
        assert_eq!(message.payload(), b"x");
        broker.restart().await;
        events.come("it is back", round + 1, |event| *event == Event::Connected).await;
        assert_eq!(events.count(|event| matches!(event, Event::Disconnected(_))), round);
        eventually("the caller is back", SOON, async || caller.client.flush().await.is_ok()).await;
    }
    let inbox = client.new_inbox();
    drop(client);
    assert!(tokio::time::timeout(SOON, requests.next()).await.unwrap().is_none(), "{inbox}: it is closed");
    events.come("it is closed", 1, |event| *event == Event::Closed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_queue_group_that_come_and_go_lose_nothing() {
    let broker = Broker::start().await;
    let client = connect(options(&broker)).await.unwrap();
    let sender = connect(options(&broker)).await.unwrap();
    let mut steady = client.subscribe("work", Some("q")).unwrap();
    client.flush().await.unwrap();
    let sending = tokio::spawn(async move {
        for n in 0..20_000_u64 {
            publish(&sender, "work", &n.to_le_bytes()).unwrap();
            if n % 50 == 0 {
                sender.flush().await.unwrap();
            }
        }
        sender.flush().await.unwrap();
    });
    let mut received = 0_u64;
    while !sending.is_finished() {
        let other = connect(options(&broker)).await.unwrap();
        let mut passing = other.subscribe("work", Some("q")).unwrap();
        other.flush().await.unwrap();
        for _ in 0..5 {
            if let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(20), passing.next()).await {
                received += 1;
            }
        }
        passing.drain();
        while passing.next().await.is_some() {
            received += 1;
        }
    }
    sending.await.unwrap();
    steady.drain();
    while steady.next().await.is_some() {
        received += 1;
    }
    assert_eq!(received, 20_000);
}
