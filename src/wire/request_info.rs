//! What the broker says of a request's sender, in the header `Nats-Request-Info`.
//!
//! A server writes it when a request goes through a service import, and takes away what the sender wrote under that
//! name. Three things are left to a sender, as nats-server 2.15 has it, and none may make another identity:
//!
//! - The same name in other letters, or behind a line end without CR, stays in the block. The server's header is the
//!   last one, and only the last one is read.
//! - A block that does not end with an empty line is taken too. What the server writes then continues the sender's last
//!   line, and the last header is none of that name.
//! - `user` is the `nkey` that a client names, before its user and before its JWT, and a server that has no user with
//!   an nkey does not look at it. Of a JWT the server has verified the signature: there its subject is the user. An
//!   account of that kind is known by its name, a public key.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use crate::domain::Authenticated;

/// The header.
pub const REQUEST_INFO: &str = "Nats-Request-Info";
/// No account or user has a longer name.
const MAX_NAME: usize = 255;

#[derive(Deserialize)]
struct RequestInfo {
    #[serde(default)]
    acc: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    jwt: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    iss: String,
    nats: UserClaims,
}

#[derive(Deserialize)]
struct UserClaims {
    #[serde(default)]
    issuer_account: String,
}

/// Who sent a request with these headers, in their order. None where the broker did not say so.
#[must_use]
pub fn authenticated<'h>(headers: impl Iterator<Item = (&'h str, &'h str)>) -> Option<Authenticated> {
    let (name, value) = headers.last()?;
    if name != REQUEST_INFO {
        return None;
    }
    let RequestInfo { acc: account, user, jwt } = serde_json::from_str(value).ok()?;
    let is_named = |text: &str| (1..=MAX_NAME).contains(&text.len());
    if !is_named(&account) {
        return None;
    }
    let user = if is_public_key(&account) { subject_of(&jwt, &account) } else { Some(user) };
    Some(Authenticated { account, user: user.filter(|user| is_named(user)) })
}

/// The name of an account whose users have JWTs.
fn is_public_key(account: &str) -> bool {
    account.len() == 56
        && account.starts_with('A')
        && account.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'2'..=b'7'))
}

/// The user whose JWT this is, if it is one of the account.
fn subject_of(jwt: &str, account: &str) -> Option<String> {
    let claims = jwt.split('.').nth(1)?;
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?;
    let Claims { sub, iss, nats } = serde_json::from_slice(&claims).ok()?;
    (iss == account || nats.issuer_account == account).then_some(sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(headers: &[(&str, &str)]) -> Option<String> {
        authenticated(headers.iter().copied()).map(|who| who.to_string())
    }

    #[test]
    fn the_last_header_says_who_it_was() {
        let info = r#"{"start":"2026-11-28T04:07:05.1Z","acc":"OPS","user":"alice","name":"n","rtt":418806}"#;
        assert_eq!(told(&[("a", "b"), (REQUEST_INFO, info)]).as_deref(), Some("OPS/alice"));
        let unshared = r#"{"acc":"OPS","rtt":418806}"#;
        assert_eq!(told(&[(REQUEST_INFO, unshared)]).as_deref(), Some("OPS"));
    }

    #[test]
    fn what_a_sender_can_write_is_not_believed() {
        let (real, forged) = (r#"{"acc":"OPS","user":"alice"}"#, r#"{"acc":"OPS","user":"forged"}"#);
        let other = "nats-request-info";
        assert_eq!(told(&[(other, forged), (REQUEST_INFO, real)]).as_deref(), Some("OPS/alice"));
        assert_eq!(told(&[(REQUEST_INFO, forged), (REQUEST_INFO, real)]).as_deref(), Some("OPS/alice"));
        let swallowed = format!("a{REQUEST_INFO}: {real}");
        let both = format!("{forged}{REQUEST_INFO}: {real}");
        let within = format!(r#"{{"acc":"OPS","user":"forged","x":"{REQUEST_INFO}: {real}"#);
        for headers in [
            [(REQUEST_INFO, forged), ("x", &*swallowed)],
            [("x", "y"), (other, forged)],
            [("x", "y"), (REQUEST_INFO, &*both)],
            [("x", "y"), (REQUEST_INFO, &*within)],
            [("x", "y"), (REQUEST_INFO, "")],
            [("x", "y"), (REQUEST_INFO, r#"{"user":"alice"}"#)],
        ] {
            assert_eq!(told(&headers), None, "{headers:?}");
        }
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn of_an_account_with_a_key_the_jwt_says_who_it_was() {
        let account = format!("A{}", "B".repeat(55));
        let jwt = |claims: &str| format!("e30.{}.sig", BASE64URL_NOPAD.encode(claims.as_bytes()));
        let info = |jwt: &str| format!(r#"{{"acc":"{account}","user":"forged","jwt":"{jwt}"}}"#);
        let told = |jwt: &str| told(&[(REQUEST_INFO, &info(jwt))]).unwrap();
        let own = jwt(&format!(r#"{{"sub":"UALICE","iss":"{account}","nats":{{"type":"user"}}}}"#));
        assert_eq!(told(&own), format!("{account}/UALICE"));
        let signing =
            jwt(&format!(r#"{{"sub":"UBOB","iss":"ASIGN","nats":{{"issuer_account":"{account}"}}}}"#));
        assert_eq!(told(&signing), format!("{account}/UBOB"));
        for other in ["", "a.b", &jwt("{}"), &jwt(r#"{"sub":"UEVE","iss":"AOTHER","nats":{}}"#)] {
            assert_eq!(told(other), account, "{other}");
        }
    }
}
