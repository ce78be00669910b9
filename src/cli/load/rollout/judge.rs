use super::Ran;
use crate::cli::load::report::{Grid, Section};
use crate::cli::rollout_scenario::{HARMED, Met, Seen};
use crate::domain::{Stamp, TenantId, arm_hash, is_treated};
use crate::rollout::controller::{Decision, Kind, TenantState};

/// From the breaking of the fallback to the record of the rollback. The evidence of a second is judged half a second
/// after its end; three or four are enough on a machine that is not busy.
const ROLLBACK_MS: f64 = 20_000.0;
/// So many decisions must show something before it counts as shown.
const SOME: u64 = 10;

/// States what must hold, and what was found.
pub(super) fn judge(section: &mut Section, ran: &Ran) {
    outcome(section, ran);
    outage(section, ran);
    rollback(section, ran);
    requests(section, ran);
    workers(section, ran);
    figures(section, ran);
}

/// The decisions that take shares to 0 for good, with their stamps.
fn rollbacks(ran: &Ran) -> impl Iterator<Item = &(Stamp, Decision)> {
    let is_back = |(_, decision): &&(Stamp, Decision)| {
        matches!(decision.kind, Kind::TenantBack { .. } | Kind::RollBack)
    };
    ran.decisions.values().filter(is_back)
}

/// Where the harmed tenant's rollback stands in the log; `u64::MAX` without one.
fn rollback_position(ran: &Ran) -> u64 {
    let step = rollbacks(ran).next().and_then(|(_, decision)| ran.steps.get(&decision.n));
    step.map_or(u64::MAX, |(position, _)| *position)
}

fn outcome(section: &mut Section, ran: &Ran) {
    let state = ran.status.state.as_str();
    section.holds("state of the rollout at its end", "completed", state.to_owned(), state == "completed");
    let back = ran.status.tenants.iter().filter(|tenant| tenant.state == TenantState::RolledBack);
    let back: Vec<&str> = back.map(|tenant| tenant.tenant_id.as_str()).collect();
    section.holds("tenants that are rolled back", HARMED, back.join(", "), back == [HARMED]);
    let why: Vec<String> = rollbacks(ran).map(|(_, decision)| decision.reasons.join(", ")).collect();
    section.holds("reasons of all rollbacks", "harm", why.join("; "), why == ["harm"]);
    let full = ran.status.tenants.iter().filter(|tenant| tenant.percent == 100).count() as u64;
    section.equal("tenants at 100 %", full, ran.form.tenants().len() as u64 - 1);
    let ticket = ran.pages.iter().filter(|(path, page)| {
        path.starts_with("tickets/")
            && page.contains("`rolled_back`")
            && page.contains(&format!("`{HARMED}`"))
    });
    section.equal("tickets of the rollback", ticket.count() as u64, 1);
}

fn outage(section: &mut Section, ran: &Ran) {
    let early = rollbacks(ran).filter(|(stamp, _)| *stamp < ran.moments.harm_at).count();
    section.equal("rollbacks before the fallback was broken, in the outage too", early as u64, 0);
    section.equal(
        "tenants of the second phase whose circuit opened in the outage",
        ran.opened.len() as u64,
        ran.form.limited() as u64,
    );
    let outage = ran.moments.outage_position..ran.moments.harm_position;
    let met = |refused: bool| {
        let all = ran.seen.values().flat_map(|seen| &seen.met);
        all.filter(|met| outage.contains(&met.position) && met.refused == refused).count() as u64
    };
    section.at_least("requests refused in the outage, in the treated arm", met(true), SOME);
    section.at_least(
        "requests let through to an open circuit in the outage, in the control arm",
        met(false),
        SOME,
    );
}

