use std::fmt;

use crate::rollout::judge::LogE;

/// The longest text of a person that a page shows, in characters: as long as a command's reason may be.
const MAX_TEXT: usize = 1_024;
/// What Markdown gives a meaning inside a line or a cell of a table.
const MARKUP: &str = "\\`*_{}[]<>#|~&!$";

/// A text that a person wrote, as part of a line: markup has no effect, and it stays on its line. It must not be
/// the first thing of a block, where digits and dashes have a meaning too.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        if at >= MAX_TEXT {
            shown.push('…');
            break;
        }
        if c.is_whitespace() || c.is_control() {
            shown.push(' ');
        } else if is_invisible(c) {
            shown.push('\u{FFFD}');
        } else {
            if MARKUP.contains(c) {
                shown.push('\\');
            }
            shown.push(c);
        }
    }
    shown
}

/// Characters that are not seen, or that change the order in which others are shown.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// An id, or a word of this program. Neither holds a backtick.
pub(super) fn code(word: impl fmt::Display) -> String {
    format!("`{word}`")
}

/// Why a field has no value.
pub(super) fn no_data(why: &str) -> String {
    format!("no data: {why}")
}

/// `1 window`, `2 windows`.
pub(super) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// A number of thousandths in whole ones: `1234` is `1.234`.
pub(super) fn thousandths(number: u64) -> String {
    format!("{}.{:03}", number / 1_000, number % 1_000)
}

/// `part` of `whole` in percent, to the nearest thousandth of a percent.
pub(super) fn rate(part: u64, whole: u64) -> String {
    let (part, whole) = (u128::from(part), u128::from(whole));
    match (part * 100_000 + whole / 2).checked_div(whole) {
        Some(millis) => format!("{} %", thousandths(u64::try_from(millis).unwrap_or(u64::MAX))),
        None => no_data("no unit"),
    }
}

/// Evidence in nats, to the nearest thousandth.
pub(super) fn nats(log_e: LogE) -> String {
    billionths(log_e.0)
}

/// A number of billionths in whole ones, to the nearest thousandth; half goes away from zero.
fn billionths(number: i64) -> String {
    let thousandth = number.unsigned_abs().saturating_add(500_000) / 1_000_000;
    let sign = if number < 0 && thousandth > 0 { "-" } else { "" };
    format!("{sign}{}", thousandths(thousandth))
}

/// Why a table has no rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Empty<'w> {
    /// The stream does not hold what would be in it.
    NoData(&'w str),
    /// What would be in it did not happen.
    None(&'w str),
}

/// A page of Markdown that grows block by block.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A page with its heading.
    pub(super) fn new(title: &str) -> Self {
        Self(format!("# {title}\n"))
    }

    pub(super) fn section(&mut self, title: &str) {
        self.block(&format!("## {title}"));
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.block(&format!("### {title}"));
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.block(text);
    }

    /// Why a section has no content: the stream lacks it.
    pub(super) fn no_data(&mut self, why: &str) {
        self.block(&format!("No data: {why}."));
    }

    /// Why a section has no content: it did not happen.
    pub(super) fn none(&mut self, why: &str) {
        self.block(&format!("None: {why}."));
    }

    pub(super) fn list(&mut self, items: &[String]) {
        let lines: Vec<String> = items.iter().map(|item| format!("- {item}")).collect();
        self.block(&lines.join("\n"));
    }

    /// Code in a language, whose lines do not begin with backticks.
    pub(super) fn code(&mut self, language: &str, code: &str) {
        self.block(&format!("```{language}\n{code}\n```"));
    }

    /// Names and values.
    pub(super) fn facts(&mut self, rows: &[(&str, String)]) {
        let rows = rows.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]);
        self.table(&["", ""], rows, Empty::NoData("there are no facts"));
    }

    /// A table; where it has no rows, `empty` says why.
    pub(super) fn table(
        &mut self,
        head: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
        empty: Empty<'_>,
    ) {
        let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
        let rows: Vec<String> = rows.into_iter().map(|row| line(&row)).collect();
        if rows.is_empty() {
            match empty {
                Empty::NoData(why) => self.no_data(why),
                Empty::None(why) => self.none(why),
            }
            return;
        }
        let head_line = format!("| {} |", head.join(" | "));
        let rule = format!("|{}", "---|".repeat(head.len()));
        self.block(&format!("{head_line}\n{rule}\n{}", rows.join("\n")));
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn block(&mut self, text: &str) {
        self.0.push('\n');
        self.0.push_str(text);
        self.0.push('\n');
    }
}
