//! Whether what is simulated here is what a rollout is judged by: the same weeks go through the controller.

use std::io::{self, Write};

use beamline_router::domain::{RolloutId, Stamp, TenantId};
use beamline_router::rollout::controller::{
    Command, Controllers, Effects, Event, History, JUDGE_VERSION, Kind, Message, PlanMessage, Span,
    TenantHistory, Verb,
};
use beamline_router::rollout::evidence::{EvidenceBlock, LatencyHistogram, TenantRow};
use beamline_router::rollout::judge::Verdict;
use serde_json::json;

use crate::course::{Course, TIMEOUT_MS, Tenant, WEEK_MINUTES};
use crate::random::{Chance, Random};
use crate::report::{Report, grouped};
use crate::runs::Effort;

const MINUTE_MS: u64 = 60_000;
const MADE: i64 = 1;

/// A rollout of one tenant at one share, and a worker that records what is due.
struct Rollout {
    fold: Controllers,
    id: RolloutId,
    tenant: TenantId,
    traffic: Tenant,
    sequence: u64,
    now: Stamp,
    window: u64,
    decided: Vec<Kind>,
}

impl Rollout {
    fn started(traffic: Tenant) -> Self {
        let mut rollout = Self {
            fold: Controllers::new(MADE),
            id: RolloutId::try_new("figures").unwrap(),
            tenant: TenantId::try_new("acme").unwrap(),
            traffic,
            sequence: 0,
            now: Stamp(WEEK_MINUTES * MINUTE_MS),
            window: 0,
            decided: Vec::new(),
        };
        let (actor, reason) = ("figures".to_owned(), "figures".to_owned());
        let plan = json!({
            "kind": "PolicyRollout", "id": "figures",
            "analysis": {"exercise": "no", "latency": {"quantiles": []}},
            "phases": [{
                "name": "canary", "tenants": {"count": 1}, "ladder": [traffic.share],
                "bake": "12h", "min": "3d", "max": "7d",
            }],
        });
        let (id, expected_seq) = ("put".to_owned(), 0);
        rollout.send(Message::Plan(PlanMessage {
            id,
            plan,
            expected_seq,
            actor: actor.clone(),
            authenticated: None,
            reason: reason.clone(),
        }));
        let expected_seq = rollout.fold.status(&rollout.id, rollout.now).unwrap().seq;
        let verb = Verb::Start { judge: JUDGE_VERSION };
        let (id, name) = (rollout.id.clone(), "start".to_owned());
        rollout.send(Message::Command(Command {
            rollout: id,
            id: name,
            expected_seq,
            actor,
            authenticated: None,
            reason,
            verb,
        }));
        rollout
    }

    /// Applies a message, and records what follows from it.
    fn send(&mut self, message: Message) {
        let mut next = Some(message);
        while let Some(message) = next {
            self.sequence += 1;
            let Effects { due, history, events, .. } = self.fold.apply(self.sequence, self.now, &message);
            self.decided.extend(events.into_iter().filter_map(|event| match event {
                Event::Decided { kind, .. } => Some(kind),
                _ => None,
            }));
            let counted = |phase| Message::History(self.history(phase));
            next = due
                .map(|due| Message::Decision(Box::new(due)))
                .or(history.map(|wanted| counted(wanted.phase)));
        }
    }

    fn history(&self, phase: usize) -> History {
        let history = self.traffic.history();
        let tenant = TenantHistory {
            tenant: self.tenant.clone(),
            units: history.units(),
            failures: history.failed,
            milli_per_minute: self.traffic.per_minute * 1_000,
            already_enforced: false,
            fallback: true,
            timeout_ms: TIMEOUT_MS,
        };
        let span = Span { from: Stamp(0), to: self.now };
        History { rollout: self.id.clone(), phase, span, tenants: vec![tenant] }
    }

