use super::*;

fn sticky() -> Policy {
    three(json!({"sticky": {"enabled": true, "session_key": "user"}}))
}

/// A session that the policy keeps with this candidate.
fn session_of(policy: &Policy, candidate: usize) -> String {
    (0..1_000)
        .map(|n| format!(r#"{{"user":"u-{n}"}}"#))
        .find(|context| {
            let request = RouteRequest { context: Attributes::Json(context), ..request("r") };
            served(policy, &request, Table::passing()).0 == candidate
        })
        .unwrap()
}

#[test]
fn without_a_session_a_provider_is_drawn_by_weight() {
    let policy = three(json!({}));
    let request = drawing(&policy, B);
    let choice = chosen(&policy, &request, Table::passing());
    assert_eq!(
        choice,
        Choice { candidate: B, reason: Reason::Weighted, probe: false, sticky_key: None, backoff_ms: None }
    );
}

#[test]
fn the_same_request_draws_the_same_provider_whatever_else_it_says() {
    let policy = three(json!({}));
    for n in 0..200 {
        let id = format!("request-{n}");
        let first = served(&policy, &request(&id), Table::passing());
        let other = RouteRequest {
            task_type: "embed".into(),
            tenant_id: "other".into(),
            explain: true,
            ..request(&id)
        };
        assert_eq!(served(&policy, &other, Table::passing()), first);
    }
}

#[test]
fn draws_converge_to_the_weights() {
    let policy = three(json!({}));
    let mut times = [0_u32; 3];
    for n in 0..20_000 {
        times[served(&policy, &request(&format!("n{n}")), Table::passing()).0] += 1;
    }
    for (weight, times) in [50, 30, 20].iter().zip(times) {
        assert!(times.abs_diff(weight * 200) < 200, "{times} of 20000 at {weight} %");
    }
}

#[test]
fn a_provider_of_weight_zero_is_never_drawn_even_when_all_others_refuse() {
    let document =
        json!({"policy_id": "p", "providers": [{"name": "idle", "weight": 0}, {"name": "b", "weight": 1}]});
    let policy = parse(&document).unwrap().policy;
    for n in 0..200 {
        assert_eq!(served(&policy, &request(&format!("r{n}")), Table::passing()), (1, Reason::Weighted));
    }
    let mut table = Table::refusing(&[1]);
    assert_eq!(run(&policy, &request("r"), &mut table), Routed::CircuitOpen(vec![refused(1)]));
    assert_eq!(table.asked(), [1]);
}

#[test]
fn a_session_stays_with_its_provider_whatever_the_request_id() {
    let policy = sticky();
    let context = session_of(&policy, C);
    for n in 0..100 {
        let id = format!("r{n}");
        let request = RouteRequest { context: Attributes::Json(&context), ..request(&id) };
        assert_eq!(served(&policy, &request, Table::passing()), (C, Reason::Sticky));
    }
}

#[test]
fn the_session_is_looked_up_in_the_context_and_then_in_the_metadata() {
    let policy = sticky();
    let (of_a, of_b) = (session_of(&policy, A), session_of(&policy, B));
    let (none, null, nested) = (r#"{"other":1}"#, r#"{"user":null}"#, r#"{"user":{"id":1}}"#);
    let rows = [
        (of_a.as_str(), of_b.as_str(), Some(A)),
        (of_b.as_str(), of_a.as_str(), Some(B)),
        (none, of_b.as_str(), Some(B)),
        (null, of_a.as_str(), Some(A)),
        (none, none, None),
        (nested, none, None),
        (r#"{"user":""}"#, none, None),
    ];
    for (context, metadata, keeper) in rows {
        let request = RouteRequest {
            context: Attributes::Json(context),
            metadata: Attributes::Json(metadata),
            ..drawing(&three(json!({})), C)
        };
        let choice = chosen(&policy, &request, Table::passing());
        match keeper {
            Some(candidate) => {
                assert_eq!(
                    (choice.candidate, choice.reason),
                    (candidate, Reason::Sticky),
                    "{context} {metadata}"
                );
                assert!(choice.sticky_key.is_some());
            }
            // No session: the draw of the request id.
            None => {
                assert_eq!((choice.candidate, choice.reason), (C, Reason::Weighted), "{context} {metadata}");
                assert_eq!(choice.sticky_key, None);
            }
        }
    }
}

#[test]
fn the_session_value_that_was_used_is_told() {
    let policy = sticky();
    for (context, key) in
        [(r#"{"user":"u-42"}"#, "u-42"), (r#"{"user":17}"#, "17"), (r#"{"user":true}"#, "true")]
    {
        let request = RouteRequest { context: Attributes::Json(context), ..request("r") };
        assert_eq!(chosen(&policy, &request, Table::passing()).sticky_key.as_deref(), Some(key));
    }
}

#[test]
fn a_sticky_block_that_is_switched_off_leaves_the_draw_to_the_request_id() {
    let policy = three(json!({"sticky": {"enabled": false, "session_key": "user"}}));
    let request = RouteRequest { context: Attributes::Json(r#"{"user":"u"}"#), ..drawing(&policy, B) };
    let choice = chosen(&policy, &request, Table::passing());
    assert_eq!((choice.candidate, choice.reason, choice.sticky_key), (B, Reason::Weighted, None));
}

#[test]
fn a_session_whose_provider_refuses_goes_to_its_second_and_stays_there() {
    let policy = sticky();
    let context = session_of(&policy, A);
    let without_a = |id: &str| {
        let request = RouteRequest { context: Attributes::Json(&context), ..request(id) };
        let choice = chosen(&policy, &request, Table::refusing(&[A]));
        assert_eq!(choice.reason, Reason::CircuitBreakerFallback);
        assert!(choice.sticky_key.is_some());
        choice.candidate
    };
    let second = without_a("r0");
    assert!((1..100).all(|n| without_a(&format!("r{n}")) == second));
}

#[test]
fn a_probe_and_an_unenforced_refusal_serve_as_what_they_were_drawn_for() {
    let policy = three(json!({}));
    let request = drawing(&policy, A);
    let probe = chosen(&policy, &request, Table::passing().with(A, Admission::Probe));
    assert_eq!((probe.candidate, probe.reason, probe.probe), (A, Reason::Weighted, true));
    let shadow = chosen(&policy, &request, Table::passing().with(A, Admission::WouldReject(State::Open)));
    assert_eq!((shadow.candidate, shadow.reason, shadow.probe), (A, Reason::Weighted, false));
}
