//! From a fresh stream to a connection that the server has accepted.
//!
//! The server speaks first: INFO. Where TLS is wanted, it begins now, and nothing may have followed the
//! INFO in clear text. Then the client sends CONNECT and a PING; the PONG says that it is accepted, an
//! -ERR why it is not.

use serde::Serialize;

use crate::auth::{Auth, Proof};
use crate::error::ConnectError;
use crate::info::ServerInfo;
use crate::parse::{Op, ProtocolError};

/// What is told to every server.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name that servers list the connection by.
    pub name: String,
    /// Who we are.
    pub auth: Auth,
    /// Whether a server without TLS is refused.
    pub tls_required: bool,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read on.
    Read,
    /// Begin TLS, then call [`Handshake::secured`].
    Secure,
    /// Send this, then read on.
    Send(Vec<u8>),
    /// The server has accepted the connection.
    Accepted(Box<ServerInfo>),
}

/// See the module.
#[derive(Debug)]
pub struct Handshake<'l> {
    login: &'l Login,
    info: Option<ServerInfo>,
    connected: bool,
}

#[derive(Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    name: &'a str,
    lang: &'static str,
    version: &'static str,
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
    #[serde(flatten)]
    proof: Proof,
}

impl<'l> Handshake<'l> {
    /// Before the server has spoken.
    #[must_use]
    pub const fn new(login: &'l Login) -> Self {
        Self { login, info: None, connected: false }
    }

    /// Takes an operation; `alone` says that no byte was received after it.
    ///
    /// # Errors
    /// Why there will be no connection.
    pub fn on(&mut self, op: Op, bytes: &[u8], alone: bool) -> Result<Step, ConnectError> {
        match op {
            Op::Info(json) => {
                let info = ServerInfo::parse(json.of(bytes)).ok_or(ConnectError::Info)?;
                let first = self.info.is_none();
                let secure = self.login.tls_required || info.tls_required;
                self.info = Some(info);
                match (first, secure) {
                    (false, _) => Ok(Step::Read),
                    (true, true) if !alone => Err(ProtocolError::BeforeTls.into()),
                    (true, true) => Ok(Step::Secure),
                    (true, false) => Ok(Step::Send(self.connect(false))),
                }
            }
            Op::Ping if self.connected => Ok(Step::Send(b"PONG\r\n".to_vec())),
            Op::Pong if self.connected => {
                Ok(self.info.take().map_or(Step::Read, |info| Step::Accepted(Box::new(info))))
            }
            Op::Ok => Ok(Step::Read),
            Op::Error(text) => Err(ServerError::parse(text.of(bytes)).refusal()),
            _ => Err(ProtocolError::Unknown.into()),
        }
    }

    /// After TLS has begun: what is sent next.
    pub fn secured(&mut self) -> Vec<u8> {
        self.connect(true)
    }

    fn connect(&mut self, tls_required: bool) -> Vec<u8> {
        self.connected = true;
        let proof = self.info.as_ref().map(|info| self.login.auth.proof(info)).unwrap_or_default();
        let connect = Connect {
            verbose: false,
            pedantic: false,
            tls_required,
            name: &self.login.name,
            lang: "rust",
            version: crate::VERSION,
            protocol: 1,
            echo: true,
            headers: true,
            no_responders: true,
            proof,
        };
        let mut out = b"CONNECT ".to_vec();
        out.extend(serde_json::to_vec(&connect).unwrap_or_default());
        out.extend_from_slice(b"\r\nPING\r\n");
        out
    }
}

/// An -ERR, by what it means for the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerError {
    /// A publish or a subscription is not permitted. The connection stays.
    Permission(String),
    /// Who we are is not, or no longer, accepted. The server ends the connection.
    Authorization(String),
    /// All else. The server ends the connection after most of these.
    Other(String),
}

