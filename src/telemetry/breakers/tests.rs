use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use serde_json::json;

use super::*;
use crate::breaker::{Cause, Transition};
use crate::domain::{ClaimId, Offset, Outcome, PolicyId, ProviderId, Status, TenantId, Tick};
use crate::ledger::{Fold, Verdicts};
use crate::log::{At, ClaimEntry, Entry, ForceEntry, ForceTo, PolicyEntry, Revision};
use crate::routing::{Admission, Candidates};
use crate::state::Asking;
use crate::telemetry::Exposition;

const START: u64 = 1_700_000_000_000;
const TIMEOUT_MS: u64 = 10_000;

/// A fold that is told entry by entry, and the page over its breakers.
struct Bench {
    fold: Fold,
    state: Arc<State>,
    exposition: Exposition,
    now: Arc<AtomicU64>,
    position: u64,
}

impl Bench {
    fn new() -> Self {
        Self::showing(SHOWN_AT_MOST)
    }

    fn showing(at_most: usize) -> Self {
        let state = Arc::new(State::new(true));
        let fold = Fold::new(Arc::clone(&state), Arc::new(Verdicts::default()));
        let now = Arc::new(AtomicU64::new(START));
        let mut exposition = Exposition::new("0");
        let clock = Arc::clone(&now);
        let clock: Now = Arc::new(move || Stamp(clock.load(Ordering::Relaxed)));
        let breakers = Breakers { at_most, ..Breakers::new(Arc::clone(&state), clock) };
        exposition.show_breakers(breakers);
        Self { fold, state, exposition, now, position: 0 }
    }

    fn after(&mut self, ms: u64) -> &mut Self {
        self.now.fetch_add(ms, Ordering::Relaxed);
        self
    }

    fn apply(&mut self, entry: &Entry<'_>) {
        self.position += 1;
        let at = At { position: self.position, stamp: Stamp(self.now.load(Ordering::Relaxed)) };
        self.fold.apply(entry, at, Offset(0), true);
    }

    fn policy(&mut self, tenant_id: &str, providers: Option<&[&str]>) {
        let document = providers.map(|providers| {
            let providers: Vec<_> = providers.iter().map(|p| json!({"name": p, "weight": 1})).collect();
            Arc::new(json!({"policy_id": "p", "providers": providers, "circuit_breaker": {
                "enabled": true, "failure_threshold": 3, "timeout_ms": TIMEOUT_MS, "success_threshold": 1,
            }}))
        });
        self.apply(&Entry::Policy(PolicyEntry {
            tenant_id: TenantId::try_new(tenant_id).unwrap(),
            policy_id: PolicyId::try_new("p").unwrap(),
            revision: Revision { created: 1, revision: self.position + 1 },
            document,
            actor: None,
            reason: None,
            authenticated: None,
        }));
    }

