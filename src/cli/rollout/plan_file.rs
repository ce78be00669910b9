//! Plans in files: JSON, or YAML.
//!
//! A file becomes a JSON value and goes to the router as it is; whether it is a plan is the router's to say.
//! What JSON cannot hold, or what two readers of YAML may understand differently, is refused or stays text:
//! `no` is a text, as is `2026-11-20`; a name that occurs twice, a tag, and a second document are faults.

use std::path::Path;

use serde_json::Value;
use serde_saphyr::{Error, NonFiniteFloatPolicy, Options, UserMessageFormatter};

use crate::cli::policy_files::{self, FileFault};

/// An alias may repeat what it stands for. A plan of 1 MiB has fewer parts than this.
const MAX_REPEATED: usize = 100_000;

/// Reads the plan of a file or (`-`) of standard input.
///
/// # Errors
/// When it cannot be read, is longer than 1 MiB, or is neither JSON nor YAML.
pub(super) fn read(path: &Path) -> Result<Value, FileFault> {
    let text = policy_files::read(path)?;
    parse(path, &text)
}

/// The plan in the text of a file. Its extension says what it is; without one, what begins with a brace is JSON.
pub(super) fn parse(path: &Path, text: &str) -> Result<Value, FileFault> {
    let is_json = match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("json") => true,
        Some("yaml" | "yml") => false,
        _ => text.trim_start().starts_with('{'),
    };
    if is_json {
        return policy_files::json(path, text);
    }
    serde_saphyr::from_str_with_options(text, strict()).map_err(|error| fault(path, &error))
}

fn strict() -> Options {
    serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
        with_snippet: false,
    }
}

fn fault(path: &Path, error: &Error) -> FileFault {
    FileFault::unfit(path, format!("not YAML: {}", error.render_with_formatter(&UserMessageFormatter)))
}
