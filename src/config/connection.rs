//! How to reach the broker: servers, who we are, TLS.

use std::fmt;
use std::path::PathBuf;

use super::keys;
use super::keys::Key;
use super::names::SubjectPrefix;
use super::reader::{Reader, Told};

/// The port of NATS clients.
const DEFAULT_PORT: u16 = 4222;

/// A text that is shown to nobody: not in `Debug`, not in a log line, not in a fault.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Holds a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one who must send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The address of a server, without user or password: fit for a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// `scheme://host:port`
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host, an IPv6 address without its brackets, and port.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        let (_, address) = self.0.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who we are to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Nobody in particular.
    Anonymous,
    /// A credentials file with JWT and seed, readable at start.
    Credentials(PathBuf),
    /// A user.
    User {
        /// The name.
        name: String,
        /// The password; empty if none was given.
        password: Secret,
    },
    /// A token.
    Token(Secret),
}

/// The client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM file of the certificate.
    pub cert: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

/// How to reach the broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NatsSettings {
    /// At least one.
    pub servers: Vec<ServerUrl>,
    /// Who we are.
    pub auth: Auth,
    /// The only authorities to trust; without, those of the system.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub client_tls: Option<ClientTls>,
    /// Where replies arrive, without a dot at its end; without, `_INBOX`.
    pub inbox_prefix: Option<String>,
}

impl NatsSettings {
    /// Whether a connection without TLS must be refused: who names authorities or a certificate wants
    /// the server proven.
    #[must_use]
    pub fn tls_required(&self) -> bool {
        self.ca.is_some() || self.client_tls.is_some()
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Told> {
        let urls = r.read(&keys::NATS_URL, parse_urls);
        let creds = r.optional(&keys::NATS_CREDS, readable);
        let user = r.optional(&keys::NATS_USER, |text| Ok(text.to_owned()));
        let password = r.optional(&keys::NATS_PASSWORD, |text| Ok(Secret::new(text.to_owned())));
        let token = r.optional(&keys::NATS_TOKEN, |text| Ok(Secret::new(text.to_owned())));
        let ca = r.optional(&keys::NATS_CA, readable);
        let cert = r.optional(&keys::NATS_CERT, readable);
        let key = r.optional(&keys::NATS_KEY, readable);
        let inbox_prefix = r.optional(&keys::NATS_INBOX_PREFIX, |text| {
            let prefix = SubjectPrefix::try_new(text.strip_suffix('.').unwrap_or(text));
            prefix.map(|p| p.as_str().to_owned()).map_err(|fault| fault.to_string())
        });

        let (servers, in_url) = urls.map_or((Err(Told), None), |urls| (Ok(urls.0), urls.1));
        let auth = match (creds, user, password, token) {
            (Ok(creds), Ok(user), Ok(password), Ok(token)) => {
                read_auth(r, Identities { creds, user, password, token, in_url })
            }
            _ => Err(Told),
        };
        let client_tls = match (cert, key) {
            (Ok(Some(cert)), Ok(Some(key))) => Ok(Some(ClientTls { cert, key })),
            (Ok(None), Ok(None)) => Ok(None),
            (Ok(Some(_)), Ok(None)) => Err(r.fault(&keys::NATS_KEY, "the certificate's key is missing")),
            (Ok(None), Ok(Some(_))) => Err(r.fault(&keys::NATS_CERT, "the key's certificate is missing")),
            _ => Err(Told),
        };
        Ok(Self {
            servers: servers?,
            auth: auth?,
            ca: ca?,
            client_tls: client_tls?,
            inbox_prefix: inbox_prefix?,
        })
    }
}

fn readable(text: &str) -> Result<PathBuf, String> {
    match std::fs::File::open(text).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => Ok(PathBuf::from(text)),
        Ok(_) => Err("is no file".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

struct Identities {
    creds: Option<PathBuf>,
    user: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    in_url: Option<Auth>,
}

/// One identity, or none. Two would leave open which one the broker sees.
fn read_auth(r: &mut Reader<'_>, given: Identities) -> Result<Auth, Told> {
    let mut found: Option<(&Key, Auth)> = given.in_url.map(|auth| (&keys::NATS_URL, auth));
    let user = match (given.user, given.password) {
        (Some(name), password) => {
            let password = password.unwrap_or_else(|| Secret::new(String::new()));
            Some((&keys::NATS_USER, Auth::User { name, password }))
        }
        (None, Some(_)) => return Err(r.fault(&keys::NATS_PASSWORD, "needs --nats-user (NATS_USER)")),
        (None, None) => None,
    };
    let others = [
        given.creds.map(|path| (&keys::NATS_CREDS, Auth::Credentials(path))),
        user,
        given.token.map(|token| (&keys::NATS_TOKEN, Auth::Token(token))),
    ];
    for (key, auth) in others.into_iter().flatten() {
        match found {
            None => found = Some((key, auth)),
            Some((first, _)) => {
                let message =
                    format!("says who we are a second time, after --{} ({})", first.flag, first.env);
                return Err(r.fault(key, message));
            }
        }
    }
    Ok(found.map_or(Auth::Anonymous, |(_, auth)| auth))
}

/// Servers, and the identity that one of them carries. The client library ignores user and password in
/// a URL, and would show them in its errors: they are taken out here.
fn parse_urls(text: &str) -> Result<(Vec<ServerUrl>, Option<Auth>), String> {
    let mut servers = Vec::new();
    let mut identity = None;
    for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        let (server, auth) = parse_url(url)?;
        match (&identity, auth) {
            (_, None) => {}
            (Some(first), Some(auth)) if *first != auth => {
                return Err("all servers of one cluster need the same user".to_owned());
            }
            (_, auth) => identity = auth,
        }
        servers.push(server);
    }
    if servers.is_empty() {
        return Err("names no server".to_owned());
    }
    Ok((servers, identity))
}

fn parse_url(url: &str) -> Result<(ServerUrl, Option<Auth>), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    if !matches!(scheme, "nats" | "tls") {
        return Err("the scheme must be nats:// or tls://".to_owned());
    }
    let (userinfo, address) = match rest.rsplit_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, rest),
    };
    let auth = userinfo.map(parse_userinfo).transpose()?;
    let address = address.strip_suffix('/').unwrap_or(address);
    let (host, port) = match address.rsplit_once(':') {
        // An IPv6 address carries colons of its own, and stands in brackets.
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port > 0);
            (host, port.ok_or("the port must be a number from 1 to 65535")?)
        }
        _ => (address, DEFAULT_PORT),
    };
    let sound = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    if !sound {
        return Err("want a host name or address, IPv6 in brackets: nats://host:4222".to_owned());
    }
    Ok((ServerUrl(format!("{scheme}://{host}:{port}")), auth))
}

/// `user:password`, or a token alone, as NATS clients read it.
fn parse_userinfo(userinfo: &str) -> Result<Auth, String> {
    match userinfo.split_once(':') {
        Some((name, password)) => {
            Ok(Auth::User { name: percent_decoded(name)?, password: Secret(percent_decoded(password)?) })
        }
        None => Ok(Auth::Token(Secret(percent_decoded(userinfo)?))),
    }
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let fault = || "user and password need % and what follows as two hexadecimal digits".to_owned();
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or_else(fault)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(fault());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| fault())?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| fault())
}
