use super::*;
use proptest::prelude::*;

/// A policy, a request and a table, all at random.
#[derive(Clone, Debug)]
struct Case {
    weights: Vec<u32>,
    /// Condition, retries and target of each rule; targets past the providers are its own.
    rules: Vec<(u8, u32, usize)>,
    sticky: bool,
    id: String,
    session: Option<String>,
    previous: Option<(u8, u32)>,
    limit: Option<u64>,
    answers: Vec<u8>,
    latencies: Vec<u64>,
}

const ENDINGS: [&str; 4] = ["timeout", "error", "503", "circuit_breaker_open"];

fn case() -> impl Strategy<Value = Case> {
    let policy = (
        prop::collection::vec(0_u32..5, 1..6),
        prop::collection::vec((0_u8..6, 0_u32..3, 0_usize..8), 0..5),
        any::<bool>(),
    );
    let request = (
        "[!-~]{1,16}",
        prop::option::of("[a-z]{0,3}"),
        prop::option::of((0_u8..4, 0_u32..6)),
        prop::option::of(0_u64..200),
    );
    let table = (prop::collection::vec(0_u8..8, 14), prop::collection::vec(0_u64..200, 14));
    (policy, request, table).prop_map(|(policy, request, table)| {
        let (mut weights, rules, sticky) = policy;
        if weights.iter().all(|w| *w == 0) {
            weights[0] = 1;
        }
        let (id, session, previous, limit) = request;
        let (answers, latencies) = table;
        Case { weights, rules, sticky, id, session, previous, limit, answers, latencies }
    })
}

impl Case {
    fn policy(&self) -> Policy {
        let name = |i: usize| if i < self.weights.len() { format!("p{i}") } else { format!("target{i}") };
        let providers: Vec<_> =
            self.weights.iter().enumerate().map(|(i, w)| json!({"name": name(i), "weight": w})).collect();
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|(when, retry, to)| {
                let mut rule = json!({"retry": retry, "to": name(*to)});
                match when {
                    0 => {}
                    1 => rule["when"] = json!({"message_type": "chat"}),
                    2 => rule["when"] = json!({"message_type": "other"}),
                    3 => rule["when"] = json!({"status": ["circuit_breaker_open"]}),
                    4 => rule["when"] = json!({"status": ["5xx", "timeout"]}),
                    _ => {
                        rule["when"] =
                            json!({"status": ["circuit_breaker_open", "error"], "message_type": "chat"})
                    }
                }
                rule
            })
            .collect();
        let sticky = json!({"enabled": self.sticky, "session_key": "s"});
        parse(&json!({"policy_id": "p", "providers": providers, "fallbacks": rules, "sticky": sticky}))
            .unwrap()
            .policy
    }

    fn table(&self) -> Table {
        let mut table = Table::passing();
        for (candidate, (answer, latency)) in self.answers.iter().zip(&self.latencies).enumerate() {
            let answer = match answer {
                0 => Admission::Pass,
                1 => Admission::Probe,
                2 => Admission::Claim,
                3 => Admission::WouldReject(State::HalfOpen),
                _ => refuse(candidate),
            };
            table = table.with(candidate, answer).reporting(candidate, *latency, 0);
        }
        table
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_is_asked_the_answer_is_right(case in case()) {
        let policy = case.policy();
        let context = case.session.as_ref().map(|s| format!(r#"{{"s":"{s}"}}"#));
        let request = RouteRequest {
            context: context.as_deref().map_or(Attributes::Absent, Attributes::Json),
            previous: case.previous.map(|(n, attempt)| Previous { status: ENDINGS[n as usize].into(), attempt }),
            #[expect(clippy::cast_precision_loss, reason = "below 200")]
            constraints: Constraints { max_latency_ms: case.limit.map(|l| l as f64), max_cost: None },
            ..request(&case.id)
        };
        let mut table = case.table();
        let mut trail = Trail::new(true);
        let routed = decide(&policy, &request, &mut table, &mut trail);

        let asked = table.asked();
        let excluded = |c: usize| case.limit.is_some_and(|most| table.observed(c).latency_ms > most);
        let drawable = |c: usize| policy.candidates()[c].weight > 0;
        let target = |c: usize| policy.fallbacks().iter().any(|f| f.to == c);
        let everyone = || 0..policy.candidates().len();

        let mut once = asked.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), asked.len(), "asked twice");
        prop_assert!(asked.iter().all(|c| !excluded(*c)), "an excluded candidate was asked");
        prop_assert!(asked.iter().all(|c| drawable(*c) || target(*c)), "weight 0 and no target");
        let checks: Vec<_> = trail.steps().iter().filter_map(|s| match s {
            Step::Check { candidate, admission } => Some((*candidate, *admission)),
            _ => None,
        }).collect();
        let answers: Vec<_> = asked.iter().map(|c| (*c, table.answer(*c))).collect();
        prop_assert_eq!(checks, answers, "the trail tells something else");

        let refusals: Vec<_> =
            asked.iter().filter(|c| matches!(table.answer(**c), Admission::Refuse { .. })).map(|c| refused(*c)).collect();
        match &routed {
            Routed::To(choice) => {
                let last = *asked.last().unwrap();
                prop_assert_eq!(choice.candidate, last);
                prop_assert_eq!(refusals.len(), asked.len() - 1);
                prop_assert_eq!(choice.probe, table.answer(last) == Admission::Probe);
                prop_assert!(matches!(
                    table.answer(last), Admission::Pass | Admission::Probe | Admission::WouldReject(_)
                ));
                prop_assert_eq!(choice.reason == Reason::CircuitBreakerFallback, !refusals.is_empty());
                let session = case.sticky.then_some(case.session.as_deref()).flatten().filter(|s| !s.is_empty());
                prop_assert_eq!(choice.sticky_key.as_deref(), session);
            }
            Routed::Claim(candidate) => {
                prop_assert_eq!(asked.last(), Some(candidate));
                prop_assert_eq!(table.answer(*candidate), Admission::Claim);
                prop_assert_eq!(refusals.len(), asked.len() - 1);
            }
            Routed::CircuitOpen(all) => {
                prop_assert_eq!(all, &refusals);
                prop_assert!(!all.is_empty());
                let rule = |c: usize| policy.fallbacks().iter().any(|f| f.to == c && f.when.matches("circuit_breaker_open", "chat"));
                for c in everyone().filter(|c| !excluded(*c) && (drawable(*c) || rule(*c))) {
                    prop_assert!(asked.contains(&c), "{} could have served", c);
                }
            }
            Routed::Constrained(all) => {
                prop_assert!(asked.is_empty());
                prop_assert!(!all.is_empty());
                prop_assert!(everyone().all(|c| excluded(c) == all.iter().any(|e| e.candidate == c)));
                prop_assert!(everyone().all(|c| excluded(c) || !drawable(c)), "a provider was left");
            }
        }
        // The same request takes the same way.
        let mut again = case.table();
        prop_assert_eq!(run(&policy, &request, &mut again), routed);
        prop_assert_eq!(again.asked(), asked);
    }

    #[test]
    fn a_refused_claim_only_ever_leads_further(case in case()) {
        let policy = case.policy();
        let request = request(&case.id);
        let mut table = case.table();
        let mut way: Vec<usize> = Vec::new();
        while let Routed::Claim(candidate) = run(&policy, &request, &mut table) {
            let asked = table.asked();
            prop_assert!(asked.starts_with(&way), "{:?} after {:?}", asked, way);
            way = asked;
            table = table.with(candidate, refuse(candidate));
            table.asked.borrow_mut().clear();
        }
        prop_assert!(table.asked().starts_with(&way));
    }
}