    fn result(&mut self, provider_id: &str, status: Status, change: impl FnOnce(&mut Outcome<'_>)) {
        let mut outcome = Outcome::of("acme", provider_id, status, self.position);
        change(&mut outcome);
        self.apply(&Entry::Result(outcome));
    }

    fn ends(&mut self, provider_id: &str, status: Status, times: u32) {
        (0..times).for_each(|_| self.result(provider_id, status, |_| {}));
    }

    fn claim(&mut self, request_id: &str) {
        self.apply(&Entry::Claim(ClaimEntry {
            tenant_id: Cow::Borrowed("acme"),
            provider_id: Cow::Borrowed("a"),
            request_id: Cow::Borrowed(request_id),
            claim: ClaimId(self.position),
            latest: Stamp(u64::MAX),
            lease_ms: 0,
            takes: None,
        }));
    }

    fn force(&mut self, to: ForceTo, ttl_ms: Option<u64>) {
        self.apply(&Entry::Force(ForceEntry {
            tenant_id: TenantId::try_new("acme").unwrap(),
            provider_id: ProviderId::try_new("a").unwrap(),
            to: Some(to),
            ttl_ms,
            latest: None,
            actor: None,
            reason: None,
            authenticated: None,
        }));
    }

    fn cell(&self) -> Arc<Cell> {
        self.state.breaker("acme", "a").unwrap()
    }

    /// The lines that the collector wrote.
    fn page(&self) -> Vec<String> {
        let page = self.exposition.encode().unwrap();
        let ours = |l: &&str| l.contains("router_circuit_breaker_") || l.contains("router_metrics_hidden");
        page.lines().filter(ours).map(str::to_owned).collect()
    }

    /// The series of `acme`'s provider `a` that are not 0 and no setting: `name{labels} value`, its own
    /// labels and the common prefix left out.
    fn shown(&self) -> Vec<String> {
        let lines = self.page().into_iter();
        let own = r#"{tenant_id="acme",provider_id="a""#;
        lines
            .filter(|l| l.contains(own) && !l.ends_with(" 0") && !l.ends_with(" 0.0"))
            .filter(|l| !l.contains("_threshold{"))
            .map(|l| {
                l.replace("router_circuit_breaker_", "")
                    .replace(own, "{")
                    .replace("{,", "{")
                    .replace("{}", "")
            })
            .collect()
    }

    fn states(&self) -> Vec<String> {
        self.shown().into_iter().filter(|l| l.starts_with("state{")).collect()
    }
}

#[test]
fn a_driven_schedule_is_told_to_the_number() {
    let mut bench = Bench::new();
    bench.policy("acme", Some(&["a", "b"]));
    assert_eq!(bench.shown(), [r#"state{state="closed"} 1"#], "nothing has happened");

    bench.after(1_000).ends("a", Status::Success, 2);
    bench.ends("a", Status::Error, 3);
    let opened = bench.now.load(Ordering::Relaxed);
    for _ in 0..4 {
        bench.cell().count_fail_fast(Tick(0));
    }
    bench.cell().count_would_reject();
    // A stray while open, a call from before the opening, a second copy.
    bench.result("a", Status::Success, |_| {});
    bench.result("a", Status::Success, |o| o.latency_ms = Some(60_000));
    bench.result("a", Status::Success, |o| o.identity = u64::MAX);
    bench.result("a", Status::Success, |o| o.identity = u64::MAX);
    bench.after(2_500);
    assert_eq!(
        bench.shown(),
        [
            r#"events_total{event_type="success"} 2"#,
            r#"events_total{event_type="failure"} 3"#,
            r#"events_total{event_type="fail_fast"} 4"#,
            r#"events_total{event_type="would_reject"} 1"#,
            r#"events_total{event_type="ignored"} 2"#,
            r#"events_total{event_type="late"} 1"#,
            r#"events_total{event_type="duplicate"} 1"#,
            r#"state_transitions_total{from="closed",to="open",state="open"} 1"#,
            r#"state{state="open"} 1"#,
            "error_rate 0.6",
            "window_requests 5",
            "window_failures 3",
            "timeout_remaining_seconds 7.5",
            &format!("last_transition_timestamp_seconds {}.0", opened / 1_000),
            r#"trigger_reason_total{reason="failure_threshold_exceeded"} 1"#,
            "requests_saved_total 2.4",
        ]
    );

    bench.after(TIMEOUT_MS - 2_500).claim("r");
    let half_opened = bench.now.load(Ordering::Relaxed);
    assert_eq!(half_opened, opened + TIMEOUT_MS);
    bench.result("a", Status::Error, |o| o.request_id = Some(Cow::Borrowed("r")));
    bench.after(TIMEOUT_MS).claim("s");
    bench.result("a", Status::Success, |o| o.request_id = Some(Cow::Borrowed("s")));
    assert_eq!(
        bench.shown(),
        [
            r#"events_total{event_type="success"} 3"#,
            r#"events_total{event_type="failure"} 4"#,
            r#"events_total{event_type="fail_fast"} 4"#,
            r#"events_total{event_type="would_reject"} 1"#,
            r#"events_total{event_type="ignored"} 2"#,
            r#"events_total{event_type="late"} 1"#,
            r#"events_total{event_type="duplicate"} 1"#,
            r#"state_transitions_total{from="closed",to="open",state="open"} 1"#,
            r#"state_transitions_total{from="open",to="half_open",state="half_open"} 2"#,
            r#"state_transitions_total{from="half_open",to="closed",state="closed"} 1"#,
            r#"state_transitions_total{from="half_open",to="open",state="open"} 1"#,
            r#"state{state="closed"} 1"#,
            r#"timeout_transitions_total{transition_type="open_to_half_open"} 2"#,
            &format!("last_transition_timestamp_seconds {}.0", (half_opened + TIMEOUT_MS) / 1_000),
            r#"trigger_reason_total{reason="failure_threshold_exceeded"} 1"#,
            r#"trigger_reason_total{reason="half_open_failure"} 1"#,
            "requests_saved_total 2.4",
        ],
        "closed, and the window starts empty"
    );
    let other = bench.page().into_iter().filter(|l| l.contains(r#"provider_id="b""#) && !l.ends_with(" 0"));
    assert_eq!(
        other.filter(|l| !l.ends_with(" 0.0") && !l.contains("_threshold{")).count(),
        1,
        "the other provider's is closed, and that is all"
    );
}

#[test]
fn a_gauge_moves_on_with_time_alone() {
    let mut bench = Bench::new();
    bench.policy("acme", Some(&["a"]));
    bench.ends("a", Status::Error, 3);
    let gauges = |b: &Bench| {
        b.shown()
            .into_iter()
            .filter(|l| l.starts_with("window_") || l.contains("remaining"))
            .collect::<Vec<_>>()
    };
    assert_eq!(gauges(&bench), ["window_requests 3", "window_failures 3", "timeout_remaining_seconds 10.0"]);
    bench.after(4_001);
    assert_eq!(gauges(&bench), ["window_requests 3", "window_failures 3", "timeout_remaining_seconds 5.999"]);
    bench.after(TIMEOUT_MS);
    assert!(
        bench
            .page()
            .iter()
            .any(|l| l.ends_with(r#"remaining_seconds{tenant_id="acme",provider_id="a"} 0.0"#))
    );
    assert_eq!(bench.states(), [r#"state{state="open"} 1"#], "open until somebody claims");
    bench.after(60_000);
    assert_eq!(gauges(&bench), Vec::<String>::new(), "the window has slid past it");
}

#[test]
fn exactly_one_state_is_1_whatever_happens() {
    let mut bench = Bench::new();
    bench.policy("acme", Some(&["a"]));
    type Step = fn(&mut Bench);
    let steps: [(&str, Step); 7] = [
        ("closed", |_| {}),
        ("open", |b| b.ends("a", Status::Error, 3)),
        ("open", |b| {
            b.after(TIMEOUT_MS);
        }),
        ("half_open", |b| b.claim("r")),
        ("closed", |b| b.force(ForceTo::Closed, None)),
        ("open", |b| b.force(ForceTo::Open, None)),
        ("half_open", |b| b.force(ForceTo::Auto, None)),
    ];
    for (n, (state, step)) in steps.into_iter().enumerate() {
        step(&mut bench);
        assert_eq!(bench.states(), [format!("state{{state=\"{state}\"}} 1")], "step {n}");
        let all = bench.page().iter().filter(|l| l.starts_with("router_circuit_breaker_state{")).count();
        assert_eq!(all, 3, "the other two are told as 0");
    }
}

#[test]
fn an_opening_without_an_end_tells_no_remaining_time() {
    let mut bench = Bench::new();
    bench.policy("acme", Some(&["a"]));
    let remaining = |b: &Bench| b.shown().into_iter().filter(|l| l.contains("remaining")).collect::<Vec<_>>();
    bench.force(ForceTo::Open, None);
    assert_eq!(remaining(&bench), Vec::<String>::new());
    bench.force(ForceTo::Open, Some(30_000));
    assert_eq!(remaining(&bench), ["timeout_remaining_seconds 30.0"]);
    assert!(bench.shown().contains(&r#"trigger_reason_total{reason="forced"} 2"#.to_owned()));
}

#[test]
fn a_removed_breaker_takes_its_series_along() {
    let mut bench = Bench::new();
    bench.policy("acme", Some(&["a", "b"]));
    bench.policy("zeta", Some(&["a"]));
    bench.ends("a", Status::Error, 3);
    let of = |b: &Bench, text: &str| b.page().iter().filter(|l| l.contains(text)).count();
    assert!(of(&bench, r#"tenant_id="zeta""#) > 20);
    bench.policy("zeta", None);
    assert_eq!(of(&bench, r#"tenant_id="zeta""#), 0);
    bench.policy("acme", Some(&["b"]));
    assert_eq!(of(&bench, r#"provider_id="a""#), 0);
    assert!(of(&bench, r#"provider_id="b""#) > 20);

    bench.policy("acme", Some(&["a", "b"]));
    assert_eq!(bench.shown(), [r#"state{state="closed"} 1"#], "one made anew begins at zero");
}

#[test]
fn what_the_cap_hides_is_the_end_of_the_order_and_is_counted() {
    let mut bench = Bench::showing(3);
    let hidden = |b: &Bench| {
        b.page().into_iter().filter(|l| l.starts_with("router_metrics_hidden")).collect::<Vec<_>>()
    };
    assert_eq!(hidden(&bench), ["router_metrics_hidden_breakers 0"]);
    bench.policy("zeta", Some(&["a"]));
    bench.policy("mid", Some(&["b", "a"]));
    bench.policy("acme", Some(&["x", "b"]));
    let closed = bench.page().into_iter().filter(|l| l.contains(r#"state="closed"} 1"#));
    let owners: Vec<_> = closed
        .map(|l| l.replace("router_circuit_breaker_state", "").replace(r#",state="closed"} 1"#, ""))
        .collect();
    assert_eq!(
        owners,
        [
            r#"{tenant_id="acme",provider_id="b""#,
            r#"{tenant_id="acme",provider_id="x""#,
            r#"{tenant_id="mid",provider_id="a""#,
        ]
    );
    assert_eq!(hidden(&bench), ["router_metrics_hidden_breakers 2"]);
}

#[test]
fn what_a_full_page_holds_is_as_much_as_is_said() {
    let mut bench = Bench::new();
    bench.policy("acme", Some(&["a"]));
    let series = |b: &Bench| b.page().iter().filter(|l| l.contains("tenant_id=")).count();
    assert_eq!(series(&bench), 26, "closed, and never moved");
    // Open, forced, and even the transition that no breaker makes.
    bench.force(ForceTo::Open, Some(30_000));
    let never = Transition { from: Shown::Closed, to: Shown::HalfOpen, ..moved() };
    bench.cell().lock().counters.transition(&never);
    assert_eq!(series(&bench), 29);
    let threshold = r#"error_rate_threshold{tenant_id="acme",provider_id="a"} 0.5"#;
    assert!(bench.page().iter().any(|l| l.ends_with(threshold)));

    let ids: Vec<_> = (0..100).map(|n| format!("provider-{n}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    for tenant in 0..SHOWN_AT_MOST / 100 + 1 {
        bench.policy(&format!("tenant-{tenant:04}"), Some(&ids));
    }
    let page = bench.exposition.encode().unwrap();
    assert!((25_000_000..35_000_000).contains(&page.len()), "{} bytes", page.len());
    let shown = page.matches("router_circuit_breaker_error_rate{").count();
    assert_eq!(shown, SHOWN_AT_MOST);
    assert!(page.contains("router_metrics_hidden_breakers 101\n"), "a hundred, and the first one");
}

fn moved() -> Transition {
    Transition {
        from: Shown::Closed,
        to: Shown::Open,
        cause: Cause::Reset,
        at: Stamp(START),
        window: Default::default(),
        failures_in_a_row: 0,
        trips: 0,
        open_until: None,
    }
}

#[test]
fn a_decision_waits_for_no_scrape() {
    let mut bench = Bench::new();
    bench.policy("acme", Some(&["a", "b"]));
    bench.ends("a", Status::Error, 3);
    let state = Arc::clone(&bench.state);
    let decide = move || {
        let routable = state.catalog().find("acme", "p").unwrap();
        let mut asking = Asking::new(&state, &routable, "r", Tick(START), &[]);
        let admitted = [0, 1].map(|candidate| asking.admit(candidate));
        let observed = asking.observed(0);
        asking.settle(|_, _| {});
        (admitted, observed)
    };
    // A scrape holds no more than this, and each lock for a moment only.
    let mut answer = None;
    bench.state.for_each_breaker(|cell| {
        let _held = cell.lock();
        let (told, tells) = mpsc::channel();
        let decide = decide.clone();
        std::thread::spawn(move || told.send(decide()));
        answer = Some(tells.recv_timeout(Duration::from_secs(30)).expect("a decision waits for a lock"));
    });
    let (admitted, _) = answer.unwrap();
    assert!(matches!(admitted, [Admission::Refuse { .. }, Admission::Pass]), "{admitted:?}");
}

/// `cargo test --release --lib what_a_scrape_costs -- --ignored --nocapture`
#[test]
#[ignore = "measures; wants a quiet machine and the release profile"]
#[expect(clippy::print_stderr, clippy::disallowed_methods, reason = "it measures, and tells what")]
fn what_a_scrape_costs() {
    for tenants in [100, 1_000] {
        let mut bench = Bench::new();
        let ids: Vec<_> = (0..10).map(|n| format!("provider-{n}")).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        (0..tenants).for_each(|n| bench.policy(&format!("tenant-{n:04}"), Some(&ids)));
        for tenant in 0..tenants / 2 {
            let tenant = format!("tenant-{tenant:04}");
            for status in [Status::Success, Status::Error, Status::Error, Status::Error] {
                bench.result("provider-3", status, |o| o.tenant_id = Cow::Owned(tenant.clone()));
            }
        }
        let mut took: Vec<_> = (0..40)
            .map(|_| {
                let began = std::time::Instant::now();
                (bench.exposition.encode().unwrap().len(), began.elapsed())
            })
            .collect();
        took.sort_unstable_by_key(|(_, took)| *took);
        let (bytes, median) = took[20];
        let (.., most) = took[39];
        eprintln!("{} breakers: {bytes} bytes, median {median:?}, most {most:?}", tenants * 10);
    }
}

#[test]
fn a_page_is_in_families_each_with_its_head_and_every_line_can_be_read() {
    let mut bench = Bench::new();
    // Every kind of character that an id may hold; none needs escaping, and a label could hold more.
    bench.policy("A.z_0:9-", Some(&["p:q", "r.s"]));
    bench.policy("acme", Some(&["a"]));
    bench.ends("a", Status::Error, 3);

    let (mut families, mut series) = (Vec::new(), HashSet::new());
    for line in bench.page() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            families.push(help.split(' ').next().unwrap().to_owned());
            assert!(help.ends_with('.'), "{help}");
            continue;
        }
        let family = families.last().unwrap();
        if let Some(kind) = line.strip_prefix("# TYPE ").or(line.strip_prefix("# UNIT ")) {
            assert_eq!(kind.split(' ').next().unwrap(), family);
            continue;
        }
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        assert!(
            name == family || name.strip_suffix("_total") == Some(family),
            "{name} stands under {family}"
        );
        let (labels, value) = rest.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        assert!(series.insert((name.to_owned(), labels.to_owned())), "{line} stands twice");
        if name != "router_metrics_hidden_breakers" {
            let owner =
                [r#"{tenant_id="A.z_0:9-",provider_id="p:q""#, r#"{tenant_id="A.z_0:9-",provider_id="r.s""#];
            let own = r#"{tenant_id="acme",provider_id="a""#;
            assert!(labels.starts_with(own) || owner.iter().any(|o| labels.starts_with(o)), "{line}");
        }
    }
    let shown: HashSet<_> = families.iter().collect();
    assert_eq!(shown.len(), families.len(), "a family stands twice");
    let ours = |f: &&Family| {
        f.name.starts_with("router_circuit_breaker_") || f.name == "router_metrics_hidden_breakers"
    };
    for family in metric::ALL.iter().filter(ours) {
        assert!(families.iter().any(|f| f == family.name.trim_end_matches("_total")), "{}", family.name);
    }
    assert_eq!(families.len(), metric::ALL.iter().filter(ours).count());
}
