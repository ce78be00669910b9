//! Reads settings one by one and collects what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;

use super::env::Env;
use super::keys::{Key, Kind};

/// What was given by flags, by the flag's name.
#[derive(Clone, Debug, Default)]
pub(super) struct Given(pub(super) BTreeMap<&'static str, Vec<String>>);

/// A setting that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// The environment twin.
    pub env: &'static str,
    /// What is wrong; never the value of a setting that may hold a secret.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{} ({}): {}", self.flag, self.env, self.message)
    }
}

/// All that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsFaults(pub Vec<Fault>);

impl fmt::Display for SettingsFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("a setting cannot be used")?,
            n => write!(f, "{n} settings cannot be used")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for SettingsFaults {}

/// The fault has been collected already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told;

/// Reads settings: flag, else variable, else default.
pub(super) struct Reader<'a> {
    given: &'a Given,
    env: &'a dyn Env,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(given: &'a Given, env: &'a dyn Env) -> Self {
        Self { given, env, faults: Vec::new() }
    }

    /// Collects a fault.
    pub(super) fn fault(&mut self, key: &Key, message: impl Into<String>) -> Told {
        self.faults.push(Fault { flag: key.flag, env: key.env, message: message.into() });
        Told
    }

    /// A setting that has a default.
    pub(super) fn read<T>(
        &mut self,
        key: &Key,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Told> {
        match self.text(key)? {
            Some(text) => self.parse(key, &text, parse),
            None => self.parse(key, key.default_text(), parse),
        }
    }

    /// A setting that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &Key,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Told> {
        match self.text(key)? {
            Some(text) => self.parse(key, &text, parse).map(Some),
            None => Ok(None),
        }
    }

    /// A setting of several values; each is looked at, whatever the others are.
    pub(super) fn list<T>(
        &mut self,
        key: &Key,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Told> {
        let values = match self.given.0.get(key.flag) {
            Some(values) => values.clone(),
            None => {
                let text = self.text(key)?.unwrap_or_default();
                text.split(',').map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect()
            }
        };
        let parsed: Vec<_> = values.iter().map(|text| self.parse(key, text, &parse)).collect();
        parsed.into_iter().collect()
    }

    fn text(&mut self, key: &Key) -> Result<Option<String>, Told> {
        if let Some(text) = self.given.0.get(key.flag).and_then(|values| values.last()) {
            return Ok(Some(text.clone()));
        }
        self.env.var(key.env).map_err(|fault| self.fault(key, fault.to_string()))
    }

    fn parse<T>(
        &mut self,
        key: &Key,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Told> {
        parse(text).map_err(|message| match key.kind {
            Kind::Secret => self.fault(key, message),
            // Enough to find it, not so much that a pasted file fills the screen.
            Kind::Value | Kind::Switch | Kind::List => {
                let shown: String = text.chars().take(64).collect();
                self.fault(key, format!("{shown:?}: {message}"))
            }
        })
    }

    /// What was assembled, if nothing was wrong.
    pub(super) fn finish<T>(self, assembled: Result<T, Told>) -> Result<T, SettingsFaults> {
        match assembled {
            Ok(settings) if self.faults.is_empty() => Ok(settings),
            _ => Err(SettingsFaults(self.faults)),
        }
    }
}
