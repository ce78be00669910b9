use super::criterion::Findings;
use super::decision::Figures;
use super::rollout::Rollout;
use super::stage::Stage;
use crate::domain::Stamp;
use crate::rollout::judge::{self, Counts, Facts};
use crate::rollout::plan::Exercise;

impl Rollout {
    /// Whether the phase is at the last step of its ladder.
    pub(super) fn is_at_last_rung(&self) -> bool {
        match self.stage {
            Stage::Running { rung, .. } => rung == self.course().last_rung,
            Stage::AwaitingApproval { .. } => true,
            _ => false,
        }
    }

    /// All that the end of the step depends on; `None` unless a phase is on its ladder.
    pub(super) fn findings(&self, now: Stamp) -> Option<Findings> {
        let (run, phase) = (self.run.as_ref()?, self.current_phase()?);
        let analysis = self.plan.analysis();
        let times = run.times();
        let (qualified_ms, min_ms) = if self.is_at_last_rung() {
            (times.qualified_ms, phase.min_ms)
        } else {
            (times.step_qualified_ms, phase.bake_ms)
        };
        // Who waits for a person has passed in time.
        let awaiting = matches!(self.stage, Stage::AwaitingApproval { .. });
        let window = self.windows.last().map_or(0, |last| last.number);
        let facts = Facts {
            look: run.look()?,
            qualified_ms,
            min_ms,
            max_ms: phase.max_ms.saturating_add(self.extended_ms),
            elapsed_ms: if awaiting { 0 } else { times.elapsed_ms },
            latency: run.latency().verdict(),
            opens: &[],
            recoveries: &[],
            needs_exercise: analysis.exercise != Exercise::No,
            coverage_permille: run.coverage_permille(),
            min_coverage_permille: u32::from(analysis.coverage_permille),
            stale_ms: self.stale_ms(now, phase.block_ms),
            max_stale_ms: analysis.max_stale_ms,
            loss: run.loss().log_e(),
            gap: self.windows.has_gap(),
            // Nothing that reaches this fold adds them up.
            accounts_differ: false,
            issues_open: u64::try_from(self.issues.len()).unwrap_or(u64::MAX),
        };
        let time = self.windows.last().map_or(now, |last| last.end);
        let recoveries = run.opens().recoveries(time, window, analysis.exercise);
        let findings = Findings { facts, opens: run.opens().kinds(), recoveries };
        Some(if self.is_at_last_rung() { findings } else { findings.of_bake() })
    }

    /// What the judge makes of the step, with what is passed over.
    pub(super) fn verdict(&self, now: Stamp) -> Option<judge::Decision> {
        let findings = self.findings(now)?;
        let findings = match self.overridden {
            Some(criterion) => findings.passing_over(criterion),
            None => findings,
        };
        Some(judge::decide(&findings.facts()))
    }

    /// By how much the newest window is older than it must be.
    pub(super) fn stale_ms(&self, now: Stamp, block_ms: u64) -> u64 {
        let age = self.windows.age_ms(now, self.step_since);
        age.saturating_sub(block_ms.saturating_add(self.plan.analysis().settle_ms))
    }

    pub(super) fn figures(&self) -> Figures {
        let (look, units) = match (&self.run, &self.holdout) {
            (Some(run), _) => (run.look(), run.units()),
            (None, Some(holdout)) => (Some(holdout.look()), holdout.units()),
            (None, None) => (None, Counts::default()),
        };
        let times = self.run.as_ref().map(super::run::PhaseRun::times).unwrap_or_default();
        let Counts { treated, control } = units;
        Figures {
            harm: look.map(|look| look.harm).unwrap_or_default(),
            safe: look.map(|look| look.safe).unwrap_or_default(),
            share: look.map(|look| look.share).unwrap_or_default(),
            units: [treated.units(), treated.failed, control.units(), control.failed],
            qualified_ms: times.qualified_ms,
            elapsed_ms: times.elapsed_ms,
        }
    }
}
