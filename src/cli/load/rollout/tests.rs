use serde_json::json;

use super::judge::judge;
use super::*;
use crate::cli::rollout_scenario::{HARMED, Met};
use crate::domain::{TenantId, arm_hash, is_treated};
use crate::rollout::controller::{Figures, Kind, TenantState};

/// Where the rollback stands in the log, and where the outage and the harm begin.
const PLACE: u64 = 300;
const OUTAGE: u64 = 100;
const HARM: u64 = 200;

/// The `n`th request id that is treated where half are, or is not.
fn request_id(n: u64, treated: bool) -> String {
    let mut ids = (0..).map(|k| format!("r-{n}-{k}"));
    ids.find(|id| is_treated(arm_hash(id), 50) == treated).unwrap()
}

fn met(n: u64, position: u64, refused: bool) -> Met {
    Met { request_id: request_id(n, refused), position, step: Some(1), refused }
}

fn step(n: u64, harmed_percent: u8) -> StepEntry {
    let share = |percent: u8| json!({"percent": percent, "split": 50});
    let tenants: serde_json::Map<_, _> = Form::Short
        .tenants()
        .iter()
        .map(|tenant| ((*tenant).to_owned(), share(if *tenant == HARMED { harmed_percent } else { 50 })))
        .collect();
    serde_json::from_value(json!({
        "rollout": "breakers", "made": 1, "n": n, "at_seq": n,
        "overlay": {"circuit_breaker": {}, "tenants": tenants, "evidence": {
            "block_ms": 1_000, "settle_ms": 500, "max_stale_ms": 30_000, "sample_ppm": 1_000_000,
        }},
    }))
    .unwrap()
}

fn decision(n: u64, kind: Kind, reasons: &[&str]) -> Decision {
    let reasons = reasons.iter().map(|&reason| reason.to_owned()).collect();
    let rollout = RolloutId::try_new("breakers").unwrap();
    Decision { rollout, n, at_seq: n, kind, reasons, figures: Figures::default() }
}

/// A run that keeps all bounds.
fn good() -> Ran {
    let form = Form::Short;
    let tenants = form.tenants();
    let status = |tenant: &&str| {
        let (state, percent) = if *tenant == HARMED { ("rolled_back", 0) } else { ("passed", 100) };
        json!({"tenant_id": tenant, "phase": "all", "state": state, "percent": percent, "units": 1, "log_e": 0})
    };
    let status = serde_json::from_value(json!({
        "rollout": "breakers", "seq": 1, "state": "completed", "reasons": [], "phase": null, "step": null,
        "percent": 100, "tenants": tenants.iter().map(status).collect::<Vec<_>>(),
        "already_enforced": [], "criteria": [], "qualified_ms": 0, "min_ms": 0, "max_ms": 0,
        "next": {"when": null, "needs": []},
        "evidence": {"harm_e": 0, "safe_e": 0, "units": 0, "needed": 0},
        "pending": null, "issues": [], "graduating": false,
    }));
    let seen = |tenant: &&'static str| {
        let mut seen = Seen { asked: 100, decided: 100, position: 900, ..Seen::default() };
        for n in 0..10 {
            seen.met.extend([met(n, OUTAGE + n, true), met(n, OUTAGE + n, false)]);
            if *tenant == HARMED {
                seen.met.extend([met(n, HARM + n, true), Met { step: Some(2), ..met(n, PLACE + n, false) }]);
            }
        }
        (*tenant, seen)
    };
    let alone = Seen { positions: Some((PLACE..PLACE + 20).collect()), ..Seen::default() };
    let back = Kind::TenantBack { tenants: [TenantId::try_new(HARMED).unwrap()].into() };
    Ran {
        form,
        status: status.unwrap(),
        seen: tenants.iter().map(seen).collect(),
        each_worker: vec![alone; 2],
        began: Stamp(1_000),
        moments: Moments { outage_position: OUTAGE, harm_position: HARM, harm_at: Stamp(9_000) },
        decisions: BTreeMap::from([
            (1, (Stamp(2_000), decision(1, Kind::Step { phase: 1, rung: 0 }, &[]))),
            (2, (Stamp(12_000), decision(2, back, &["harm"]))),
        ]),
        records_differ: 0,
        steps: BTreeMap::from([(1, (50, step(1, 50))), (2, (PLACE, step(2, 0)))]),
        opened: tenants[..form.limited()].iter().map(|&tenant| tenant.to_owned()).collect(),
        pages: BTreeMap::from([(
            "tickets/CB-OPS-1.md".to_owned(),
            format!("| Kind | `rolled_back` |\n| Tenant | `{HARMED}` |"),
        )]),
        pages_differ: 0,
        agreement: Agreement { differ: 0, workers: 2, equal: 2 },
    }
}

