//! Tickets: what opens them, what adds to them, what closes them. And days without data.

use serde_json::json;

use super::{BASE, HOUR, World, first_cells, section, tenant};
use crate::domain::ProviderId;
use crate::rollout::controller::{IssueChange, Message, Verb};
use crate::rollout::evidence::{LatencyHistogram, OpenRecord};

/// Names and kinds of all tickets, in their order.
fn tickets(world: &World) -> Vec<(String, String)> {
    let pages = world.pages();
    let kind = |page: &str| {
        let row = page.lines().find(|line| line.starts_with("| Kind |")).unwrap();
        row.split('`').nth(1).unwrap().to_owned()
    };
    (1..)
        .map_while(|n| {
            let page = pages.get(&format!("tickets/CB-OPS-{n}.md"))?;
            Some((page.lines().next().unwrap().to_owned(), kind(page)))
        })
        .collect()
}

fn kinds(world: &World) -> Vec<String> {
    tickets(world).into_iter().map(|(_, kind)| kind).collect()
}

/// What happened to the first ticket.
fn course(world: &World) -> String {
    let page = world.page("tickets/CB-OPS-1.md");
    let row = page.lines().find(|line| line.starts_with("| Course |")).unwrap();
    row.trim_matches('|').split('|').nth(1).unwrap().trim().to_owned()
}

fn rolled_back() -> World {
    let mut world = World::started(json!({}));
    for _ in 0..30 {
        world.harmful_window("acme");
    }
    world
}

#[test]
fn a_tenant_that_was_rolled_back_has_a_ticket_until_the_rollout_is_deleted() {
    let mut world = rolled_back();
    let back = ("# [CB-OPS] Shares went back to 0: `acme`".to_owned(), "rolled_back".to_owned());
    assert_eq!(tickets(&world), [back]);
    let log = world.page("EXECUTION_LOG.md");
    let rollbacks = section(&log, "Rollback events");
    assert!(rollbacks.contains("`harm`, by the controller | decision 3: roll back `acme`"), "{rollbacks}");
    assert!(
        rollbacks.contains("step 3: 1 tenant at share 0, 1 above; in force in the window of "),
        "{rollbacks}"
    );
    assert!(section(&log, "Phase 1: canary").contains("`rolled_back` at 0 %"), "{log}");
    let ticket = world.page("tickets/CB-OPS-1.md");
    for title in ["Issue", "Context", "Current", "Expected", "Metrics", "Proposed", "Priority"] {
        assert!(section(&ticket, title).trim().len() > 10, "{title}");
    }
    world.well(24 * 7);
    assert_eq!(course(&world), "opened 2026-11-20");
    world.order(Verb::Rollback { tenant: None }, "bob", "stop");
    world.order(Verb::Delete, "bob", "begin again");
    assert_eq!(course(&world), "opened 2026-11-20, closed 2026-11-28");
    assert_eq!(kinds(&world).iter().filter(|kind| *kind == "rolled_back").count(), 2);
}

#[test]
fn a_finding_of_another_day_adds_to_its_ticket() {
    let mut world = World::started(json!({}));
    for day in 0..3_u64 {
        world.window(|block| block.incomplete = day != 1);
        world.well(23);
    }
    assert_eq!(kinds(&world), ["evidence_lost"]);
    let current = section(&world.page("tickets/CB-OPS-1.md"), "Current");
    assert_eq!(first_cells(&current), ["2026-11-19", "2026-11-21"], "{current}");
}

#[test]
fn three_clean_days_with_data_close_a_ticket_and_a_new_finding_reopens_it() {
    let mut world = World::started(json!({}));
    world.window(|block| block.incomplete = true);
    world.well(24 * 3);
    // Two clean days are over, and the third one is not.
    assert_eq!(course(&world), "opened 2026-11-19");
    // Days without data are not clean.
    world.now = world.now.plus(48 * HOUR);
    world.well(1);
    assert_eq!(course(&world), "opened 2026-11-19, closed 2026-11-22");

    world.window(|block| block.purged = true);
    assert_eq!(course(&world), "opened 2026-11-19, closed 2026-11-22, reopened 2026-11-25");
    world.now = world.now.plus(10 * 24 * HOUR);
    world.well(1);
    assert!(course(&world).ends_with("reopened 2026-11-25"), "{}", course(&world));
    assert_eq!(kinds(&world).iter().filter(|kind| *kind == "evidence_lost").count(), 1);
}

#[test]
fn needless_opens_of_one_tenant_alone_ask_for_tuning() {
    for (names, expected) in [
        (["acme", "acme"].as_slice(), vec!["threshold_too_sensitive", "tenant_tuning"]),
        (&["acme", "globex"], vec!["threshold_too_sensitive", "threshold_too_sensitive"]),
    ] {
        let mut world = World::started(json!({}));
        for (position, name) in names.iter().enumerate() {
            let record = world.open(name, position as u64, [500, 5]);
            world.window(|block| block.opens.push(record));
        }
        world.well(2);
        assert_eq!(kinds(&world), expected, "{names:?}");
        let advice = section(&world.page("EXECUTION_LOG.md"), "Threshold recommendations");
        assert!(advice.contains("judged opens were needless"), "{advice}");
    }
}

