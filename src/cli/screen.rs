//! The terminal while it is taken over.
//!
//! Whatever ends the program gives the terminal back first: a key, a signal, a fault, a panic.

use std::io::{IsTerminal as _, stdout};

use ratatui::{DefaultTerminal, Frame};

/// The terminal, taken over; dropped, it is given back.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// What is wrong with the terminal.
    pub(super) fn take() -> std::io::Result<Self> {
        // It also sets the hook that gives the terminal back before a panic is told.
        ratatui::try_init().map(Self)
    }

    /// Draws a picture.
    ///
    /// # Errors
    /// What is wrong with the terminal.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> std::io::Result<()> {
        self.0.draw(picture).map(|_drawn| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _gone = self.0.show_cursor();
        let _gone = ratatui::try_restore();
    }
}

/// Whether there is a terminal to draw on and to be steered from.
pub(super) fn is_there() -> bool {
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    stdout().is_terminal() && std::io::stdin().is_terminal() && !dumb
}

/// Whether colours are wanted. An empty value counts as not set: <https://no-color.org>
pub(super) fn has_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
