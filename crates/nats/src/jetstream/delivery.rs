use crate::batch::MessageRef;

/// The broker's own message: the consumer is alive, or it wants an answer.
const IDLE: u16 = 100;
const ACK_PREFIX: &[u8] = b"$JS.ACK.";
/// Where a consumer wants flow control to be answered. An answer elsewhere could be made to serve whoever
/// knows the delivery subject.
const FLOW_PREFIX: &str = "$JS.FC.";

/// What a message at a consumer's delivery subject is.
///
/// A stored message keeps the headers that its publisher wrote, a status line too. So what the broker
/// says of itself is told from what it delivers by the reply subject, which the broker alone writes:
/// a delivery has an acknowledgement subject there, and nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// A message of the stream.
    Message(Place),
    /// The consumer is alive.
    Heartbeat(Heartbeat<'a>),
    /// The consumer waits for an empty message at this subject.
    FlowControl(&'a str),
    /// Another status, such as the end of a pull request.
    Status {
        /// Its number.
        code: u16,
        /// Its words.
        description: &'a str,
        /// How many messages of a pull request will not come.
        undelivered: Option<u64>,
    },
    /// None of these: somebody published to the delivery subject.
    Foreign,
}

/// Where a delivered message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// Its number in the stream.
    pub stream: u64,
    /// Its number among what the consumer has delivered.
    pub consumer: u64,
    /// When it was stored, in nanoseconds since the Unix epoch.
    pub nanos: u64,
    /// How many messages the consumer had not delivered yet.
    pub pending: u64,
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat<'a> {
    /// The last message of the stream that was delivered.
    pub last_stream: Option<u64>,
    /// Where a flow-control request that has no answer wants it.
    pub stalled: Option<&'a str>,
}

impl<'a> Delivery<'a> {
    /// What a message is.
    #[must_use]
    pub fn of(message: &MessageRef<'a>) -> Self {
        let Ok(reply) = message.reply() else { return Self::Foreign };
        if let Some(reply) = reply.filter(|reply| reply.as_bytes().starts_with(ACK_PREFIX)) {
            return Place::parse(reply).map_or(Self::Foreign, Self::Message);
        }
        let Ok(headers) = message.headers() else { return Self::Foreign };
        let number = |name| headers.get(name).and_then(|text| text.parse().ok());
        match (headers.status(), reply) {
            (Some(IDLE), Some(reply)) if reply.starts_with(FLOW_PREFIX) => Self::FlowControl(reply),
            (Some(IDLE), None) => Self::Heartbeat(Heartbeat {
                last_stream: number("Nats-Last-Stream"),
                stalled: headers.get("Nats-Consumer-Stalled").filter(|at| at.starts_with(FLOW_PREFIX)),
            }),
            (Some(code), None) => Self::Status {
                code,
                description: headers.description(),
                undelivered: number("Nats-Pending-Messages"),
            },
            _ => Self::Foreign,
        }
    }
}

impl Place {
    /// Reads an acknowledgement subject,
    /// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>`, which newer
    /// servers write with a domain and an account hash before the stream.
    #[must_use]
    pub fn parse(reply: &str) -> Option<Self> {
        let tokens = reply.strip_prefix("$JS.ACK.")?.split('.');
        let before = match tokens.clone().count() {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let mut numbers = tokens.skip(before).map(|token| token.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            delivered: next()?,
            stream: next()?,
            consumer: next()?,
            nanos: next()?,
            pending: next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Message;

    fn of(reply: Option<&str>, headers: &[u8]) -> Message {
        Message::new("_INBOX.a", reply, headers, b"")
    }

    #[test]
    fn a_place_is_read_in_both_forms() {
        let place = Some(Place {
            delivered: 1,
            stream: 42,
            consumer: 7,
            nanos: 1_700_000_000_000_000_123,
            pending: 5,
        });
        assert_eq!(Place::parse("$JS.ACK.LOG.c1.1.42.7.1700000000000000123.5"), place);
        assert_eq!(Place::parse("$JS.ACK.hub.ABC123.LOG.c1.1.42.7.1700000000000000123.5"), place);
        assert_eq!(Place::parse("$JS.ACK._.ABC123.LOG.c1.1.42.7.1700000000000000123.5.token"), place);
        for reply in ["", "$JS.ACK.", "$JS.ACK.LOG.c1.1.x.7.1.5", "$JS.ACK.LOG.c1.1.42.7.1.5.8", "_INBOX.a"] {
            assert_eq!(Place::parse(reply), None, "{reply}");
        }
    }

    #[test]
    fn what_the_broker_says_of_itself_is_told_from_what_it_delivers() {
        let heartbeat =
            b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 3\r\nNats-Last-Stream: 9\r\n\r\n";
        let alive = Delivery::Heartbeat(Heartbeat { last_stream: Some(9), stalled: None });
        assert_eq!(Delivery::of(&of(None, heartbeat).as_ref()), alive);
        let stalled = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: $JS.FC.x\r\n\r\n";
        let waits = Delivery::Heartbeat(Heartbeat { last_stream: None, stalled: Some("$JS.FC.x") });
        assert_eq!(Delivery::of(&of(None, stalled).as_ref()), waits);
        let request = b"NATS/1.0 100 FlowControl Request\r\n\r\n";
        assert_eq!(Delivery::of(&of(Some("$JS.FC.y"), request).as_ref()), Delivery::FlowControl("$JS.FC.y"));
        let forged = of(Some("$JS.API.STREAM.PURGE.LOG"), request);
        assert_eq!(Delivery::of(&forged.as_ref()), Delivery::Foreign);
        let forged = b"NATS/1.0 100\r\nNats-Consumer-Stalled: $KV.B.key\r\n\r\n";
        let alive = Delivery::Heartbeat(Heartbeat { last_stream: None, stalled: None });
        assert_eq!(Delivery::of(&of(None, forged).as_ref()), alive);
        let ended =
            b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 12\r\nNats-Pending-Bytes: 0\r\n\r\n";
        let timeout = Delivery::Status { code: 408, description: "Request Timeout", undelivered: Some(12) };
        assert_eq!(Delivery::of(&of(None, ended).as_ref()), timeout);
    }

    #[test]
    fn a_stored_message_is_a_message_whatever_its_publisher_wrote() {
        let ack = Some("$JS.ACK.LOG.c1.1.42.7.1.5");
        for headers in [
            &b""[..],
            b"NATS/1.0 100\r\n\r\n",
            b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
            b"\xff",
            b"NATS/1.0\r\nX: a\rb\r\n\r\n",
        ] {
            let message = of(ack, headers);
            assert!(
                matches!(Delivery::of(&message.as_ref()), Delivery::Message(place) if place.stream == 42)
            );
        }
        assert_eq!(Delivery::of(&of(None, b"").as_ref()), Delivery::Foreign);
        assert_eq!(Delivery::of(&of(None, b"\xff").as_ref()), Delivery::Foreign);
        assert_eq!(
            Delivery::of(&of(Some("_INBOX.b"), b"NATS/1.0 409 x\r\n\r\n").as_ref()),
            Delivery::Foreign
        );
    }
}
