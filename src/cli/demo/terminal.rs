//! The live picture. Only this file writes what moves a cursor.
//!
//! The picture stands on the terminal's second screen, so that what was there before comes back as it
//! was. Each frame is one write that overwrites the last one in place, line by line, and asks a terminal
//! that knows how to show it at once: nothing is cleared first, so nothing flickers.

use std::io::{IsTerminal as _, Write as _};
use std::process::Stdio;

use tokio::process::Command;
use tokio::task::JoinHandle;

use super::frame::Size;
use super::line::Line;

/// Second screen, no cursor, no wrapping of long lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// From here on, and until the end, show nothing in between (synchronised output).
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[J\x1b[?2026l";
const END_OF_LINE: &str = "\x1b[K";

/// What a terminal that does not tell is taken for.
const USUAL: Size = Size { rows: 24, columns: 80 };

/// The terminal, taken over; dropped, it is given back.
#[derive(Debug)]
pub(super) struct Terminal {
    size: Size,
    color: bool,
    /// What bars are made of.
    pub(super) bar: char,
    /// The write under way: a terminal that is stopped (Ctrl-S) must not stop the demo.
    writing: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Takes the terminal over, if the output is one that can move a cursor.
    pub(super) async fn take() -> Option<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let term = set("TERM").filter(|term| term != "dumb");
        if term.is_none() || !std::io::stdout().is_terminal() {
            return None;
        }
        let charset = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let unicode = charset.to_ascii_lowercase().replace('-', "").ends_with("utf8");
        let terminal = Self {
            size: size().await,
            color: set("NO_COLOR").is_none(),
            bar: if unicode { '█' } else { '#' },
            writing: None,
        };
        write(ENTER);
        Some(terminal)
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Asks for the size anew.
    pub(super) async fn resized(&mut self) {
        self.size = size().await;
    }

    /// Shows a picture; left out if the last one is still being written.
    pub(super) fn show(&mut self, lines: Vec<Line>) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        let lines = lines.into_iter().map(|line| line.rendered(self.size.columns, self.color) + END_OF_LINE);
        let frame = format!("{BEGIN}{}{END}", lines.collect::<Vec<_>>().join("\r\n"));
        self.writing = Some(tokio::task::spawn_blocking(move || write(&frame)));
    }

    /// Gives the terminal back, after the last picture.
    pub(super) async fn give_back(mut self) {
        if let Some(writing) = self.writing.take() {
            let _written = writing.await;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        write(LEAVE);
    }
}

/// A terminal that went away is no fault.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Asked of `stty`: the standard library cannot tell.
async fn size() -> Size {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return USUAL };
    let mut stty = Command::new("stty");
    stty.arg("size").stdin(terminal).stderr(Stdio::null()).kill_on_drop(true);
    let told = stty.output().await.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    told.ok().and_then(|told| parsed(&told)).unwrap_or(USUAL)
}

fn parsed(told: &str) -> Option<Size> {
    let (rows, columns) = told.trim().split_once(' ')?;
    let size = Size { rows: rows.parse().ok()?, columns: columns.parse().ok()? };
    // A terminal of no size is one that nobody set.
    (size.rows > 0 && size.columns > 0).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rows_and_columns() {
        assert_eq!(parsed("40 120\n"), Some(Size { rows: 40, columns: 120 }));
        for told in ["", "0 0\n", "40", "a b", "stty: not a tty"] {
            assert_eq!(parsed(told), None, "{told}");
        }
    }
}
