use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::calendar::Day;
use super::records::DayRecord;
use crate::domain::{ProviderId, Stamp, TenantId};

/// Tickets of one rollout. Findings beyond are counted.
pub(super) const MAX_TICKETS: usize = 1_024;
/// Clean days that close a ticket.
pub(super) const CLEAN_DAYS: usize = 3;

/// What a ticket is about. The order is that of tickets which one message opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TicketKind {
    /// The share of a tenant went to 0 for good.
    RolledBack,
    /// The arms do not have their sizes.
    SampleRatio,
    /// Windows are incomplete or missing.
    EvidenceLost,
    /// A circuit opened while its provider was well.
    ThresholdTooSensitive,
    /// A circuit closed late, or has not closed in time.
    RecoveryOverdue,
    /// Treated requests are slower.
    ChecksCostLatency,
    /// Circuits of one tenant alone opened while the providers were well.
    TenantTuning,
    /// The least time of a phase is over, and its effect is not known.
    EffectivenessUnknown,
    /// What asks for attention clears by itself.
    AlertNoise,
}

impl TicketKind {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 9] = [
        Self::RolledBack,
        Self::SampleRatio,
        Self::EvidenceLost,
        Self::ThresholdTooSensitive,
        Self::RecoveryOverdue,
        Self::ChecksCostLatency,
        Self::TenantTuning,
        Self::EffectivenessUnknown,
        Self::AlertNoise,
    ];

    /// The word on a page.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::RolledBack => "rolled_back",
            Self::SampleRatio => "sample_ratio",
            Self::EvidenceLost => "evidence_lost",
            Self::ThresholdTooSensitive => "threshold_too_sensitive",
            Self::RecoveryOverdue => "recovery_overdue",
            Self::ChecksCostLatency => "checks_cost_latency",
            Self::TenantTuning => "tenant_tuning",
            Self::EffectivenessUnknown => "effectiveness_unknown",
            Self::AlertNoise => "alert_noise",
        }
    }
}

/// What was found, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: TicketKind,
    pub(super) tenant: Option<TenantId>,
    pub(super) provider: Option<ProviderId>,
    /// Ready for a page.
    pub(super) note: String,
}

impl Finding {
    /// Of the rollout as a whole.
    pub(super) const fn of_rollout(kind: TicketKind, note: String) -> Self {
        Self { kind, tenant: None, provider: None, note }
    }

    pub(super) const fn of_tenant(kind: TicketKind, tenant: TenantId, note: String) -> Self {
        Self { kind, tenant: Some(tenant), provider: None, note }
    }

    pub(super) const fn of_circuit(
        kind: TicketKind,
        tenant: TenantId,
        provider: ProviderId,
        note: String,
    ) -> Self {
        Self { kind, tenant: Some(tenant), provider: Some(provider), note }
    }
}

/// Where and when a finding was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'s> {
    pub(super) day: Day,
    pub(super) stamp: Stamp,
    /// Where the rollout stood.
    pub(super) place: &'s str,
    /// The breaker settings of the plan, as JSON.
    pub(super) settings: &'s str,
}

/// One ticket.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) number: usize,
    pub(super) kind: TicketKind,
    pub(super) tenant: Option<TenantId>,
    pub(super) provider: Option<ProviderId>,
    pub(super) settings: String,
    pub(super) fingerprint: u64,
    pub(super) opened: Stamp,
    pub(super) place: String,
    /// How often it was found on a day, and the first note of that day.
    pub(super) found: BTreeMap<Day, (u64, String)>,
    /// What happened to it, for the kind that no clean days close.
    by_event: Vec<(Day, Change)>,
}

/// What happens to a ticket on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
    Reopened,
}

impl Change {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Reopened => "reopened",
        }
    }
}

impl Ticket {
    pub(super) fn name(&self) -> String {
        format!("CB-OPS-{}", self.number)
    }

