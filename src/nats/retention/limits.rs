//! Where the limits of a stream that stands differ from the settings.

use crate::config::Kept;
use crate::nats::stream_info::Limits;

/// A limit of a stream that is not what the settings say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Difference {
    pub(super) stream: String,
    pub(super) limit: &'static str,
    pub(super) setting: String,
    pub(super) stands: String,
}

/// All of a stream's.
pub(super) fn differences(stream: &str, kept: Kept, stands: Limits) -> Vec<Difference> {
    let text = |limit: Option<String>| limit.unwrap_or_else(|| "unlimited".to_owned());
    let age = ("max_age", format!("{:?}", kept.max_age), text(stands.max_age.map(|age| format!("{age:?}"))));
    let bytes =
        ("max_bytes", kept.max_bytes.to_string(), text(stands.max_bytes.map(|bytes| bytes.to_string())));
    let all = [age, bytes].into_iter().filter(|(_, setting, stands)| setting != stands);
    all.map(|(limit, setting, stands)| Difference { stream: stream.to_owned(), limit, setting, stands })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEPT: Kept = Kept { max_age: Duration::from_secs(7_200), max_bytes: 1 << 20 };

    fn said(max_age: Option<u64>, max_bytes: Option<u64>) -> Vec<String> {
        let limits = Limits { max_age: max_age.map(Duration::from_secs), max_bytes, max_messages: None };
        let all = differences("S", KEPT, limits);
        all.iter().map(|d| format!("{} {} {} {}", d.stream, d.limit, d.setting, d.stands)).collect()
    }

    #[test]
    fn each_limit_that_is_not_the_settings_is_a_difference() {
        assert_eq!(said(Some(7_200), Some(1 << 20)), [""; 0]);
        assert_eq!(said(Some(3_600), Some(1 << 20)), ["S max_age 7200s 3600s"]);
        let both = ["S max_age 7200s unlimited", "S max_bytes 1048576 unlimited"];
        assert_eq!(said(None, None), both);
    }
}