fn rollback(section: &mut Section, ran: &Ran) {
    let place = rollback_position(ran);
    let took = rollbacks(ran).next().map(|(stamp, _)| stamp.0.saturating_sub(ran.moments.harm_at.0));
    #[expect(clippy::cast_precision_loss, reason = "times of a run lie far below 2^53 milliseconds")]
    section.within(
        "broken fallback until the rollback is decided",
        took.map_or(f64::INFINITY, |ms| ms as f64),
        ROLLBACK_MS,
    );
    let seen = ran.seen.get(HARMED).cloned().unwrap_or_default();
    let refused = |met: &Met| met.refused && (ran.moments.harm_position..place).contains(&met.position);
    section.at_least(
        format!("requests of {HARMED} refused between both"),
        seen.met.iter().filter(|met| refused(met)).count() as u64,
        SOME,
    );
    let later = |seen: &Seen, refused: bool| {
        let later = seen.met.iter().filter(|met| met.position >= place && met.refused == refused);
        later.count() as u64
    };
    section.equal(
        format!("decisions at or past the rollback's step that refuse a request of {HARMED}"),
        later(&seen, true),
        0,
    );
    section.at_least(
        format!("decisions there that let a request of {HARMED} through to its open circuit"),
        later(&seen, false),
        SOME,
    );
    for (n, seen) in (1..).zip(&ran.each_worker) {
        let past = seen.positions.iter().flatten().filter(|position| **position >= place);
        section.at_least(format!("such decisions of worker {n}, asked by itself"), past.count() as u64, SOME);
        section.equal(
            format!("requests that worker {n} refuses there"),
            later(seen, true) + seen.fail_fast + seen.other_errors,
            0,
        );
    }
}

fn requests(section: &mut Section, ran: &Ran) {
    let sum = |of: fn(&Seen) -> u64| ran.seen.values().map(of).sum::<u64>();
    section.equal("requests that nobody answered", sum(Seen::unanswered), 0);
    section.equal("requests answered with an error", sum(|seen| seen.fail_fast + seen.other_errors), 0);
    let refused = ran.seen.iter().flat_map(|(tenant, seen)| seen.met.iter().map(move |met| (*tenant, met)));
    let outside = refused.filter(|(tenant, met)| met.refused && !is_in_share(ran, tenant, met));
    section.equal("requests of the control arm that were refused", outside.count() as u64, 0);
}

/// Whether a request was in the share that the log gives its tenant at the step in force.
fn is_in_share(ran: &Ran, tenant: &str, met: &Met) -> bool {
    let step = met.step.and_then(|n| ran.steps.get(&n)).and_then(|(_, step)| step.overlay.as_ref());
    let share = step.and_then(|overlay| overlay.tenants.get(&TenantId::try_new(tenant).ok()?));
    share.is_some_and(|share| is_treated(arm_hash(&met.request_id), share.percent))
}

fn workers(section: &mut Section, ran: &Ran) {
    section.equal("records of a decision that say otherwise than its first one", ran.records_differ, 0);
    let agreement = ran.agreement;
    section.equal("blocks and decisions that a worker makes otherwise than another", agreement.differ, 0);
    section.equal("workers with the first one's state at the log's end", agreement.equal, agreement.workers);
    section.equal("pages that are made again otherwise", ran.pages_differ, 0);
}

fn figures(section: &mut Section, ran: &Ran) {
    let asked: u64 = ran.seen.values().map(|seen| seen.asked).sum();
    let refused = ran.seen.values().flat_map(|seen| &seen.met).filter(|met| met.refused).count();
    #[expect(clippy::cast_precision_loss, reason = "counts lie far below 2^53")]
    for (name, means, value) in [
        ("requests", "requests", asked),
        ("refused", "requests refused and served by the fallback", refused as u64),
        ("pages", "pages", ran.pages.len() as u64),
    ] {
        section.figure(name, means, value as f64);
    }
    let row = |(n, (stamp, decision)): (&u64, &(Stamp, Decision))| {
        let after = stamp.0.saturating_sub(ran.began.0);
        let after = format!("{}.{} s", after / 1_000, after % 1_000 / 100);
        vec![n.to_string(), after, word(&decision.kind), decision.reasons.join(", ")]
    };
    section.tables.push(Grid {
        title: "Decisions of the rollout".to_owned(),
        headings: vec!["NO.", "AFTER", "DECISION", "WHY"],
        rows: ran.decisions.iter().map(row).collect(),
    });
}

fn word(kind: &Kind) -> String {
    let word = kind.as_str();
    match kind {
        Kind::Step { phase, rung } => format!("{word} {} of phase {}", rung + 1, phase + 1),
        Kind::TenantBack { tenants } => {
            let tenants: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
            format!("{word} {}", tenants.join(", "))
        }
        _ => word.to_owned(),
    }
}
