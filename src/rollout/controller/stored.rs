use std::ops::Deref;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::Fault;
use crate::rollout::plan::{Plan, parse};

/// A plan in a snapshot: the text of its document, since only that is checked when it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct StoredPlan(Plan);

impl StoredPlan {
    pub(super) fn parse(document: &Value) -> Result<Self, Vec<Fault>> {
        parse(document).map(|checked| Self(checked.plan))
    }
}

impl Deref for StoredPlan {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0
    }
}

impl TryFrom<String> for StoredPlan {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let document: Value = serde_json::from_str(&text).map_err(|fault| fault.to_string())?;
        Self::parse(&document).map_err(|faults| shown(&faults))
    }
}

impl From<StoredPlan> for String {
    fn from(plan: StoredPlan) -> Self {
        // A plan has texts as keys and no float that JSON cannot hold, so this does not fail.
        serde_json::to_string(&plan.0).unwrap_or_default()
    }
}

/// Faults in one line.
pub(super) fn shown(faults: &[Fault]) -> String {
    let lines: Vec<String> =
        faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    lines.join("; ")
}