    /// What happened to it, in order, by the days up to the last one. That day is not over, so it closes nothing.
    pub(super) fn changes(&self, days: &BTreeMap<Day, DayRecord>) -> Vec<(Day, Change)> {
        let mut changes = vec![(Day::of(self.opened), Change::Opened)];
        let Some(first) = self.found.keys().next() else { return changes };
        if self.kind == TicketKind::RolledBack {
            changes.extend(&self.by_event);
            return changes;
        }
        let last = days.keys().next_back();
        let (mut clean, mut open) = (0_usize, true);
        for (day, record) in days.range(first..) {
            if self.found.contains_key(day) {
                if !open {
                    changes.push((*day, Change::Reopened));
                }
                (clean, open) = (0, true);
            } else if open && Some(day) != last && self.has_data(record) {
                clean = clean.saturating_add(1);
                if clean == CLEAN_DAYS {
                    changes.push((*day, Change::Closed));
                    open = false;
                }
            }
        }
        changes
    }

    pub(super) fn is_open(&self, days: &BTreeMap<Day, DayRecord>) -> bool {
        self.changes(days).last().is_none_or(|(_, change)| *change != Change::Closed)
    }

    /// Whether a day without the finding says that it is gone.
    fn has_data(&self, day: &DayRecord) -> bool {
        match &self.tenant {
            Some(tenant) => day.sums.tenants.contains_key(tenant),
            None => day.has_data(),
        }
    }
}

/// All tickets of a rollout, in the order in which they were opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Tickets {
    list: Vec<Ticket>,
    by_fingerprint: BTreeMap<u64, usize>,
    /// Findings that were one ticket too many.
    beyond: u64,
}

impl Tickets {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Ticket> {
        self.list.iter()
    }

    pub(super) const fn beyond(&self) -> u64 {
        self.beyond
    }

    /// A finding opens a ticket, or adds to the one that there is.
    pub(super) fn find(&mut self, finding: Finding, context: Context<'_>) {
        let Finding { kind, tenant, provider, note } = finding;
        let fingerprint = fingerprint(kind, tenant.as_ref(), provider.as_ref(), context.settings);
        let next = self.list.len();
        let at = match self.by_fingerprint.get(&fingerprint) {
            Some(at) => *at,
            None if next >= MAX_TICKETS => {
                self.beyond = self.beyond.saturating_add(1);
                return;
            }
            None => {
                self.by_fingerprint.insert(fingerprint, next);
                self.list.push(Ticket {
                    number: next.saturating_add(1),
                    kind,
                    tenant,
                    provider,
                    settings: context.settings.to_owned(),
                    fingerprint,
                    opened: context.stamp,
                    place: context.place.to_owned(),
                    found: BTreeMap::new(),
                    by_event: Vec::new(),
                });
                next
            }
        };
        if let Some(ticket) = self.list.get_mut(at) {
            if matches!(ticket.by_event.last(), Some((_, Change::Closed))) {
                ticket.by_event.push((context.day, Change::Reopened));
            }
            let (times, _) = ticket.found.entry(context.day).or_insert((0, note));
            *times = times.saturating_add(1);
        }
    }

    /// The rollout is deleted: who was rolled back may be treated again.
    pub(super) fn end(&mut self, day: Day) {
        for ticket in self.list.iter_mut().filter(|ticket| ticket.kind == TicketKind::RolledBack) {
            if !matches!(ticket.by_event.last(), Some((_, Change::Closed))) {
                ticket.by_event.push((day, Change::Closed));
            }
        }
    }
}

/// Equal for findings of one ticket.
fn fingerprint(
    kind: TicketKind,
    tenant: Option<&TenantId>,
    provider: Option<&ProviderId>,
    settings: &str,
) -> u64 {
    // No id holds a newline, and neither does JSON in one line.
    let id = |id: Option<&str>| id.unwrap_or_default().to_owned();
    let parts = [
        kind.as_str().to_owned(),
        id(tenant.map(TenantId::as_str)),
        id(provider.map(ProviderId::as_str)),
        settings.to_owned(),
    ];
    xxh3_64(parts.join("\n").as_bytes())
}
