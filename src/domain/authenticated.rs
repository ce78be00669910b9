use std::fmt;

use serde::{Deserialize, Serialize};

/// Who sent a request, by the word of the broker that let them in; what they say of themselves stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authenticated {
    /// The account.
    pub account: String,
    /// The user in it; absent where the broker does not share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl fmt::Display for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.account)?;
        self.user.as_ref().map_or(Ok(()), |user| write!(f, "/{user}"))
    }
}
