//! Who a client is to the broker.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde::Serialize;

use crate::info::ServerInfo;

/// Who a client is.
#[derive(Clone, Default)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user.
    User {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// A user's JWT and the key that proves it.
    Credentials(Credentials),
    /// A key alone.
    NKey(Seed),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secrets are shown nowhere.
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::User { .. } => "User",
            Self::Token(_) => "Token",
            Self::Credentials(_) => "Credentials",
            Self::NKey(_) => "NKey",
        })
    }
}

/// The key that signs a server's nonce.
#[derive(Clone)]
pub struct Seed(Arc<KeyPair>);

/// The content of a credentials file.
#[derive(Clone)]
pub struct Credentials {
    jwt: String,
    seed: Seed,
}

/// Why credentials cannot be used. It repeats nothing of them.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// A part is missing.
    #[error("the file has no {0}")]
    Missing(&'static str),
    /// The seed is no seed of a user's key.
    #[error("the seed is no valid nkey seed")]
    Seed,
}

impl Seed {
    /// A key from its seed, `SU…`.
    ///
    /// # Errors
    /// [`CredentialsError::Seed`].
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        KeyPair::from_seed(text.trim()).map(|pair| Self(Arc::new(pair))).map_err(|_| CredentialsError::Seed)
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> String {
        self.0.public_key()
    }

    fn sign(&self, nonce: &str) -> Option<String> {
        self.0.sign(nonce.as_bytes()).ok().map(|signature| BASE64URL_NOPAD.encode(&signature))
    }
}

impl Credentials {
    /// Reads a credentials file.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// The user's JWT.
    #[must_use]
    pub fn jwt(&self) -> &str {
        &self.jwt
    }

    /// A signature of a server's nonce; none if the key cannot sign.
    #[must_use]
    pub fn sign(&self, nonce: &[u8]) -> Option<Vec<u8>> {
        self.seed.0.sign(nonce).ok()
    }

    /// The text of a credentials file: two blocks, of which the lines around tell the kind.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let mut blocks = blocks(text);
        let jwt = blocks.next().ok_or(CredentialsError::Missing("user JWT"))?.to_owned();
        let seed = Seed::parse(blocks.next().ok_or(CredentialsError::Missing("nkey seed"))?)?;
        Ok(Self { jwt, seed })
    }
}

/// The line behind each opening line, `-----BEGIN …-----`.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().map(str::trim);
    std::iter::from_fn(move || {
        lines.find(|line| line.starts_with("---") && line.contains("BEGIN"))?;
        lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("---"))
    })
}

/// The part of CONNECT that says who we are.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Proof {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

impl Auth {
    /// The proof for a server.
    pub(crate) fn proof(&self, info: &ServerInfo) -> Proof {
        let none = Proof::default;
        match self {
            Self::Anonymous => none(),
            Self::User { name, password } => {
                Proof { user: Some(name.clone()), pass: Some(password.clone()), ..none() }
            }
            Self::Token(token) => Proof { auth_token: Some(token.clone()), ..none() },
            Self::Credentials(Credentials { jwt, seed }) => {
                Proof { jwt: Some(jwt.clone()), sig: seed.sign(&info.nonce), ..none() }
            }
            Self::NKey(seed) => {
                Proof { nkey: Some(seed.public_key()), sig: seed.sign(&info.nonce), ..none() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.e30.x\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn a_credentials_file_signs_the_nonce() {
        let pair = KeyPair::new_user();
        let credentials = Credentials::parse(&file(&pair.seed().unwrap())).unwrap();
        let info = ServerInfo { nonce: "n0nce".to_owned(), ..ServerInfo::default() };
        let proof = Auth::Credentials(credentials).proof(&info);
        assert_eq!(proof.jwt.as_deref(), Some("eyJ0.e30.x"));
        let signature = BASE64URL_NOPAD.decode(proof.sig.unwrap().as_bytes()).unwrap();
        assert!(pair.verify(b"n0nce", &signature).is_ok());
        let key = Auth::NKey(Seed::parse(&pair.seed().unwrap()).unwrap()).proof(&info);
        assert_eq!((key.nkey, key.jwt), (Some(pair.public_key()), None));
    }

    #[test]
    fn what_is_no_credentials_file_is_said_without_its_content() {
        let told = |text: &str| Credentials::parse(text).err().unwrap().to_string();
        assert_eq!(told(""), "the file has no user JWT");
        assert_eq!(told("-----BEGIN NATS USER JWT-----\nx\n"), "the file has no nkey seed");
        assert_eq!(told(&file("SUSECRET")), "the seed is no valid nkey seed");
        assert_eq!(format!("{:?}", Auth::Token("secret".to_owned())), "Token");
    }
}
