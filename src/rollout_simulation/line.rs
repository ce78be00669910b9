use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::{PolicyId, Stamp, TenantId};
use crate::log::{Entry, Fate, FlagEntry, PolicyEntry, TallyEntry};
use crate::policy;
use crate::rollout::controller::{JUDGE_VERSION, Verb};
use crate::wire;

/// One line of a file of entries.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// Its stamp.
    pub at: Stamp,
    /// What it says.
    pub content: Content<'a>,
}

/// What a line says.
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// An entry, as the log has it.
    Entry(Box<Entry<'a>>),
    /// A request that a worker answered.
    Request(RequestLine),
    /// An operator's command to the rollout.
    Command(Box<CommandLine>),
}

/// A request that a worker answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestLine {
    /// Whose.
    pub tenant_id: TenantId,
    /// The policy that decided.
    pub policy_id: PolicyId,
    /// Its id.
    pub request_id: String,
    /// What became of it, if it met a breaker that was not closed.
    #[serde(default)]
    pub met: Option<Fate>,
    /// Whether it reported how an attempt before ended.
    #[serde(default)]
    pub retry: bool,
}

/// An operator's command to the rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What.
    pub verb: Verb,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Incoming<'a> {
    at: At,
    kind: String,
    #[serde(borrow)]
    entry: Option<&'a RawValue>,
    identity: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a time in RFC 3339, or milliseconds since the Unix epoch")]
enum At {
    Ms(u64),
    Text(String),
}

impl<'a> Line<'a> {
    /// Reads a line; `number` is its place in the file, from 1.
    ///
    /// # Errors
    /// The first fault, which names the field.
    pub fn parse(number: u64, text: &'a str) -> Result<Self, String> {
        if !text.starts_with('{') {
            return Err("want a JSON object".to_owned());
        }
        let Incoming { at, kind, entry, identity } =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        if identity.is_some() && kind != "result" {
            return Err("identity: only a result has one".to_owned());
        }
        let raw = match entry {
            Some(entry) => entry.get(),
            None if kind == "mark" => "null",
            None => return Err("entry: is missing".to_owned()),
        };
        let at = match at {
            At::Ms(ms) => Stamp(ms),
            At::Text(text) => parse_moment(&text).map_err(|fault| format!("at: {fault}"))?,
        };
        let content = content(number, &kind, raw, identity);
        Ok(Self { at, content: content.map_err(|fault| format!("entry: {fault}"))? })
    }
}

/// Reads a time in RFC 3339.
///
/// # Errors
/// What is wrong with it.
pub fn parse_moment(text: &str) -> Result<Stamp, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|error| format!("want RFC 3339: {error}"))?;
    let ms = time.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(ms).map(Stamp).map_err(|_| "is before 1970".to_owned())
}

fn content<'a>(number: u64, kind: &str, raw: &'a str, identity: Option<u64>) -> Result<Content<'a>, String> {
    let entry = match kind {
        "result" => {
            let decoded = wire::decode_result(wire::Content::Json, raw.as_bytes(), None);
            let mut outcome = decoded.map_err(|reject| reject.to_string())?;
            outcome.identity = identity.unwrap_or(outcome.identity);
            Entry::Result(outcome)
        }
        "policy" => Entry::Policy(policy_entry(number, raw)?),
        "flag" => Entry::Flag(with_defaults::<FlagEntry>(raw, &revision(number))?),
        "tally" => {
            let defaults = [("position", json!(0)), ("enforcing", json!(true))];
            Entry::Tally(with_defaults::<TallyEntry>(raw, &defaults)?)
        }
        "ended" => Entry::Ended(read(raw)?),
        "claim" => Entry::Claim(read(raw)?),
        "release" => Entry::Release(read(raw)?),
        "force" => Entry::Force(read(raw)?),
        "reset" => Entry::Reset(read(raw)?),
        "met" => Entry::Met(read(raw)?),
        "mark" => Entry::Mark,
        "request" => return Ok(Content::Request(with_defaults(raw, &[default_policy()])?)),
        "command" => return Ok(Content::Command(Box::new(command(raw)?))),
        "step" | "fold_version" => return Err(format!("a simulation makes its own {kind}")),
        _ => return Err(format!("there is no kind {kind:?}")),
    };
    Ok(Content::Entry(Box::new(entry)))
}

fn read<'a, T: Deserialize<'a>>(raw: &'a str) -> Result<T, String> {
    serde_json::from_str(raw).map_err(|error| error.to_string())
}

/// What a hand-made entry may leave out.
fn with_defaults<T: DeserializeOwned>(raw: &str, defaults: &[(&str, Value)]) -> Result<T, String> {
    let mut fields: Map<String, Value> = read(raw)?;
    for (name, value) in defaults {
        fields.entry(*name).or_insert_with(|| value.clone());
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

/// A later line is a newer revision.
fn revision(number: u64) -> [(&'static str, Value); 2] {
    [("created", json!(0)), ("revision", json!(number))]
}

fn policy_entry(number: u64, raw: &str) -> Result<PolicyEntry, String> {
    let [created, revision] = revision(number);
    let defaults = [created, revision, default_policy()];
    let entry: PolicyEntry = with_defaults(raw, &defaults)?;
    if let Some(document) = &entry.document
        && let Err(faults) = policy::parse(document)
    {
        let fault =
            faults.first().map(|fault| format!("{}: {}", fault.path, fault.message)).unwrap_or_default();
        return Err(format!("policy {}/{}: {fault}", entry.tenant_id, entry.policy_id));
    }
    Ok(entry)
}

fn command(raw: &str) -> Result<CommandLine, String> {
    let mut fields: Map<String, Value> = read(raw)?;
    let mut text = |name: &str| match fields.remove(name) {
        None => Ok("simulation".to_owned()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("{name}: want a string")),
    };
    let (actor, reason) = (text("actor")?, text("reason")?);
    match fields.get("verb").and_then(Value::as_str) {
        Some("start") => _ = fields.entry("judge").or_insert_with(|| json!(JUDGE_VERSION)),
        Some("graduate") => return Err("verb: a simulation writes no documents".to_owned()),
        _ => {}
    }
    let verb = serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
    Ok(CommandLine { actor, reason, verb })
}

fn default_policy() -> (&'static str, Value) {
    ("policy_id", json!("default"))
}
