use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;
use time::Month;

use crate::document::{Block, Faults, Shape, below, described};
use crate::domain::TenantId;

/// As many tenants as one rollout is made for, and some.
const MAX_FACTS: usize = 10_000;
/// The longest name of an owner, in bytes: that of an id.
const MAX_OWNER: usize = 255;

const FACTS: Shape<'_> = Shape { known: &["critical", "owner", "notified"], refused: &[] };

/// What people know of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Whether it must not be treated first.
    pub critical: bool,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When the owner was told of the rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notified: Option<Date>,
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(time::Date);

impl Date {
    /// Reads `2026-11-20`; `None` for what is no such day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
        if !(digits(year, 4) && digits(month, 2) && digits(day, 2)) {
            return None;
        }
        let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
        time::Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok().map(Self)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The `facts` of a plan. Whether there are such tenants is not known here.
pub(super) fn read(plan: &Block<'_>, faults: &mut Faults) -> BTreeMap<TenantId, Facts> {
    let Some(value) = plan.get("facts") else { return BTreeMap::new() };
    let path = plan.at("facts");
    let Value::Object(map) = value else {
        faults.add(path, format!("must be an object of facts by tenant, not {}", described(value)));
        return BTreeMap::new();
    };
    if map.len() > MAX_FACTS {
        faults.add(path, format!("may name at most {MAX_FACTS} tenants, not {}", map.len()));
        return BTreeMap::new();
    }
    let mut facts = BTreeMap::new();
    for (name, value) in map {
        let path = below(&path, name);
        let tenant = match TenantId::try_new(name) {
            Ok(tenant) => Some(tenant),
            Err(error) => {
                faults.add(path.as_str(), format!("is no tenant id: it {error}"));
                None
            }
        };
        let Some(block) = plan.open(path, value, &FACTS, faults) else { continue };
        let of_tenant = Facts {
            critical: block.flag("critical", false, faults),
            owner: block.text("owner", MAX_OWNER, faults).map(str::to_owned),
            notified: block.member(
                "notified",
                None,
                || "a day like \"2026-11-20\"".to_owned(),
                faults,
                |v| v.as_str().and_then(Date::parse).map(Some),
            ),
        };
        facts.extend(tenant.map(|tenant| (tenant, of_tenant)));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_the_calendar_is_read_and_written_the_same() {
        for day in ["2026-11-20", "2024-02-29", "0001-01-01", "9999-12-31"] {
            assert_eq!(Date::parse(day).map(|d| d.to_string()).as_deref(), Some(day));
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2026-11",
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-11-31",
            "2026-1-2",
            "26-11-20",
            "+026-11-20",
            "2026-11-20T00:00:00Z",
            "2026/11/20",
            "20 Nov 2026",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
