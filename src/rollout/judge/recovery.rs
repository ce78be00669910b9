use serde::{Deserialize, Serialize};

/// What a recovery may take besides, in milliseconds.
const GRACE_MS: u64 = 5_000;
/// Mean gaps between requests that a probe may have to wait for one: it waits longer than four once in 55
/// times where requests come at random.
const GAPS: u64 = 4;

/// Whether a circuit closed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// The provider is not well yet, so nothing is due.
    NotWellYet,
    /// It is not due yet.
    Pending,
    /// Closed in time.
    Closed,
    /// Closed after it was due.
    Late,
    /// Due, and not closed.
    Overdue,
}

impl Recovery {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::NotWellYet, Self::Pending, Self::Closed, Self::Late, Self::Overdue];

    /// The word on the wire and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotWellYet => "not_well_yet",
            Self::Pending => "pending",
            Self::Closed => "closed",
            Self::Late => "late",
            Self::Overdue => "overdue",
        }
    }
}

/// What is known of a circuit that opened. Times are log time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCircuit {
    /// When its open time is over.
    pub open_until: u64,
    /// When the provider was well: the third success in a row of spared calls or of other tenants after the
    /// circuit opened.
    pub well_at: Option<u64>,
    /// When it closed.
    pub closed_at: Option<u64>,
    /// Mean time between two requests of the tenant.
    pub mean_gap_ms: u64,
    /// 99th percentile of the provider's latency.
    pub slow_ms: u64,
    /// Successful probes that close it.
    pub successes: u64,
}

impl OpenCircuit {
    /// Judges the recovery at `now`. It is due when the open time is over and the provider is well, plus the
    /// time of the probes, each of which waits for a request and takes a call.
    #[must_use]
    pub fn recovery(&self, now: u64) -> Recovery {
        match (self.well_at.map(|well_at| self.due(well_at)), self.closed_at) {
            (None, Some(_)) => Recovery::Closed,
            (None, None) => Recovery::NotWellYet,
            (Some(due), Some(closed)) if closed <= due => Recovery::Closed,
            (Some(_), Some(_)) => Recovery::Late,
            (Some(due), None) if now > due => Recovery::Overdue,
            (Some(_), None) => Recovery::Pending,
        }
    }

    fn due(&self, well_at: u64) -> u64 {
        let probe = self.mean_gap_ms.saturating_mul(GAPS).saturating_add(self.slow_ms);
        let probes = self.successes.saturating_mul(probe);
        self.open_until.max(well_at).saturating_add(probes).saturating_add(GRACE_MS)
    }
}
