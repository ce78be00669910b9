//! Credentials and certificates, as operators of a broker make them.

use std::path::PathBuf;

use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A JWT, signed as NATS wants it; `claims` go beside those that every one has.
pub(crate) fn jwt(
    issuer: &KeyPair,
    subject: &KeyPair,
    name: &str,
    nats: Value,
    expires: Option<u64>,
) -> String {
    let encode = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let mut claims = json!({
        "jti": "x", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name,
        "nats": nats,
    });
    if let Some(expires) = expires {
        claims["exp"] = expires.into();
    }
    let signed = format!("{}.{}", encode(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), encode(&claims));
    let signature = data_encoding::BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// The text of a credentials file.
pub(crate) fn credentials_file(jwt: &str, user: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}

/// An operator with an account for routers, one that imports the control verbs from it, and the system account that
/// JetStream wants then.
pub(crate) struct Operator {
    operator: KeyPair,
    system: KeyPair,
    routers: KeyPair,
    people: KeyPair,
}

const CONTROL: &str = "beamline.router.control.v1.>";

impl Operator {
    pub(crate) fn new() -> Self {
        let account = KeyPair::new_account;
        Self { operator: KeyPair::new_operator(), system: account(), routers: account(), people: account() }
    }

    /// Lines for the broker's configuration.
    pub(crate) fn config(&self) -> String {
        // Of all but the routers': the system account must not have JetStream.
        let plain = json!({
            "type": "account", "version": 2,
            "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1,
            },
        });
        let (mut routers, mut people) = (plain.clone(), plain.clone());
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            routers["limits"][limit] = json!(-1);
        }
        routers["exports"] = json!([{"name": "control", "subject": CONTROL, "type": "service"}]);
        people["imports"] = json!([{
            "name": "control", "subject": CONTROL, "type": "service", "account": self.routers.public_key(),
            "share": true,
        }]);
        let operator = json!({"type": "operator", "version": 2});
        let accounts = [(&self.system, plain), (&self.routers, routers), (&self.people, people)];
        let accounts = accounts.map(|(account, claims)| {
            format!("{}: {}", account.public_key(), jwt(&self.operator, account, "A", claims, None))
        });
        format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {} }}",
            jwt(&self.operator, &self.operator, "O", operator, None),
            self.system.public_key(),
            accounts.join(", "),
        )
    }

    /// The text of a credentials file for a new user of the routers' account, which may expire (seconds since 1970).
    pub(crate) fn credentials(&self, expires: Option<u64>) -> String {
        Self::user_of(&self.routers, &KeyPair::new_user(), expires)
    }

    /// The same for a person.
    pub(crate) fn credentials_of(&self, person: &KeyPair) -> String {
        Self::user_of(&self.people, person, None)
    }

    /// The account that people are in.
    pub(crate) fn people(&self) -> String {
        self.people.public_key()
    }

    fn user_of(account: &KeyPair, user: &KeyPair, expires: Option<u64>) -> String {
        let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        credentials_file(&jwt(account, user, "U", claims, expires), user)
    }
}

/// Certificates of one authority, in a folder.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let authority = Self { folder, issuer: rcgen::Issuer::new(params, key) };
        authority.certify("server", "localhost");
        authority.certify("client", "router");
        authority
    }

    /// Writes a new certificate and its key.
    pub(crate) fn certify(&self, name: &str, of: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![of.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
