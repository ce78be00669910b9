//! How a rollout stands, as a picture: the ladder, gauges towards roll back and promotion, criteria, tenants.
//! Pure: what it is given is all that it knows.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::criteria::figures;
use super::ladder::{Rung, rungs};
use super::plain::{place, time};
use super::standing::{Progress, Standing};
use super::words::{grouped, held, nats, next, reason, tenant_counts, tenant_state, tenants};
use crate::cli::demo::line::wrapped;
use crate::rollout::controller::{CriterionStatus, TenantState};
use crate::telemetry::shown::plain;

/// The width of what stands before a text.
const LABEL: usize = 20;
/// The length of a gauge.
const GAUGE: usize = 24;
/// Tenants that are named where nothing bounds the height; `--json` has all.
const MOST_TENANTS: usize = 20;
/// Tenants for which other rows make room.
const FEW_TENANTS: usize = 3;

/// What a picture may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) width: usize,
    /// `None`: as many lines as it needs.
    pub(super) height: Option<usize>,
    pub(super) colour: bool,
}

/// All of it. Where the height does not suffice, phases and criteria that need no look are left out first, then
/// tenants.
pub(super) fn picture(standing: &Standing, room: Room) -> Vec<Line<'static>> {
    let pen = Pen { standing, room };
    let all = standing.status.tenants.len();
    let mut lines = pen.above_tenants(false);
    let Some(height) = room.height else {
        lines.extend(pen.tenants(MOST_TENANTS));
        return lines;
    };
    let needed = lines.len() + Pen::tenant_rows(all, all.min(FEW_TENANTS));
    if needed > height {
        lines = pen.above_tenants(true);
    }
    let rows = height.saturating_sub(lines.len() + Pen::tenant_rows(all, 0));
    lines.extend(pen.tenants(rows));
    lines.truncate(height);
    lines
}

struct Pen<'s> {
    standing: &'s Standing,
    room: Room,
}

