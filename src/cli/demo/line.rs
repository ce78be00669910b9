use crate::telemetry::shown::plain;

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Bold,
    Dim,
    Red,
    Yellow,
    Green,
    Cyan,
}

impl Paint {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Red => "\x1b[31m",
            Self::Yellow => "\x1b[33m",
            Self::Green => "\x1b[32m",
            Self::Cyan => "\x1b[36m",
        }
    }
}

const RESET: &str = "\x1b[0m";

/// One line of the screen: pieces of text, one cell a character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Paint, String)>);

impl Line {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Appends text. What came over the wire moves no cursor.
    pub(super) fn text(mut self, paint: Paint, text: impl AsRef<str>) -> Self {
        self.0.push((paint, plain(text.as_ref())));
        self
    }

    /// Appends text and fills up to a width of its own.
    pub(super) fn cell(self, paint: Paint, text: impl AsRef<str>, width: usize) -> Self {
        let text = text.as_ref();
        let missing = width.saturating_sub(text.chars().count());
        self.text(paint, text).text(Paint::Plain, " ".repeat(missing))
    }

    /// Appends another line behind this one, which is filled up, or cut, to a width.
    pub(super) fn beside(self, width: usize, right: Self) -> Self {
        let missing = width.saturating_sub(self.width());
        let mut left = self.cut(width).text(Paint::Plain, " ".repeat(missing));
        left.0.extend(right.0);
        left
    }

    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// What fits into a width.
    fn cut(self, width: usize) -> Self {
        let mut left = width;
        let mut kept = Vec::with_capacity(self.0.len());
        for (paint, text) in self.0 {
            let text: String = text.chars().take(left).collect();
            left -= text.chars().count();
            kept.push((paint, text));
        }
        Self(kept)
    }

    /// For the terminal, no wider than it.
    pub(super) fn rendered(self, width: usize, color: bool) -> String {
        let pieces = self.cut(width).0.into_iter().filter(|(_, text)| !text.is_empty());
        let render = |(paint, text): (Paint, String)| match paint {
            Paint::Plain => text,
            _ if !color => text,
            paint => format!("{}{text}{RESET}", paint.code()),
        };
        pieces.map(render).collect()
    }
}

/// A text broken at its blanks, so that each line fits; a longer word is left to be cut.
pub(in crate::cli) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_what_is_seen_and_colours_end_where_they_began() {
        let line =
            || Line::new().text(Paint::Red, "open").text(Paint::Plain, " 3 s").text(Paint::Dim, " left");
        assert_eq!(line().rendered(80, true), "\x1b[31mopen\x1b[0m 3 s\x1b[2m left\x1b[0m");
        assert_eq!(line().rendered(6, true), "\x1b[31mopen\x1b[0m 3");
        assert_eq!(line().rendered(2, false), "op");
        assert_eq!(line().rendered(0, true), "");
    }

    #[test]
    fn nothing_from_the_wire_moves_the_cursor() {
        let line = Line::new().text(Paint::Plain, "a\x1b[2Jb\n");
        assert_eq!(line.rendered(80, true), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn columns_stand_beside_each_other() {
        let right = || Line::new().text(Paint::Plain, "r");
        assert_eq!(Line::new().cell(Paint::Plain, "é", 3).beside(5, right()).rendered(80, false), "é    r");
        assert_eq!(Line::new().text(Paint::Plain, "too long").beside(3, right()).rendered(80, false), "toor");
    }

    #[test]
    fn text_is_broken_at_blanks() {
        assert_eq!(wrapped("aa bb  cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrapped("abcdef gh", 3), ["abcdef", "gh"]);
        assert_eq!(wrapped("", 3), Vec::<String>::new());
    }
}
