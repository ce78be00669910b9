/// Longer than any name that a document may hold; what is longer is no misspelling of one.
const MAX_NAME: usize = 48;

/// The known name that an unknown one was probably meant to be.
pub(crate) fn nearest<'k>(unknown: &str, known: &[&'k str]) -> Option<&'k str> {
    if unknown.len() > MAX_NAME {
        return None;
    }
    let plain = folded(unknown);
    known
        .iter()
        .map(|name| (distance(&plain, &folded(name)), *name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Without case and separators, so that `failureThreshold` and `failure-threshold` are no mistakes.
fn folded(name: &str) -> Vec<char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours between two names.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut above: Vec<usize> = (0..width).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && b[j - 1] == *x {
                least = least.min(before[j - 1] + 1);
            }
            row[j + 1] = least;
        }
        before = above;
        above = row;
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: &[&str] =
        &["enabled", "failure_threshold", "success_threshold", "timeout_ms", "max_timeout_ms", "to"];

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        for (unknown, meant) in [
            ("enable", "enabled"),
            ("failureThreshold", "failure_threshold"),
            ("failure-treshold", "failure_threshold"),
            ("succes_threshold", "success_threshold"),
            ("timeout", "timeout_ms"),
            ("maxTimeoutMs", "max_timeout_ms"),
            ("ot", "to"),
            ("successes_threshold", "success_threshold"),
        ] {
            assert_eq!(nearest(unknown, KNOWN), Some(meant), "{unknown}");
        }
    }

    #[test]
    fn a_name_that_is_like_none_finds_none() {
        for unknown in ["", "colour", "threshold", "\u{1F980}", &"enabled".repeat(1_000)] {
            assert_eq!(nearest(unknown, KNOWN), None, "{unknown}");
        }
    }
}
