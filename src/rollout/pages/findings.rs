use super::calendar::Day;
use super::journal::Journal;
use super::records::{DecisionRecord, StatusSummary};
use super::sums::increase;
use super::text::{code, count};
use super::tickets::{Context, Finding, TicketKind};
use super::words;
use crate::domain::Stamp;
use crate::rollout::controller::{Criterion, Kind, Status, TenantState};
use crate::rollout::evidence::EvidenceBlock;
use crate::rollout::judge::{Hold, Open, Recovery};

/// Opens of one circuit on a day that are noise: each of them raises an alert.
pub(super) const NOISY_OPENS: u64 = 5;
/// Pauses of a day that cleared by themselves and are noise.
pub(super) const NOISY_PAUSES: u64 = 2;

impl Journal {
    fn find(&mut self, (day, stamp): (Day, Stamp), finding: Finding) {
        let (place, settings) = (self.place.clone(), self.settings());
        self.tickets.find(finding, Context { day, stamp, place: &place, settings: &settings });
    }

    /// What a window shows.
    pub(super) fn find_in_block(&mut self, at: (Day, Stamp), block: &EvidenceBlock, is_anew: bool) {
        if block.incomplete || block.purged || block.missing > 0 || is_anew {
            let mut what = Vec::new();
            what.extend(block.incomplete.then(|| format!("window {} is incomplete", block.number)));
            what.extend(block.purged.then(|| format!("the log was purged before window {}", block.number)));
            let missing = count(block.missing, "window");
            what.extend(
                (block.missing > 0).then(|| format!("{missing} missing before window {}", block.number)),
            );
            what.extend(is_anew.then(|| "the log was made anew".to_owned()));
            self.find(at, Finding::of_rollout(TicketKind::EvidenceLost, what.join(", ")));
        }
        for report in self.circuits.take(block) {
            let circuit = || (report.record.tenant.clone(), report.record.provider.clone());
            let [calls, failed] = report.record.spared;
            let mut find = |kind, note: String| {
                let (tenant, provider) = circuit();
                self.find(at, Finding::of_circuit(kind, tenant, provider, note));
            };
            if matches!(report.recovery, Recovery::Late | Recovery::Overdue) {
                find(TicketKind::RecoveryOverdue, format!("recovery is {}", code(report.recovery.as_str())));
            }
            if report.opens_of_day >= NOISY_OPENS {
                let opens = count(report.opens_of_day, "open");
                find(TicketKind::AlertNoise, format!("{opens} of the circuit on one day"));
            }
            if report.ended && report.record.kind() == Open::Unexpected {
                let calls = count(calls, "spared call");
                let note = format!(
                    "opened by {}, {calls} while open, {failed} failed",
                    code(report.record.cause.as_str())
                );
                find(TicketKind::ThresholdTooSensitive, note);
                self.needless.insert(circuit());
            }
        }
    }

    /// The windows of a day are all there.
    pub(super) fn end_window_day(&mut self, day: Day, stamp: Stamp) {
        let needless = std::mem::take(&mut self.needless);
        let watched = self.days.get(&day).map_or(0, |record| record.sums.tenants.len());
        let Some((tenant, _)) = needless.first() else { return };
        let alone = needless.iter().all(|(other, _)| other == tenant);
        if alone && watched > 1 {
            let others = count(u64::try_from(watched.saturating_sub(1)).unwrap_or(u64::MAX), "other tenant");
            let note = format!("needless opens of this tenant alone; {others} had none");
            self.find((day, stamp), Finding::of_tenant(TicketKind::TenantTuning, tenant.clone(), note));
        }
    }

    /// A day is over.
    pub(super) fn end_day(&mut self, day: Day, day_end: StatusSummary) {
        let at = (day, day_end.at);
        let criterion = |name| day_end.criteria.iter().find(|criterion| criterion.name == name);
        if let Some(latency) = criterion(Criterion::Latency).filter(|latency| latency.verdict == "fail") {
            let note = words::figures(latency);
            self.find(at, Finding::of_rollout(TicketKind::ChecksCostLatency, note));
        }
        let has_had_its_time = day_end.min_ms > 0 && day_end.qualified_ms >= day_end.min_ms;
        let unknown: Vec<String> = [Criterion::Safe, Criterion::Exercise]
            .into_iter()
            .filter_map(criterion)
            .filter(|criterion| criterion.verdict != "pass" && criterion.reason != "overridden")
            .map(|criterion| format!("{}: {}", code(criterion.name.as_str()), code(&criterion.reason)))
            .collect();
        if has_had_its_time && !unknown.is_empty() {
            let note = unknown.join(", ");
            self.find(at, Finding::of_rollout(TicketKind::EffectivenessUnknown, note));
        }
        self.days.entry(day).or_default().day_end = Some(day_end);
    }

    /// What a decision says.
    pub(super) fn find_in_decision(
        &mut self,
        record: &DecisionRecord,
        reasons: &[String],
        after: Option<&Status>,
    ) {
        let at = (Day::of(record.stamp), record.stamp);
        let note = record.reference();
        let has = |hold: Hold| reasons.iter().any(|reason| reason == hold.as_str());
        match &record.kind {
            Kind::TenantBack { tenants } => {
                for tenant in tenants {
                    self.find(at, Finding::of_tenant(TicketKind::RolledBack, tenant.clone(), note.clone()));
                }
            }
            Kind::RollBack => {
                let members = after.map(|status| status.tenants.as_slice()).unwrap_or_default();
                let back: Vec<_> = members.iter().filter(|t| t.state == TenantState::RolledBack).collect();
                self.find(
                    at,
                    match back.as_slice() {
                        [only] => Finding::of_tenant(TicketKind::RolledBack, only.tenant_id.clone(), note),
                        _ => Finding::of_rollout(TicketKind::RolledBack, note),
                    },
                );
            }
            Kind::Pause { .. } if !record.is_ordered => {
                let suspect = reasons.iter().any(|reason| reason == "evidence_suspect");
                if suspect || has(Hold::SampleRatio) || has(Hold::LossRatio) {
                    self.find(at, Finding::of_rollout(TicketKind::SampleRatio, note.clone()));
                }
                if has(Hold::Slower) {
                    self.find(at, Finding::of_rollout(TicketKind::ChecksCostLatency, note));
                }
            }
            Kind::Resume if !record.is_ordered => {
                let day = self.days.entry(at.0).or_default();
                increase(&mut day.cleared, 1);
                if day.cleared >= NOISY_PAUSES {
                    let pauses = count(day.cleared, "pause");
                    let note = format!("{pauses} on one day that cleared without an action");
                    self.find(at, Finding::of_rollout(TicketKind::AlertNoise, note));
                }
            }
            _ => {}
        }
    }
}
