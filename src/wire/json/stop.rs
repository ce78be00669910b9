//! The search that reading and writing JSON texts come down to: where the next byte stands that ends a text
//! or may not stand in it as it is. Sixteen bytes are looked at in one step.

use wide::u8x16;

/// Bytes of a step.
const BLOCK: usize = 16;

/// Whether a text stands in JSON as it is.
pub(in crate::wire) fn is_plain(text: &str) -> bool {
    stop(text.as_bytes()) == text.len()
}

/// Where the first quote, backslash or control character stands; the end if there is none.
#[inline]
pub(super) fn stop(bytes: &[u8]) -> usize {
    // Most texts are short: what comes after the first step is kept out of the way.
    short_stop(bytes).unwrap_or_else(|| later_stop(bytes))
}

/// The same if it is within the first block.
#[inline]
pub(super) fn short_stop(bytes: &[u8]) -> Option<usize> {
    match marks(bytes.first_chunk()?) {
        0 => None,
        marks => Some(place(marks)),
    }
}

#[inline(never)]
fn later_stop(bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (before, block) in blocks.iter().enumerate() {
        let marks = marks(block);
        if marks != 0 {
            return before * BLOCK + place(marks);
        }
    }
    let before = bytes.len() - rest.len();
    match bytes.last_chunk() {
        // The last block reaches back to where there was no mark. One more stands for the end.
        Some(last) => before + place(marks(last) >> (BLOCK - rest.len()) | 1 << rest.len()),
        None => rest.iter().position(|b| is_stop(*b)).unwrap_or(rest.len()),
    }
}

const fn is_stop(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..0x20)
}

/// A bit for each byte that is searched for; the lowest for the first.
fn marks(block: &[u8; BLOCK]) -> u32 {
    let bytes = u8x16::new(*block);
    let is = |byte: u8| bytes.simd_eq(u8x16::splat(byte));
    let controls = bytes.simd_eq(bytes.min(u8x16::splat(0x1F)));
    (controls | is(b'"') | is(b'\\')).to_bitmask()
}

fn place(marks: u32) -> usize {
    usize::try_from(marks.trailing_zeros()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around the borders of blocks, and every place of a stop in it.
    #[test]
    fn the_stop_is_the_first_byte_that_matters() {
        for length in 0..=3 * BLOCK + 1 {
            let text: Vec<u8> = "é~ \u{7f}x#!][\u{80}z".bytes().cycle().take(length).collect();
            assert_eq!(stop(&text), length, "{text:?}");
            for at in 0..length {
                for byte in [b'"', b'\\', 0, 0x1F, b'\n'] {
                    let mut text = text.clone();
                    text[at] = byte;
                    assert_eq!(stop(&text), at, "{text:?}");
                    text[length - 1] = byte;
                    assert_eq!(stop(&text), at, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn the_marks_are_those_of_each_byte() {
        for byte in 0..=u8::MAX {
            assert_eq!(marks(&[byte; BLOCK]), if is_stop(byte) { 0xFFFF } else { 0 }, "{byte:#x}");
            assert_eq!(stop(&[byte]) == 0, is_stop(byte), "{byte:#x}");
        }
    }
}
