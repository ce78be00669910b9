//! How the answers about a plan look: `lint` and `plan`.

use std::path::Path;

use serde_json::Value;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, Table, shown};
use crate::cli::shell::{Session, entries};

use super::words::{age, grouped};

/// The word of a phase whose tenants have too little traffic for it to pass.
const TOO_LITTLE_TRAFFIC: &str = "too_little_traffic";

/// Tenants of a phase that are named.
const MOST_NAMED: usize = 20;

/// A plan without faults, and what each phase needs.
pub(super) fn lint(session: &Session, file: &Path, answer: &Value) -> Result<(), Failure> {
    let out = session.out;
    let phases = entries(answer, "phases");
    out.body(answer);
    out.table(&needs(&phases));
    session.warn(answer);
    if cannot_pass(&phases) {
        out.note(&format!(
            "{}: a phase cannot pass within its max: its tenants have too few requests",
            file.display()
        ));
        return Err(Failure::Told(Exit::Refused));
    }
    out.line(&format!("{}: no faults", file.display()));
    Ok(())
}

pub(super) fn cannot_pass(phases: &[Value]) -> bool {
    phases.iter().any(|phase| phase.get("verdict").and_then(Value::as_str) == Some(TOO_LITTLE_TRAFFIC))
}

pub(super) fn needs(phases: &[Value]) -> Table {
    let mut table = Table::new(&["PHASE", "REQUESTS A MINUTE", "REQUESTS NEEDED", "TIME NEEDED", "VERDICT"]);
    for phase in phases {
        let number = |field: &str| phase.get(field).and_then(Value::as_u64);
        let rate = number("milli_per_minute").map(|milli| format!("{}.{:03}", milli / 1_000, milli % 1_000));
        let time = number("needed_ms").map(age);
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let needed = or_none(number("units_needed").map(grouped));
        let verdict = shown(phase.get("verdict"));
        table.row([shown(phase.get("phase")), or_none(rate), needed, or_none(time), verdict]);
    }
    table
}

/// Who would be treated.
pub(super) fn tenants(out: Output, answer: &Value) -> Result<(), Failure> {
    let unmet = entries(answer, "unmet");
    out.body(answer);
    out.table(&chosen(&entries(answer, "phases")));
    for phase in &unmet {
        let (name, why) = (shown(phase.get("phase")), shown(phase.get("why")));
        out.note(&format!("phase {name} does not find its tenants: {why}"));
    }
    if unmet.is_empty() { Ok(()) } else { Err(Failure::Told(Exit::Refused)) }
}

pub(super) fn chosen(phases: &[Value]) -> Table {
    let mut table = Table::new(&["PHASE", "TENANTS", "NAMES"]);
    for phase in phases {
        let tenants = entries(phase, "tenants");
        let named: Vec<String> = tenants.iter().take(MOST_NAMED).map(|id| shown(Some(id))).collect();
        let more = match tenants.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let names = if named.is_empty() { "-".to_owned() } else { format!("{}{more}", named.join(", ")) };
        table.row([shown(phase.get("phase")), tenants.len().to_string(), names]);
    }
    table
}
