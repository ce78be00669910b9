//! What a worker's connections are made with, as read from files, and how it is renewed while they live.
//!
//! Files are read and checked as a whole before anything uses them. Then the connections for what others send move to
//! new ones, which loses nothing; and once the broker has accepted each of them, the management connection, which must
//! be cut for that, is made anew. So credentials that are sound as files and that the broker refuses cut nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{AuthError, ConnectOptions};
use beamline_nats::tls::{Material, Replaceable, TlsFault};
use beamline_nats::{Auth, Client, Credentials, Mover, Tls};

use super::ConnectFailed;
use crate::config::{self, NatsSettings};

/// The identity of a worker, and where it is in use.
#[derive(Debug)]
pub struct Access {
    settings: NatsSettings,
    /// What connections are made with from now on.
    newest: Mutex<Identity>,
    /// What the management connection is made with: what the broker was seen to accept.
    management: Mutex<Auth>,
    management_tls: Option<Arc<Replaceable>>,
    connections: Mutex<Vec<Mover>>,
}

/// The content of the files that settings name.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) auth: Auth,
    /// Where the settings name files for TLS.
    pub(super) tls: Option<Material>,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct FileFault {
    /// Which.
    pub file: String,
    /// What is wrong with it; nothing of a secret.
    pub reason: String,
}

impl From<TlsFault> for FileFault {
    fn from(TlsFault { file, reason }: TlsFault) -> Self {
        Self { file: file.map(|file| file.display().to_string()).unwrap_or_default(), reason }
    }
}

impl Identity {
    /// Reads all files that the settings name.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn read(settings: &NatsSettings) -> Result<Self, FileFault> {
        let identity = Self::read_without_tls(settings)?;
        let tls = settings.tls_required().then(|| tls_files(settings).load()).transpose()?;
        Ok(Self { tls, ..identity })
    }

    /// Reads all but the files of TLS, which are then read with the first connection that has it.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(super) fn read_without_tls(settings: &NatsSettings) -> Result<Self, FileFault> {
        let auth = match &settings.auth {
            config::Auth::Anonymous => Auth::Anonymous,
            config::Auth::Credentials(path) => {
                let fault = |reason: String| FileFault { file: path.display().to_string(), reason };
                Auth::Credentials(Credentials::read(path).map_err(|error| fault(error.to_string()))?)
            }
            config::Auth::User { name, password } => {
                Auth::User { name: name.clone(), password: password.expose().to_owned() }
            }
            config::Auth::Token(token) => Auth::Token(token.expose().to_owned()),
        };
        Ok(Self { auth, tls: None })
    }
}

/// The files of TLS that the settings name.
pub(super) fn tls_files(settings: &NatsSettings) -> Tls {
    Tls {
        required: settings.tls_required(),
        ca: settings.ca.clone(),
        client: settings.client_tls.as_ref().map(|tls| (tls.cert.clone(), tls.key.clone())),
    }
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn read(settings: &NatsSettings) -> Result<Self, FileFault> {
        let identity = Identity::read(settings)?;
        Ok(Self {
            settings: settings.clone(),
            management: Mutex::new(identity.auth.clone()),
            management_tls: identity.tls.clone().map(Replaceable::new),
            newest: Mutex::new(identity),
            connections: Mutex::default(),
        })
    }

    /// What to connect by, and to whom.
    #[must_use]
    pub const fn settings(&self) -> &NatsSettings {
        &self.settings
    }

    /// The files that a connection is made with.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let NatsSettings { auth, ca, client_tls, .. } = &self.settings;
        let credentials = match auth {
            config::Auth::Credentials(path) => Some(path),
            _ => None,
        };
        let client = client_tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
        credentials.into_iter().chain(ca).chain(client).map(|path| path.display().to_string()).collect()
    }

    /// Starts a connection with the newest identity; it is renewed with the others.
    pub(super) fn start(&self, start: impl FnOnce(Identity) -> Client) -> Client {
        // Held, so that no renewal comes between.
        let mut connections = locked(&self.connections);
        let client = start(locked(&self.newest).clone());
        connections.push(client.mover());
        client
    }

    /// Options of the management connection: it asks who it is, and what it trusts, each time that it is made.
    pub(super) fn options(self: &Arc<Self>) -> Result<ConnectOptions, ConnectFailed> {
        let options = match self.settings.auth {
            config::Auth::Anonymous => ConnectOptions::new(),
            _ => {
                let access = Arc::clone(self);
                ConnectOptions::with_auth_callback(move |nonce| {
                    std::future::ready(proof(&locked(&access.management), &nonce))
                })
            }
        };
        let Some(tls) = &self.management_tls else { return Ok(options) };
        let config = tls.config().map_err(|error| ConnectFailed::Tls {
            servers: super::listed(&self.settings),
            reason: error.to_string(),
        })?;
        Ok(options.tls_client_config(config).require_tls(true))
    }

    /// Asks the server of each connection for what others send whether it is there; beside one that is silent another
    /// is made.
    pub fn doubt(&self) {
        locked(&self.connections).iter().for_each(Mover::doubt);
    }

    /// Moves the connections for what others send to other servers, where some are known.
    pub fn leave(&self) {
        locked(&self.connections).iter().for_each(Mover::leave);
    }

    /// Gives the connections for what others send a new identity, and waits until each has it. Then the next
    /// connection for management is made with it too.
    pub async fn renew(&self, identity: Identity) {
        let connections = {
            let connections = locked(&self.connections);
            *locked(&self.newest) = identity.clone();
            connections.clone()
        };
        let Identity { auth, tls } = identity;
        futures_util::future::join_all(connections.iter().map(|c| c.renew(auth.clone(), tls.clone()))).await;
        *locked(&self.management) = auth;
        if let (Some(present), Some(tls)) = (&self.management_tls, tls) {
            present.replace(tls);
        }
    }
}

/// What a server is told, by its nonce.
fn proof(auth: &Auth, nonce: &[u8]) -> Result<async_nats::Auth, AuthError> {
    let mut proof = async_nats::Auth::new();
    match auth {
        Auth::Anonymous | Auth::NKey(_) => {}
        Auth::User { name, password } => {
            proof.username = Some(name.clone());
            proof.password = Some(password.clone());
        }
        Auth::Token(token) => proof.token = Some(token.clone()),
        Auth::Credentials(credentials) => {
            let signature = credentials.sign(nonce).ok_or_else(|| AuthError::new("the seed cannot sign"))?;
            proof.jwt = Some(credentials.jwt().to_owned());
            proof.signature = Some(signature);
        }
    }
    Ok(proof)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