/// The bounds that a run does not keep.
fn missed(ran: &Ran) -> Vec<String> {
    let mut section = Section::new(5);
    judge(&mut section, ran);
    section.bounds.into_iter().filter(|bound| !bound.kept).map(|bound| bound.what).collect()
}

#[test]
fn a_run_without_fault_keeps_all_bounds() {
    assert_eq!(missed(&good()), [] as [String; 0]);
}

/// A change of a run, and words of the bound that it breaks.
type Fault = (fn(&mut Ran), &'static str);

#[test]
fn each_fault_breaks_its_bound() {
    let faults: &[Fault] = &[
        (|ran| ran.status.state = "paused".to_owned(), "state of the rollout"),
        (|ran| ran.status.tenants[0].state = TenantState::RolledBack, "tenants that are rolled back"),
        (|ran| ran.decisions.get_mut(&2).unwrap().1.reasons = vec!["rollback".to_owned()], "reasons"),
        (|ran| ran.status.tenants[0].percent = 95, "tenants at 100 %"),
        (|ran| ran.pages.clear(), "tickets"),
        (|ran| ran.moments.harm_at = Stamp(13_000), "rollbacks before the fallback was broken"),
        (|ran| assert!(ran.opened.remove("acme")), "whose circuit opened in the outage"),
        (|ran| ran.seen.values_mut().for_each(|seen| seen.met.retain(|m| !m.refused)), "in the treated arm"),
        (|ran| ran.decisions.get_mut(&2).unwrap().0 = Stamp(30_000), "until the rollback is decided"),
        (|ran| drop(ran.decisions.remove(&2)), "until the rollback is decided"),
        (|ran| drop(ran.steps.remove(&2)), "through to its open circuit"),
        (
            |ran| ran.seen.get_mut(HARMED).unwrap().met.push(met(99, PLACE, true)),
            "that refuse a request of delta",
        ),
        (|ran| ran.each_worker[1].positions = Some(vec![PLACE - 1; 20]), "of worker 2, asked by itself"),
        (|ran| ran.each_worker[0].met.push(met(99, PLACE, true)), "that worker 1 refuses"),
        (|ran| ran.seen.get_mut("acme").unwrap().asked += 1, "nobody answered"),
        (|ran| ran.seen.get_mut("acme").unwrap().fail_fast += 1, "answered with an error"),
        (
            |ran| {
                let control = Met { refused: true, ..met(99, OUTAGE, false) };
                ran.seen.get_mut("acme").unwrap().met.push(control);
            },
            "of the control arm",
        ),
        (
            |ran| {
                let unknown = Met { step: None, ..met(99, OUTAGE, true) };
                ran.seen.get_mut("acme").unwrap().met.push(unknown);
            },
            "of the control arm",
        ),
        (|ran| ran.records_differ = 1, "records of a decision"),
        (|ran| ran.agreement.differ = 1, "that a worker makes otherwise"),
        (|ran| ran.agreement.equal = 1, "with the first one's state"),
        (|ran| ran.pages_differ = 1, "made again otherwise"),
    ];
    for (spoil, bound) in faults {
        let mut ran = good();
        spoil(&mut ran);
        let missed = missed(&ran);
        assert!(missed.iter().any(|what| what.contains(bound)), "{bound}: {missed:?}");
    }
}
