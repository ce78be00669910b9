//! A page of metrics, read.

use std::collections::{BTreeMap, BTreeSet};

/// One line of the page.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// All samples of one scrape.
#[derive(Debug)]
pub(crate) struct Metrics(Vec<Sample>);

impl Metrics {
    /// Reads OpenMetrics text.
    pub(crate) fn parse(page: &str) -> Self {
        assert!(page.ends_with("# EOF\n"), "the page is cut off");
        Self(page.lines().filter(|l| !l.starts_with('#')).map(sample).collect())
    }

    /// The value of the one series that has these labels, and maybe more.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.matching(name, labels);
        let first = found.next()?.value;
        assert!(found.next().is_none(), "{name} {labels:?} is more than one series");
        Some(first)
    }

    /// The sum of all series that have these labels, 0 if there are none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|s| s.value).sum()
    }

    /// How many series have these labels.
    pub(crate) fn series(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        self.matching(name, labels).count()
    }

    /// The series of counters and histograms, none of which may ever fall.
    pub(crate) fn rising(&self) -> BTreeMap<String, f64> {
        let rises =
            |name: &str| ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
        let rising = self.0.iter().filter(|s| rises(&s.name));
        rising.map(|s| (format!("{}{:?}", s.name, s.labels), s.value)).collect()
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The names of all series.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.0.iter().map(|s| s.name.as_str()).collect()
    }

    /// The labels of each series of the name.
    pub(crate) fn labels<'a>(&'a self, name: &'a str) -> Vec<&'a BTreeMap<String, String>> {
        self.matching(name, &[]).map(|s| &s.labels).collect()
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |s| {
            s.name == name && labels.iter().all(|(key, value)| s.labels.get(*key).is_some_and(|v| v == value))
        })
    }
}

fn sample(line: &str) -> Sample {
    let bad = || -> ! { panic!("no sample: {line}") };
    let end = line.find(['{', ' ']).unwrap_or_else(|| bad());
    let name = line[..end].to_owned();
    let mut rest = &line[end..];
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").unwrap_or_else(|| bad());
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next() {
                    Some((at, '"')) => break at,
                    Some((_, '\\')) => value.push(match chars.next() {
                        Some((_, 'n')) => '\n',
                        Some((_, c)) => c,
                        None => bad(),
                    }),
                    Some((_, c)) => value.push(c),
                    None => bad(),
                }
            };
            labels.insert(key.trim_start_matches(',').to_owned(), value);
            rest = &after[end + 1..];
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next().and_then(|v| v.parse().ok()).unwrap_or_else(|| bad());
    Sample { name, labels, value }
}
