use std::time::Duration;

use async_nats::jetstream::{self, kv};
use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use super::{Broker, SOON};

/// A decide request that is good as it stands.
pub(crate) fn request(tenant: &str, request_id: &str) -> Value {
    json!({
        "version": "1", "request_id": request_id, "tenant_id": tenant,
        "task": {"type": "text.generate", "payload_ref": "s3://in/1"}
    })
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn of(message: Message) -> Self {
        Self { headers: message.headers.unwrap_or_default(), body: message.payload }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(async_nats::HeaderValue::as_str)
    }
}

/// A program that speaks to the router: client, executor or operator.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
}

impl Caller {
    pub(crate) async fn connect(broker: &Broker) -> Self {
        Self::to(&broker.url()).await
    }

    /// To one server or several, parted by commas. Comes back by itself when the broker does.
    pub(crate) async fn to(url: &str) -> Self {
        Self::with(async_nats::ConnectOptions::new(), url).await
    }

    /// As somebody.
    pub(crate) async fn with(options: async_nats::ConnectOptions, url: &str) -> Self {
        let options =
            options.request_timeout(Some(SOON)).reconnect_delay_callback(|_| Duration::from_millis(50));
        let servers: Vec<_> = url.split(',').collect();
        let client = options.connect(&servers[..]).await.unwrap();
        let jetstream = jetstream::new(client.clone());
        Self { client, jetstream }
    }

    /// Asks with these bytes as they are, and waits for the answer.
    pub(crate) async fn ask(&self, subject: &str, headers: HeaderMap, body: impl Into<Bytes>) -> Answer {
        let message = self.client.request_with_headers(subject.to_owned(), headers, body.into()).await;
        Answer::of(message.unwrap_or_else(|e| panic!("{subject}: {e}")))
    }

    /// Asks for a decision; the answer is whatever came.
    pub(crate) async fn decide(&self, request: &Value) -> Value {
        self.ask("beamline.router.v1.decide", HeaderMap::new(), request.to_string()).await.json()
    }

    /// Asks for a decision that must be made.
    pub(crate) async fn decided(&self, request: &Value) -> Value {
        let answer = self.decide(request).await;
        assert_eq!(answer["ok"], true, "{request}\n{answer}");
        answer["decision"].clone()
    }

    /// A control verb; the answer is whatever came.
    pub(crate) async fn control(&self, verb: &str, request: &Value) -> Value {
        let subject = format!("beamline.router.control.v1.{verb}");
        self.ask(&subject, HeaderMap::new(), request.to_string()).await.json()
    }

    /// A control verb that must succeed.
    pub(crate) async fn command(&self, verb: &str, request: &Value) -> Value {
        let answer = self.control(verb, request).await;
        assert_eq!(answer["ok"], true, "{verb} {request}\n{answer}");
        answer
    }

    /// Puts a policy, which must succeed: its revision.
    pub(crate) async fn put_policy(&self, tenant: &str, policy: &Value) -> u64 {
        let answer = self.command("policy.put", &json!({"tenant_id": tenant, "policy": policy})).await;
        answer["revision"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    /// What `breaker.get` tells.
    pub(crate) async fn breaker(&self, tenant: &str, provider: &str) -> Value {
        let request = json!({"tenant_id": tenant, "provider_id": provider});
        self.command("breaker.get", &request).await["breaker"].clone()
    }

    /// Publishes a result as executors should, through JetStream: its place in the log.
    pub(crate) async fn result(&self, result: &Value) -> u64 {
        self.result_on("caf.exec.result.v1", result).await
    }

    pub(crate) async fn result_on(&self, subject: &str, result: &Value) -> u64 {
        let ack = self.jetstream.publish(subject.to_owned(), result.to_string().into()).await.unwrap();
        ack.await.unwrap().sequence
    }

    /// The last sequence of the log.
    pub(crate) async fn log_end(&self) -> u64 {
        let stream = self.jetstream.get_stream("BEAMLINE_LOG").await.unwrap();
        stream.cached_info().state.last_sequence
    }

    /// The bucket of policies.
    pub(crate) async fn policies(&self) -> kv::Store {
        self.jetstream.get_key_value("BEAMLINE_POLICIES").await.unwrap()
    }

    /// Hears a subject from now on.
    pub(crate) async fn listen(&self, subject: &str) -> Listener {
        let subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.client.flush().await.unwrap();
        Listener { subject: subject.to_owned(), subscriber, client: self.client.clone() }
    }
}

/// A subscription.
pub(crate) struct Listener {
    subject: String,
    subscriber: Subscriber,
    client: Client,
}

impl Listener {
    /// The next message, which must come soon.
    pub(crate) async fn next(&mut self) -> Message {
        match tokio::time::timeout(SOON, self.subscriber.next()).await {
            Ok(Some(message)) => message,
            _ => panic!("nothing came on {}", self.subject),
        }
    }

    /// The body of the next message.
    pub(crate) async fn next_json(&mut self) -> Value {
        Answer::of(self.next().await).json()
    }

    /// All that has come by now. What the broker took before this call is in it.
    pub(crate) async fn come(&mut self) -> Vec<Message> {
        // A round trip: what the broker sent to this client before is here afterwards.
        let inbox = self.client.new_inbox();
        let mut echo = self.client.subscribe(inbox.clone()).await.unwrap();
        self.client.publish(inbox, Bytes::new()).await.unwrap();
        tokio::time::timeout(SOON, echo.next()).await.unwrap();
        let mut messages = Vec::new();
        while let Some(Some(message)) = self.subscriber.next().now_or_never() {
            messages.push(message);
        }
        messages
    }
}