impl ServerError {
    /// Reads the text of an -ERR.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text).trim().trim_matches('\'').to_owned();
        let lower = text.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if has(&["permissions violation"]) {
            Self::Permission(text)
        } else if has(&["authorization violation", "authentication", "authorization timeout"]) {
            Self::Authorization(text)
        } else {
            Self::Other(text)
        }
    }

    fn refusal(self) -> ConnectError {
        match self {
            Self::Authorization(text) | Self::Permission(text) => ConnectError::Refused(text),
            Self::Other(text) if text.to_ascii_lowercase().contains("tls") => ConnectError::Tls(text),
            Self::Other(text) => ConnectError::Server(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Reader;

    fn login(tls_required: bool) -> Login {
        let auth = Auth::User { name: "u".to_owned(), password: "p".to_owned() };
        Login { name: "test".to_owned(), auth, tls_required }
    }

    /// What each operation of a stream leads to.
    fn steps(handshake: &mut Handshake<'_>, stream: &str) -> Result<Vec<Step>, ConnectError> {
        let mut reader = Reader::default();
        reader.room().extend_from_slice(stream.as_bytes());
        let mut steps = Vec::new();
        while let Some(taken) = reader.take()? {
            if let Some(op) = taken.op {
                steps.push(handshake.on(op, &taken.bytes, reader.is_empty())?);
            }
        }
        Ok(steps)
    }

    #[test]
    fn a_server_that_accepts_us_is_connected_to() {
        let login = login(false);
        let mut handshake = Handshake::new(&login);
        let first = steps(&mut handshake, "INFO {\"server_name\":\"s\"}\r\n").unwrap();
        let [Step::Send(sent)] = &first[..] else { panic!("{first:?}") };
        let sent = String::from_utf8(sent.clone()).unwrap();
        assert!(sent.starts_with("CONNECT {\"verbose\":false,") && sent.ends_with("}\r\nPING\r\n"), "{sent}");
        assert!(
            sent.contains("\"user\":\"u\",\"pass\":\"p\"") && sent.contains("\"no_responders\":true"),
            "{sent}"
        );
        let then = steps(&mut handshake, "+OK\r\nPING\r\nINFO {\"server_name\":\"t\"}\r\nPONG\r\n").unwrap();
        assert_eq!(then[..3], [Step::Read, Step::Send(b"PONG\r\n".to_vec()), Step::Read]);
        assert!(matches!(&then[3], Step::Accepted(info) if info.server_name == "t"), "{then:?}");
    }

    #[test]
    fn tls_begins_where_either_side_wants_it_and_nothing_came_before() {
        for (wanted, info) in [(true, "INFO {}\r\n"), (false, "INFO {\"tls_required\":true}\r\n")] {
            let login = login(wanted);
            let mut handshake = Handshake::new(&login);
            assert_eq!(steps(&mut handshake, info).unwrap(), [Step::Secure]);
            assert!(String::from_utf8(handshake.secured()).unwrap().contains("\"tls_required\":true"));
            let injected = format!("{info}PONG\r\n");
            let refused = steps(&mut Handshake::new(&login), &injected);
            assert_eq!(refused, Err(ConnectError::Protocol(ProtocolError::BeforeTls)));
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let login = login(false);
        let refused = |text: &str| {
            let stream = format!("INFO {{}}\r\n-ERR '{text}'\r\n");
            steps(&mut Handshake::new(&login), &stream).unwrap_err()
        };
        assert_eq!(
            refused("Authorization Violation"),
            ConnectError::Refused("Authorization Violation".into())
        );
        assert_eq!(
            refused("Secure Connection - TLS Required"),
            ConnectError::Tls("Secure Connection - TLS Required".into())
        );
        assert_eq!(
            refused("maximum connections exceeded"),
            ConnectError::Server("maximum connections exceeded".into())
        );
        let early = steps(&mut Handshake::new(&login), "PONG\r\n");
        assert_eq!(early, Err(ConnectError::Protocol(ProtocolError::Unknown)));
        let odd = steps(&mut Handshake::new(&login), "INFO x\r\n");
        assert_eq!(odd, Err(ConnectError::Info));
    }

    #[test]
    fn permissions_are_told_apart_from_authorization() {
        let text = "Permissions Violation for Publish to \"a\"";
        assert_eq!(
            ServerError::parse(format!(" '{text}'").as_bytes()),
            ServerError::Permission(text.to_owned())
        );
        for text in [
            "Authorization Violation",
            "User Authentication Expired",
            "Account Authentication Expired",
            "User Authentication Revoked",
            "Authentication Timeout",
        ] {
            assert_eq!(ServerError::parse(text.as_bytes()), ServerError::Authorization(text.to_owned()));
        }
        assert_eq!(
            ServerError::parse(b" 'Stale Connection'"),
            ServerError::Other("Stale Connection".to_owned())
        );
        assert_eq!(ServerError::parse(b"\xff"), ServerError::Other("\u{fffd}".to_owned()));
    }
}
