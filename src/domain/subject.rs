/// The bytes of a literal subject, dots included.
const LITERAL: [bool; 256] = {
    let mut literal = [false; 256];
    let mut byte = 0_usize;
    while byte < literal.len() {
        literal[byte] = byte > b' ' as usize && byte < 0x7F && byte != b'*' as usize && byte != b'>' as usize;
        byte += 1;
    }
    literal
};

/// Whether a text is a subject that a message can be published to: tokens parted by single dots,
/// printable ASCII, no wildcard.
#[must_use]
pub fn is_literal(subject: &str) -> bool {
    // What stands before the first token and behind the last counts as a dot. Without an early end there is
    // no branch to guess: each reply's subject is checked.
    let (fits, last) = subject.bytes().fold((true, b'.'), |(fits, last), b| {
        let allowed = LITERAL.get(usize::from(b)).copied().unwrap_or(false);
        (fits & allowed & !((b == b'.') & (last == b'.')), b)
    });
    fits & (last != b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_literal_subject_is_tokens_between_dots(subject in "[.a*> é]{0,6}") {
            let is_token = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic() && !b"*>".contains(&b));
            prop_assert_eq!(is_literal(&subject), subject.split('.').all(is_token));
        }
    }
}
