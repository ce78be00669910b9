//! Text that came from outside, as it may be shown: without what a terminal obeys instead of showing it
//! (control characters), and without what turns the direction of the text around it, so that no document
//! moves the cursor of the one who reads it, or shows its words in another order. In JSON such
//! characters are escaped: who parses it gets what was sent.

use std::fmt;

/// Text for people that stays within its line and its place.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// JSON that shows no such character. JSON itself escapes the first 32 only; the others can stand within
/// strings only, since all else of it is ASCII.
#[must_use]
pub fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_left_by_json(c) {
            // All of them lie below 65536.
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// Writes text for people that stays within its line and its place, and in which what is not shown is
/// spelt, as Rust does it.
pub(super) struct Spelling<'w, W>(pub(super) &'w mut W);

impl<W: fmt::Write> fmt::Write for Spelling<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| {
            if is_obeyed(c) { write!(self.0, "{}", c.escape_default()) } else { self.0.write_char(c) }
        })
    }
}

/// Whether a character does something instead of being shown.
fn is_obeyed(c: char) -> bool {
    c.is_control() || is_bidi(c)
}

/// Whether JSON lets a character stand that must not be shown.
const fn is_left_by_json(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}') || is_bidi(c)
}

/// Whether a character turns the direction of the text around it (Unicode's `Bidi_Control`).
const fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// DEL, the C1 controls, and all that Unicode calls `Bidi_Control`.
    pub(in crate::telemetry) fn bad() -> String {
        let bad = ['\u{7f}', '\u{61c}', '\u{200e}', '\u{200f}'].into_iter();
        bad.chain('\u{80}'..='\u{9f}').chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').collect()
    }

    #[test]
    fn nothing_on_the_wire_turns_the_text_round_and_machines_get_what_was_sent() {
        let bad = bad();
        let sent = json!({ "reason": format!("{bad}a\u{1b}\n\"שלום é 🦀"), &bad: [bad] });
        for text in [escaped(&sent.to_string()), escaped(&format!("{sent:#}"))] {
            assert!(!text.chars().any(|c| bad.contains(c) || (c.is_control() && c != '\n')), "{text}");
            assert!(
                text.contains("שלום é 🦀") && text.contains("\\u202e") && text.contains("\\u009b"),
                "{text}"
            );
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), sent);
        }
        assert_eq!(plain("a\u{202e}b\u{9b}2Jשלום"), "a\u{fffd}b\u{fffd}2Jשלום");
    }
}
