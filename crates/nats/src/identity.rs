//! Who a connection is to its servers, as long as it lives: it can be renewed.
//!
//! Each renewal has a number. A connection bears that of the identity with which it was made, so a connection with a
//! smaller number than the newest is moved from, by the same way as from a server that goes: the new one is subscribed
//! before the old one is ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::auth::Auth;
use crate::error::ConnectError;
use crate::options::Tls;
use crate::tls::{Material, Replaceable};

/// What a connection is made with.
#[derive(Debug)]
pub(crate) struct Identity {
    present: Mutex<Present>,
    /// There is a newer one.
    pub(crate) renewed: Notify,
    /// The number of the identity that the present connection was made with.
    in_use: watch::Sender<u64>,
}

#[derive(Debug)]
struct Present {
    auth: Auth,
    /// Read with the first connection that has TLS.
    tls: Option<Arc<Replaceable>>,
    number: u64,
}

impl Identity {
    pub(crate) fn new(auth: Auth, material: Option<Material>) -> Self {
        let tls = material.map(Replaceable::new);
        let present = Mutex::new(Present { auth, tls, number: 0 });
        Self { present, renewed: Notify::new(), in_use: watch::Sender::new(0) }
    }

    /// The newest one, and its number.
    pub(crate) fn newest(&self) -> (Auth, u64) {
        let present = self.present();
        (present.auth.clone(), present.number)
    }

    /// The number of the newest one.
    pub(crate) fn number(&self) -> u64 {
        self.present().number
    }

    /// What TLS is made of; read from the files where that was not done yet.
    pub(crate) async fn tls(&self, files: &Tls) -> Result<Arc<Replaceable>, ConnectError> {
        if let Some(tls) = &self.present().tls {
            return Ok(Arc::clone(tls));
        }
        let failed = |error: &dyn std::fmt::Display| ConnectError::Tls(error.to_string());
        let files = files.clone();
        let loaded = tokio::task::spawn_blocking(move || files.load()).await;
        let material = loaded.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        Ok(Arc::clone(self.present().tls.get_or_insert_with(|| Replaceable::new(material))))
    }

    /// Takes a new one, and gives its number.
    pub(crate) fn renew(&self, auth: Auth, material: Option<Material>) -> u64 {
        let mut present = self.present();
        present.auth = auth;
        if let Some(material) = material {
            match &present.tls {
                Some(tls) => tls.replace(material),
                None => present.tls = Some(Replaceable::new(material)),
            }
        }
        present.number += 1;
        self.renewed.notify_one();
        present.number
    }

    /// A connection that was made with this one is the present one now.
    pub(crate) fn note_in_use(&self, number: u64) {
        self.in_use.send_replace(number);
    }

    /// Waits until the present connection was made with this one, or a newer one.
    pub(crate) async fn used(&self, number: u64) {
        // The sender lives as long as this.
        let _ = self.in_use.subscribe().wait_for(|in_use| *in_use >= number).await;
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