#[test]
fn an_open_that_was_right_opens_no_ticket_and_recommends_to_keep_the_threshold() {
    let mut world = World::started(json!({}));
    let record = world.open("acme", 1, [500, 250]);
    world.window(|block| block.opens.push(record));
    world.well(30);
    assert_eq!(kinds(&world), [""; 0]);
    let advice = section(&world.page("EXECUTION_LOG.md"), "Threshold recommendations");
    assert!(
        advice.contains("`acme` at `p`: keep the thresholds: 1 of 1 judged opens were right"),
        "{advice}"
    );
}

#[test]
fn a_circuit_that_stays_open_counts_once_and_its_last_word_holds() {
    let mut world = World::started(json!({}));
    let first = OpenRecord { closed_at: None, well_at: None, ..world.open("acme", 9, [500, 5]) };
    for _ in 0..3 {
        world.window(|block| block.opens.push(first.clone()));
    }
    let last = OpenRecord { spared: [900, 450], closed_at: Some(world.now), ..first };
    world.window(|block| block.opens.push(last.clone()));
    // A record that comes again after the last word changes nothing.
    world.window(|block| block.opens.push(last));
    let opens = section(&world.page("daily/2026-11-19.md"), "Opens");
    assert!(opens.contains("| `acme` | `p` | 1 | 1 | 0 | 0 | 0 | 0 | 0 | 1 | 0 | 0 | 3h |"), "{opens}");
    assert_eq!(kinds(&world), [""; 0]);
}

#[test]
fn a_circuit_that_closes_late_or_opens_often_has_a_ticket() {
    let mut world = World::started(json!({}));
    let late = OpenRecord { closed_at: Some(world.now.plus(HOUR)), ..world.open("acme", 1, [500, 250]) };
    world.window(|block| block.opens.push(late));
    assert_eq!(kinds(&world), ["recovery_overdue"]);

    let mut world = World::started(json!({}));
    world.well(2);
    for position in 0..5 {
        assert_eq!(kinds(&world), [""; 0]);
        let record = world.open("acme", position, [500, 250]);
        world.window(|block| block.opens.push(record));
    }
    assert_eq!(kinds(&world), ["alert_noise"]);
}

#[test]
fn pauses_that_clear_by_themselves_are_noise() {
    let mut world = World::started(json!({}));
    world.well(2);
    for text in ["slow", "wrong"] {
        assert_eq!(kinds(&world), [""; 0]);
        world.order(Verb::Issue { change: IssueChange::Open, text: text.to_owned() }, "bob", "a call");
        world.well(1);
        world.order(Verb::Issue { change: IssueChange::Close, text: text.to_owned() }, "bob", "solved");
        world.well(1);
    }
    assert_eq!(kinds(&world), ["alert_noise"]);
    let day = world.page("daily/2026-11-20.md");
    assert!(section(&day, "Alerts").contains("| `issues` | at decision 4 | `issue_open`: 1 open |"), "{day}");
    assert!(section(&day, "Actions").contains("| issue open: slow | bob | a call |"), "{day}");
}

#[test]
fn arms_of_other_sizes_have_a_ticket() {
    let mut world = World::started(json!({}));
    for _ in 0..5 {
        world.window(|block| block.rows.iter_mut().for_each(|row| row.plain = [100, 1, 1_800, 18]));
    }
    assert_eq!(kinds(&world), ["sample_ratio"]);
}

#[test]
fn slower_requests_have_a_ticket() {
    let latency = json!({"analysis": {"latency": {"quantiles": [0.5]}}});
    let mut world = World::started(latency);
    let of = |ms: u64| {
        let mut histogram = LatencyHistogram::default();
        (0..60).for_each(|n| histogram.add(ms + n % 3));
        histogram
    };
    for _ in 0..40 {
        world.window(|block| block.rows.iter_mut().for_each(|row| row.latency = [of(60), of(40)]));
    }
    assert_eq!(kinds(&world), ["checks_cost_latency"]);
    let requests = section(&world.page("daily/2026-11-20.md"), "Requests");
    assert!(requests.contains("| 61 | 62 |") && requests.contains("| 41 | 42 |"), "{requests}");
}

#[test]
fn a_phase_whose_effect_is_not_known_after_its_least_time_has_a_ticket() {
    let mut world = World::started(json!({"analysis": {"exercise": "required"}}));
    world.well(25);
    assert_eq!(kinds(&world), [""; 0]);
    world.well(1);
    assert_eq!(kinds(&world), ["effectiveness_unknown"]);
    let ticket = world.page("tickets/CB-OPS-1.md");
    assert!(section(&ticket, "Current").contains("`exercise`: `not_exercised`"), "{ticket}");
}

