//! The only place that prints. A table for people, a body for machines, what went wrong on standard
//! error. A reader that went away (`| head`) is no fault: what cannot be written is dropped.
//!
//! What came over the wire moves no cursor and turns no text round ([`shown`](crate::telemetry::shown)).

use std::fmt;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use crate::telemetry::shown::{escaped, plain};

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// For people.
    #[must_use]
    pub fn people() -> Self {
        Self { json: false }
    }

    /// For machines if `json`, else for people.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether machines read.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Whether the reader of what was written went away: there is nobody left to tell.
    #[must_use]
    pub fn is_unread(self) -> bool {
        UNREAD.load(Ordering::Relaxed)
    }

    /// Why standard output does not have all that was written to it; `None` if it has, or if its reader went away.
    pub(super) fn unwritten(self) -> Option<&'static str> {
        UNWRITTEN.get().map(String::as_str)
    }

    /// A reply body, for machines only: one line.
    pub fn body(self, body: &Value) {
        if self.json {
            write_out(&escaped(&body.to_string()));
        }
    }

    /// One line of a file that programs read, whoever reads the output.
    pub fn text(self, line: &Value) {
        write_out(&escaped(&line.to_string()));
    }

    /// A document as it may be edited and put back, for people only.
    pub fn document(self, document: &Value) {
        if !self.json {
            write_out(&escaped(&format!("{document:#}")));
        }
    }

    /// A line for people only.
    pub fn line(self, line: &str) {
        if !self.json {
            write_out(&plain(line));
        }
    }

    /// A table for people only.
    pub fn table(self, table: &Table) {
        if !self.json {
            write_out(table.to_string().trim_end());
        }
    }

    /// What is worth knowing beside the result.
    pub fn note(self, line: &str) {
        write_err(&plain(line));
    }

    /// What went wrong.
    pub fn error(self, text: &str) {
        write_err(&format!(
            "beamline-router: {}",
            text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
        ));
    }
}

/// Of this process's one standard output.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// Why standard output does not have all that was written to it, where its reader did not just go away.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

fn write_out(text: &str) {
    if let Err(error) = writeln!(std::io::stdout().lock(), "{text}") {
        if error.kind() != ErrorKind::BrokenPipe {
            UNWRITTEN.get_or_init(|| error.to_string());
        }
        UNREAD.store(true, Ordering::Relaxed);
    }
}

fn write_err(text: &str) {
    let _gone = writeln!(std::io::stderr().lock(), "{text}");
}

/// Rows under headings, columns aligned.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the headings are dropped, missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().map(|cell| plain(&cell)).collect();
        cells.resize(self.headings.len(), String::new());
        self.rows.push(cells);
    }

    /// Adds a row for each entry of `entries`, with the fields named.
    pub fn rows(&mut self, entries: &[Value], fields: &[&str]) {
        for entry in entries {
            self.row(fields.iter().map(|field| shown(entry.get(field))));
        }
    }

    /// The scalar fields of a value as two columns; those of objects within it under dotted names.
    #[must_use]
    pub fn of_fields(value: &Value) -> Self {
        let mut table = Self::new(&["FIELD", "VALUE"]);
        table.fields("", value);
        table
    }

    fn fields(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                    self.fields(&name, value);
                }
            }
            value => self.row([name.to_owned(), shown(Some(value))]),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.headings.len();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(self.headings.get(column).map(|heading| heading.len())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let headings = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A value in a cell.
#[must_use]
pub fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Array(entries)) => {
            entries.iter().map(|entry| shown(Some(entry))).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}

/// A time given in milliseconds since the Unix epoch, to the second.
#[must_use]
pub fn moment(ms: &Value) -> Option<String> {
    let seconds = i64::try_from(ms.as_u64()? / 1_000).ok()?;
    time::OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

/// A switch in a cell.
#[must_use]
pub fn switched(value: Option<&Value>) -> String {
    match value {
        Some(Value::Bool(true)) => "on".to_owned(),
        Some(Value::Bool(false)) => "off".to_owned(),
        other => shown(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_blanks() {
        let mut table = Table::new(&["TENANT", "N"]);
        table.rows(&[json!({"t": "münchen-9", "n": 7}), json!({"t": "a"})], &["t", "n"]);
        assert_eq!(table.to_string(), "TENANT     N\nmünchen-9  7\na          -\n");
    }

    #[test]
    fn fields_of_fields_have_dotted_names() {
        let table =
            Table::of_fields(&json!({"state": "open", "settings": {"enabled": true}, "p": ["a", "b"]}));
        let text = table.to_string();
        for line in ["state             open", "settings.enabled  yes", "p                 a,b"] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
    }

    #[test]
    fn nothing_on_the_wire_moves_the_cursor() {
        let mut table = Table::new(&["X"]);
        table.row(["a\u{1b}[2Jb\n".to_owned()]);
        assert!(!table.to_string().contains('\u{1b}'));
        assert_eq!(table.to_string().lines().count(), 2);
    }
}