impl Pen<'_> {
    fn above_tenants(&self, is_brief: bool) -> Vec<Line<'static>> {
        let mut lines = self.head();
        lines.extend(self.ladder(is_brief));
        lines.extend(self.gauges());
        lines.extend(self.criteria(is_brief));
        lines
    }

    fn head(&self) -> Vec<Line<'static>> {
        let status = &self.standing.status;
        let mut lines = vec![Line::from(vec![
            Span::raw(format!("rollout {}   ", status.rollout)),
            Span::styled(plain(&status.state), self.of_state()),
            Span::styled(format!("   seq {}", status.seq), Modifier::DIM),
        ])];
        let place = place(self.standing);
        if !place.is_empty() {
            lines.push(Line::raw(plain(&place.join(", "))));
        }
        for why in &status.reasons {
            lines.extend(self.labelled(held(status), &reason(why), self.paint(Color::Yellow)));
        }
        for issue in &status.issues {
            lines.extend(self.labelled("issue", issue, self.paint(Color::Yellow)));
        }
        for (label, what) in next(status) {
            lines.extend(self.labelled(label, &what, Style::new()));
        }
        lines
    }

    /// A text beside a label, broken so that it fits.
    fn labelled(&self, label: &'static str, text: &str, style: Style) -> Vec<Line<'static>> {
        let width = self.room.width.saturating_sub(LABEL).max(LABEL);
        let lines = wrapped(&plain(text), width).into_iter().enumerate();
        lines
            .map(|(n, part)| {
                let label = if n == 0 { label } else { "" };
                Line::from(vec![Span::raw(format!("{label:LABEL$}")), Span::styled(part, style)])
            })
            .collect()
    }

    fn section(&self, name: &'static str, aside: &str) -> [Line<'static>; 2] {
        let aside = plain(aside);
        [Line::raw(""), Line::styled(format!("{name:LABEL$}{aside}").trim_end().to_owned(), Modifier::DIM)]
    }

    fn ladder(&self, is_brief: bool) -> Vec<Line<'static>> {
        let Some(plan) = &self.standing.plan else {
            return vec![Line::raw("this program cannot read the plan, so its phases are not shown")];
        };
        let rungs = rungs(self.standing, plan);
        let shown = rungs.iter().filter(|rung| !is_brief || rung.progress == Progress::Here);
        let shown: Vec<Line<'static>> = shown.map(|rung| self.rung(rung)).collect();
        if shown.is_empty() {
            return shown;
        }
        self.section("PHASES", "+ passed, [ ] now").into_iter().chain(shown).collect()
    }

    fn rung(&self, rung: &Rung) -> Line<'static> {
        let mark = match rung.progress {
            Progress::Passed => '+',
            Progress::Here => '>',
            Progress::Ahead => ' ',
        };
        let name = format!("{mark} {}", rung.name);
        let mut spans = vec![Span::styled(format!("{name:LABEL$}"), self.of_progress(rung.progress))];
        for (share, progress) in &rung.steps {
            let step = match progress {
                Progress::Passed => format!("+{share}"),
                Progress::Here => format!("[{share}]"),
                Progress::Ahead => format!(" {share}"),
            };
            spans.push(Span::styled(format!("{step:6}"), self.of_progress(*progress)));
        }
        spans.push(Span::styled(format!("  {}", rung.period), Modifier::DIM));
        Line::from(spans)
    }

    fn gauges(&self) -> Vec<Line<'static>> {
        let (standing, status) = (self.standing, &self.standing.status);
        let evidence = status.evidence;
        let thresholds = standing.plan.as_ref().map(|plan| status.thresholds(plan));
        let is_judged = !status.criteria.is_empty();
        let mut lines: Vec<Line<'static>> = Vec::new();
        if let Some(thresholds) = thresholds.filter(|_| is_judged || standing.is_final_bake()) {
            let of = |value, most| format!("{} of {}", nats(value), nats(most));
            let harm = share(evidence.harm_e.0, thresholds.harm.0);
            lines.push(self.gauge(
                "towards roll back",
                harm,
                Color::Red,
                &of(evidence.harm_e, thresholds.harm),
            ));
            if let Some(most) = thresholds.safe {
                let safe = share(evidence.safe_e.0, most.0);
                lines.push(self.gauge("towards promotion", safe, Color::Green, &of(evidence.safe_e, most)));
            }
        }
        if is_judged {
            let text = format!("{} of {}", grouped(evidence.units), grouped(evidence.needed));
            lines.push(self.gauge("requests", share(evidence.units, evidence.needed), Color::Cyan, &text));
        }
        if status.min_ms > 0 {
            let filled = share(status.qualified_ms, status.min_ms);
            lines.push(self.gauge("time", filled, Color::Cyan, &time(status)));
        }
        if lines.is_empty() {
            return lines;
        }
        self.section("EVIDENCE", "").into_iter().chain(lines).collect()
    }

    fn gauge(&self, label: &'static str, filled: usize, colour: Color, text: &str) -> Line<'static> {
        Line::from(vec![
            Span::raw(format!("{label:LABEL$}[")),
            Span::styled("#".repeat(filled), self.paint(colour)),
            Span::raw(format!("{}]  {text}", "-".repeat(GAUGE - filled))),
        ])
    }

    fn criteria(&self, is_brief: bool) -> Vec<Line<'static>> {
        let criteria = &self.standing.status.criteria;
        if criteria.is_empty() {
            return Vec::new();
        }
        let passes = |criterion: &&CriterionStatus| criterion.verdict == "pass";
        let passed = format!("{} of {} pass", criteria.iter().filter(passes).count(), criteria.len());
        let shown = criteria.iter().filter(|criterion| !is_brief || !passes(criterion));
        let mut lines = self.section("CRITERIA", &passed).to_vec();
        lines.extend(shown.map(|criterion| self.criterion(criterion)));
        lines
    }

    fn criterion(&self, criterion: &CriterionStatus) -> Line<'static> {
        let style = match criterion.verdict.as_str() {
            "pass" => self.paint(Color::Green),
            "fail" => self.paint(Color::Red).add_modifier(Modifier::BOLD),
            _ => self.paint(Color::Yellow),
        };
        let parts = [plain(&criterion.reason), figures(criterion)];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Line::from(vec![
            Span::raw(format!("{:LABEL$}", criterion.name.as_str())),
            Span::styled(format!("{:14}", plain(&criterion.verdict)), style),
            Span::raw(plain(&parts.join("  "))),
        ])
    }

    /// How many lines so many of the tenants take, the heading included.
    fn tenant_rows(all: usize, named: usize) -> usize {
        2 + named + usize::from(named < all)
    }

    fn tenants(&self, rows: usize) -> Vec<Line<'static>> {
        let status = &self.standing.status;
        let mut lines = self.section("TENANTS", &tenant_counts(status)).to_vec();
        let all = tenants(status);
        // The line that counts the rest is not needed where one more tenant fits in its place.
        let named = if all.len() == rows + 1 { all.len() } else { rows.min(all.len()) };
        let longest = all.iter().take(named).map(|tenant| tenant.tenant_id.as_str().len()).max().unwrap_or(0);
        let width = longest.clamp(LABEL - 2, LABEL * 2);
        for tenant in all.iter().take(named) {
            let style = match tenant.state {
                TenantState::RolledBack => self.paint(Color::Red),
                TenantState::OnLadder => self.paint(Color::Cyan),
                TenantState::Passed => self.paint(Color::Green),
                TenantState::Waiting | TenantState::LeftOut | TenantState::Deleted => Style::new(),
            };
            lines.push(Line::from(vec![
                Span::raw(format!("{:width$}  ", tenant.tenant_id.as_str())),
                Span::styled(format!("{:14}", tenant_state(tenant.state)), style),
                Span::raw(format!(
                    "{:>3} %   harm {:>6}   {} requests before",
                    tenant.percent,
                    nats(tenant.log_e),
                    grouped(tenant.units)
                )),
            ]));
        }
        if let more @ 1.. = all.len() - named {
            lines.push(Line::styled(format!("and {more} more"), Modifier::DIM));
        }
        lines
    }

    fn paint(&self, colour: Color) -> Style {
        if self.room.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn of_state(&self) -> Style {
        let colour = match self.standing.status.state.as_str() {
            "rolled_back" | "aborted" => Color::Red,
            "paused" | "awaiting_approval" => Color::Yellow,
            "completed" => Color::Green,
            _ => Color::Cyan,
        };
        self.paint(colour).add_modifier(Modifier::BOLD)
    }

    fn of_progress(&self, progress: Progress) -> Style {
        match progress {
            Progress::Passed => self.paint(Color::Green),
            Progress::Here => self.paint(Color::Cyan).add_modifier(Modifier::BOLD),
            Progress::Ahead => Style::new(),
        }
    }
}

/// How much of a gauge a value fills; all of it only where it reaches the most.
fn share(value: impl TryInto<u128>, most: impl TryInto<u128>) -> usize {
    let (value, most) = (value.try_into().unwrap_or(0), most.try_into().unwrap_or(0));
    let filled = (value.min(most) * GAUGE as u128).checked_div(most).unwrap_or(0);
    usize::try_from(filled).unwrap_or(GAUGE)
}
