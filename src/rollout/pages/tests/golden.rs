//! Whole pages of a rollout that goes straight on, byte by byte.

use serde_json::json;

use super::World;
use crate::rollout::controller::Verb;

/// Two tenants, one phase, a day and a half.
fn straight() -> World {
    let mut world = World::started(json!({}));
    world.well(27);
    assert_eq!(world.state(), "awaiting_approval");
    world.order(Verb::Approve, "bob", "figures are good");
    world.well(7);
    assert_eq!(world.state(), "completed");
    world
}

#[test]
fn a_straight_rollout_has_these_pages() {
    let pages = straight().pages();
    let paths: Vec<&str> = pages.keys().map(String::as_str).collect();
    let all = [
        "EXECUTION_LOG.md",
        "daily/2026-11-19.md",
        "daily/2026-11-20.md",
        "daily/2026-11-21.md",
        "weekly/2026-W47.md",
    ];
    assert_eq!(paths, all);
    for (path, expected) in [
        ("EXECUTION_LOG.md", include_str!("golden/EXECUTION_LOG.md")),
        ("daily/2026-11-20.md", include_str!("golden/2026-11-20.md")),
        ("weekly/2026-W47.md", include_str!("golden/2026-W47.md")),
    ] {
        assert!(pages[path] == expected, "{path} is:\n{}", pages[path]);
    }
}
