//! Where variables come from: the process, or a map in a test.

use std::collections::BTreeMap;

/// The environment, as far as settings look at it.
pub trait Env {
    /// The variable's value. One that is set but empty counts as not set, since that is how compose
    /// files and shells pass on what nobody gave.
    ///
    /// # Errors
    /// When the value is no Unicode.
    fn var(&self, name: &str) -> Result<Option<String>, VarNotUnicode>;
}

/// The variable is set, but to bytes that are no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not valid Unicode")]
pub struct VarNotUnicode;

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnv;

impl Env for ProcessEnv {
    fn var(&self, name: &str) -> Result<Option<String>, VarNotUnicode> {
        match std::env::var(name) {
            Ok(value) => Ok(Some(value).filter(|v| !v.is_empty())),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(VarNotUnicode),
        }
    }
}

impl Env for BTreeMap<String, String> {
    fn var(&self, name: &str) -> Result<Option<String>, VarNotUnicode> {
        Ok(self.get(name).filter(|v| !v.is_empty()).cloned())
    }
}