#[test]
fn another_breaker_block_has_tickets_of_its_own() {
    let mut world = World::started(json!({}));
    world.window(|block| block.incomplete = true);
    world.order(Verb::Abort, "bob", "stop");
    world.order(Verb::Delete, "bob", "begin again");
    let mut again = super::document(json!({}));
    again["circuit_breaker"]["failure_threshold"] = json!(9);
    world.put(again, "carol", "less sensitive");
    world.order(Verb::Start { judge: 1 }, "carol", "go");
    world.window(|block| block.incomplete = true);
    assert_eq!(kinds(&world), ["evidence_lost", "evidence_lost"]);
    let log = world.page("EXECUTION_LOG.md");
    for title in ["Run 1, Phase 1: canary", "Run 2, Phase 1: canary"] {
        assert!(section(&log, title).contains("| `acme` | 2026-11-"), "{log}");
    }
    assert!(
        section(&log, "Run 1, Phase 1: canary")
            .contains("- Abort: 2026-11-19 23:00:00, decision 4: abort, by bob, stop"),
        "{log}"
    );
}

#[test]
fn a_day_without_data_has_a_page_that_says_so() {
    let mut world = World::started(json!({"analysis": {"max_stale": "1d"}}));
    world.well(5);
    world.now = world.now.plus(48 * HOUR);
    world.well(1);
    let page = world.page("daily/2026-11-21.md");
    assert!(page.contains("| Evidence of the day | no data: no window was published |"), "{page}");
    assert!(
        page.contains("| State at the end of the day | `running`, phase `canary`, step 2 at 50 % |"),
        "{page}"
    );
    for (title, text) in [
        ("State transitions", "None: no decision took effect."),
        ("Requests", "No data: no window has units."),
        ("Alerts", "No data: no criterion was judged on this day."),
        ("Actions", "None: no command was accepted."),
    ] {
        assert_eq!(section(&page, title).trim(), text, "{title}");
    }
    assert!(world.page("weekly/2026-W47.md").contains("| 0 | no data: no window | no data: no window |"));
}

#[test]
fn who_leaves_and_what_is_harmless_is_on_the_page_of_the_day() {
    let mut world = World::started(json!({}));
    world.window(|block| {
        block.left.push((tenant("globex"), crate::rollout::evidence::Leaving::LeftOut));
        block.untreated_tenants.push(tenant("acme"));
        block.dropped = 3;
    });
    let page = world.page("daily/2026-11-19.md");
    assert!(section(&page, "Unexpected").contains("Left the rollout: `globex`, `left_out`"), "{page}");
    assert!(page.contains("1 window: 0 incomplete, 1 with refusals that were not enforced"), "{page}");
    assert!(page.contains("3 units dropped by cuts"), "{page}");
    // What was not enforced for one tenant is no treatment of it.
    let requests = section(&page, "Requests");
    assert!(
        requests.contains("| treated | 200 |") && requests.contains("| treated alike, first half | 200 |"),
        "{requests}"
    );
    let lessons = section(&world.page("EXECUTION_LOG.md"), "Lessons");
    assert!(
        lessons.contains("| `globex` left the rollout: `left_out` | 1 | 2026-11-19 | 2026-11-19 |"),
        "{lessons}"
    );
}

#[test]
fn a_phase_that_is_extended_and_a_drill_are_in_the_log() {
    let mut world = World::started(json!({}));
    world.well(1);
    world.order(Verb::Extend { by_ms: 48 * HOUR }, "bob", "few requests");
    let provider = ProviderId::try_new("p").unwrap();
    world.order(Verb::Drill { tenant: tenant("acme"), provider, for_ms: 60_000 }, "bob", "exercise");
    let log = world.page("EXECUTION_LOG.md");
    assert!(section(&log, "Phase 1: canary").contains("- Extend: extend by 2d, message 7"), "{log}");
    let actions = section(&world.page("daily/2026-11-19.md"), "Actions");
    assert!(actions.contains("| drill of `acme` for provider `p`, 1m | bob | exercise |"), "{actions}");
}

#[test]
fn a_rollout_of_one_tenant_that_is_harmed_has_one_ticket() {
    let mut world =
        World::started(json!({"phases": [{"name": "one", "tenants": {"count": 1}, "ladder": [50],
        "bake": "2h", "min": "1d", "max": "20d"}]}));
    for _ in 0..30 {
        let block = world.next_block(|_| [6 * BASE, BASE]);
        world.send(Message::Block(Box::new(block)));
    }
    assert_eq!(world.state(), "rolled_back");
    assert_eq!(tickets(&world)[0].0, "# [CB-OPS] Shares went back to 0: `acme`");
    let phase = section(&world.page("EXECUTION_LOG.md"), "Phase 1: one");
    assert!(
        phase.contains("| `harm` | fail | `harm` | evidence ") && phase.contains("- Roll back: "),
        "{phase}"
    );
}
