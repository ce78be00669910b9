//! The report as a Markdown file.

use std::fmt::Write as _;

use super::report::{Report, number};

impl Report {
    /// The whole report.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let verdict = if self.passed() { "passed" } else { "NOT PASSED" };
        writeln!(text, "# Load scenarios: {verdict}\n")?;
        writeln!(text, "{}; {} run, {}.", self.began, self.length, self.ran_on())?;
        for section in &self.sections {
            writeln!(text, "\n## {}\n", section.headline())?;
            writeln!(text, "{}\n", section.meaning)?;
            let bounds = section.bounds.iter().map(|b| {
                let kept = if b.kept { "yes" } else { "**no**" };
                [b.what.as_str(), &b.wanted, &b.found, kept].map(str::to_owned).to_vec()
            });
            table(text, &["bound", "wanted", "found", "kept"], bounds)?;
            if !section.figures.is_empty() {
                writeln!(text)?;
                let figures = section.figures.iter().map(|f| vec![f.means.clone(), number(f.value)]);
                table(text, &["figure", ""], figures)?;
            }
            for grid in &section.tables {
                writeln!(text, "\n{}:\n", grid.title)?;
                let headings: Vec<String> = grid.headings.iter().map(|h| h.to_lowercase()).collect();
                let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
                table(text, &headings, grid.rows.iter().cloned())?;
            }
        }
        if !self.drained {
            writeln!(text, "\n**Not every worker drained and ended with exit status 0.**")?;
        }
        Ok(())
    }
}

fn table(text: &mut String, headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> std::fmt::Result {
    writeln!(text, "| {} |\n|{}", headings.join(" | "), "---|".repeat(headings.len()))?;
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        writeln!(text, "| {} |", cells.join(" | "))?;
    }
    Ok(())
}