    /// The next window.
    fn take(&mut self, plain: [u64; 4], met: [u64; 4]) {
        let start = self.now;
        self.now = Stamp(start.0 + self.traffic.block_minutes * MINUTE_MS);
        let step = self.fold.newest_step(&self.id).unwrap().number.n;
        let arms = [plain[0] + met[0], plain[2] + met[2]];
        let row = TenantRow {
            tenant: self.tenant.clone(),
            step,
            cut: step,
            percent: self.traffic.share,
            split: self.traffic.share,
            plain,
            met,
            asked: arms,
            no_outcome: [0; 2],
            latency: <[LatencyHistogram; 2]>::default(),
        };
        let block = EvidenceBlock {
            step,
            rows: vec![row],
            ..EvidenceBlock::without_units(self.id.clone(), MADE, self.window, start, self.now)
        };
        self.window += 1;
        self.send(Message::Block(Box::new(block)));
    }
}

/// What a week in both showed.
struct Agreement {
    windows: u64,
    /// Windows after which evidence, its units or the decision differ.
    different: u64,
    rolled_back: bool,
    passed: bool,
}

/// One week of a tenant, by both.
fn week(random: &mut Random, tenant: Tenant, treated_ppm: u64) -> Agreement {
    let mut rollout = Rollout::started(tenant);
    let mut course = Course::new(tenant);
    let chances = [Chance::ppm(treated_ppm), Chance::ppm(tenant.base_ppm)];
    let mut agreement = Agreement { windows: 0, different: 0, rolled_back: false, passed: false };
    let mut units = 0;
    let least = tenant.windows(72);
    for window in 0..tenant.windows(168) {
        let plain = tenant.row(random, tenant.units() * 9 / 10, chances);
        let met = tenant.row(random, tenant.units() / 10, chances);
        units += tenant.units() * 9 / 10 + tenant.units() / 10;
        let look = course.look(plain, met);
        rollout.take(plain, met);
        agreement.windows += 1;
        agreement.rolled_back |= look.verdict == Verdict::Fail;
        agreement.passed |= look.verdict == Verdict::Pass && window + 1 >= least;
        let rolled_back = rollout.decided.contains(&Kind::RollBack);
        let passed = rollout.decided.iter().any(|kind| matches!(kind, Kind::AwaitApproval { .. }));
        let evidence = rollout.fold.status(&rollout.id, rollout.now).unwrap().evidence;
        let evidence_differs =
            (evidence.harm_e, evidence.safe_e, evidence.units) != (look.harm, look.safe, units);
        let decisions_differ = (rolled_back, passed) != (agreement.rolled_back, agreement.passed);
        agreement.different += u64::from(evidence_differs || decisions_differ);
        if rolled_back {
            break;
        }
    }
    agreement
}

pub(crate) fn agrees<W: Write>(report: &mut Report<W>, effort: Effort, seed: u64) -> io::Result<()> {
    let runs = effort.runs(50, 5);
    report.section(
        "The controller",
        &format!(
            "Seed {seed}, {} weeks in each row, base rate 1 %, a tenth of the units met a breaker. The same \
             blocks go through a controller with a plan of one step at 50 %, `min` 3 days. Evidence and \
             decisions are compared after each window.",
            grouped(runs)
        ),
    )?;
    report.head(&[
        "a minute",
        "failures, control → treated",
        "windows",
        "rolled back",
        "passed",
        "different",
        "equal",
    ])?;
    let mut at = 0;
    for per_minute in [1, 10, 100] {
        for (name, treated_ppm) in [("1 → 1 %", 10_000), ("1 → 3 %", 30_000)] {
            at += 1;
            let tenant = Tenant::new(per_minute, 10_000);
            let weeks = effort.run(seed * 100 + at, runs, |random| week(random, tenant, treated_ppm));
            let sum = |of: fn(&Agreement) -> u64| weeks.iter().map(of).sum::<u64>();
            let different = sum(|week| week.different);
            let kept = report.held(different == 0);
            report.row(&[
                per_minute.to_string(),
                name.to_owned(),
                grouped(sum(|week| week.windows)),
                sum(|week| u64::from(week.rolled_back)).to_string(),
                sum(|week| u64::from(week.passed)).to_string(),
                different.to_string(),
                kept,
            ])?;
        }
    }
    Ok(())
}
