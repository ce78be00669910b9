//! Names on the pages, held against the documents that have them.

use crate::rollout::pages::phase_section::{ALERTS, METRICS};
use crate::rollout::pages::tickets::TicketKind;

const PAGES: &str = include_str!("../../../../docs/rollout-pages.md");
const METRICS_PAGE: &str = include_str!("../../../../docs/metrics.md");
const RULES: &str = include_str!("../../../../deploy/prometheus/rules.yml");

#[test]
fn each_metric_and_alert_exists() {
    let of_tickets = TicketKind::ALL.iter().flat_map(|kind| kind.texts().metrics);
    for name in METRICS.iter().map(|(name, _)| name).chain(of_tickets) {
        assert!(METRICS_PAGE.contains(&format!("\n### `{name}`\n")), "{name}");
    }
    for name in ALERTS {
        assert!(RULES.contains(&format!("- alert: {name}\n")), "{name}");
    }
}

#[test]
fn each_kind_of_ticket_is_in_the_reference_once() {
    for kind in TicketKind::ALL {
        let rows = PAGES.lines().filter(|line| line.starts_with(&format!("| `{}` |", kind.as_str()))).count();
        assert_eq!(rows, 1, "{}", kind.as_str());
    }
    let rows =
        PAGES.split("## Tickets").nth(1).unwrap().lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, TicketKind::ALL.len());
}
