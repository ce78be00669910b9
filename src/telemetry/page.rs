//! A page of OpenMetrics text, for what has so many series that it matters how they are written.
//!
//! The library writes a series label by label through a writer that it cannot see into; for the
//! breakers of thousands of tenants that is most of what a scrape costs. Here a line is five pieces of
//! text copied one after the other: the labels that a breaker's series have in common are written out
//! once a page, those of a family once for all.

use std::fmt::Write as _;

use super::names::Family;

/// How a family is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// The text so far, and the family that is being written.
#[derive(Debug)]
pub(super) struct Page<'p> {
    text: &'p mut String,
    name: &'static str,
}

impl<'p> Page<'p> {
    pub(super) const fn new(text: &'p mut String) -> Self {
        Self { text, name: "" }
    }

    /// Begins a family: the series that follow are its own.
    pub(super) fn family(&mut self, family: Family, kind: Kind) {
        let shown = family.name.strip_suffix("_total").unwrap_or(family.name);
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        for part in ["# HELP ", shown, " ", family.help, ".\n# TYPE ", shown, " ", kind, "\n"] {
            self.text.push_str(part);
        }
        if let Some(unit) = family.unit() {
            for part in ["# UNIT ", shown, " ", unit.as_str(), "\n"] {
                self.text.push_str(part);
            }
        }
        self.name = family.name;
    }

    /// A series without labels.
    pub(super) fn alone(&mut self, value: u64) {
        self.text.push_str(self.name);
        self.text.push(' ');
        self.whole_number(value);
    }

    /// A series with a whole number. `owner` is from [`owner`], `own` from [`own`].
    pub(super) fn whole(&mut self, owner: &str, own: &str, value: u64) {
        self.labels(owner, own);
        self.whole_number(value);
    }

    /// A series with a number that may have a fraction.
    pub(super) fn real(&mut self, owner: &str, own: &str, value: f64) {
        self.labels(owner, own);
        if value == 0.0 {
            self.text.push_str("0.0\n");
        } else {
            // A string takes whatever is written to it.
            let _ = writeln!(self.text, "{value:?}");
        }
    }

    fn labels(&mut self, owner: &str, own: &str) {
        for part in [self.name, owner, own, "} "] {
            self.text.push_str(part);
        }
    }

    fn whole_number(&mut self, value: u64) {
        // Most of what breakers tell.
        if value == 0 {
            self.text.push_str("0\n");
        } else {
            let _ = writeln!(self.text, "{value}");
        }
    }
}

/// The labels that all series of a breaker begin with, the closing brace left off.
pub(super) fn owner(tenant_id: &str, provider_id: &str) -> String {
    let mut text = String::with_capacity(tenant_id.len() + provider_id.len() + 32);
    text.push_str("{tenant_id=\"");
    escape(&mut text, tenant_id);
    text.push_str("\",provider_id=\"");
    escape(&mut text, provider_id);
    text.push('"');
    text
}

/// The label that all series of a thing with one id begin with, the closing brace left off.
pub(super) fn owner_of(key: &str, id: &str) -> String {
    let mut text = format!("{{{key}=\"");
    escape(&mut text, id);
    text.push('"');
    text
}

/// The labels that follow those of the owner; their values need no escape.
pub(super) fn own(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in labels {
        let _ = write!(text, ",{key}=\"{value}\"");
    }
    text
}

/// Ids hold nothing that needs it; should that change, the page stays readable.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::names::metric;

    #[test]
    fn a_family_has_its_head_and_its_series() {
        let mut text = String::new();
        let mut page = Page::new(&mut text);
        let owner = owner("a\\b\nc", "d\"e");
        page.family(metric::BREAKER_EVENTS, Kind::Counter);
        page.whole(&owner, &own(&[("event_type", "late")]), 10_000_000_000);
        page.whole(&owner, "", 0);
        page.family(metric::BREAKER_TIMEOUT_REMAINING, Kind::Gauge);
        page.real(&owner, "", 1.5);
        page.real(&owner, "", 0.0);
        page.real(&owner, "", 0.000_001);
        page.family(metric::HIDDEN_BREAKERS, Kind::Gauge);
        page.alone(7);
        let name = "router_circuit_breaker_timeout_remaining_seconds";
        let labels = r#"{tenant_id="a\\b\nc",provider_id="d\"e""#;
        let lines = [
            "# HELP router_circuit_breaker_events What breakers saw, by event.".to_owned(),
            "# TYPE router_circuit_breaker_events counter".to_owned(),
            format!("router_circuit_breaker_events_total{labels},event_type=\"late\"}} 10000000000"),
            format!("router_circuit_breaker_events_total{labels}}} 0"),
            format!("# HELP {name} {}.", metric::BREAKER_TIMEOUT_REMAINING.help),
            format!("# TYPE {name} gauge"),
            format!("# UNIT {name} seconds"),
            format!("{name}{labels}}} 1.5"),
            format!("{name}{labels}}} 0.0"),
            format!("{name}{labels}}} 1e-6"),
            format!("# HELP router_metrics_hidden_breakers {}.", metric::HIDDEN_BREAKERS.help),
            "# TYPE router_metrics_hidden_breakers gauge".to_owned(),
            "router_metrics_hidden_breakers 7".to_owned(),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }
}
