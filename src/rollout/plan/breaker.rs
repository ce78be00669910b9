use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::breaker::Settings;
use crate::document::{Block, Faults};
use crate::policy;

const BY_STEPS: &str = "is set by the rollout's steps; remove it";

/// The breaker settings that a rollout lays under those of each tenant's own documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct BreakerBlock {
    fields: Map<String, Value>,
    #[serde(skip)]
    settings: Arc<Settings>,
}

impl BreakerBlock {
    /// The fields that the plan states, as a document writes them; never `enabled` or `enforce_percent`.
    /// Numbers are those of [`Self::settings`], to the millionth: more digits would not survive being
    /// written and read.
    #[must_use]
    pub const fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// What they mean for a tenant whose documents state none, but for `enabled` and `enforce_percent`.
    #[must_use]
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The block of a plan, by the rules that hold for a policy's.
    pub(super) fn read(plan: &Block<'_>, faults: &mut Faults) -> Self {
        let refused = [("enabled", BY_STEPS), ("enforce_percent", BY_STEPS)];
        let settings = policy::read_breaker_block(plan, &refused, faults);
        let mut fields = match policy::breaker_block(&settings) {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let stated = plan.get("circuit_breaker");
        fields.retain(|name, _| stated.is_some_and(|block| block.get(name).is_some()));
        Self { fields, settings }
    }
}
