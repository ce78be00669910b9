use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ended(ending: Ending, provider: &str) -> Seen {
    Seen::Ended { ending, provider: Some(provider.to_owned()), probe: false, took: at(1) }
}

fn moved(id: &str, from: State, to: State) -> Seen {
    let event = MovedEvent {
        tenant_id: "acme".to_owned(),
        provider_id: "openai".to_owned(),
        from,
        to,
        reason: "r".to_owned(),
        timestamp: 1_000,
        open_until: (to == State::Open).then_some(6_000),
    };
    Seen::Moved { id: Some(id.to_owned()), event }
}

fn failed(provider: &str) -> Seen {
    let (tenant, provider) = ("acme".to_owned(), provider.to_owned());
    Seen::Called { tenant, provider, failed: true, pushed: false, reported: true }
}

#[test]
fn a_rate_is_that_of_the_last_two_whole_seconds() {
    let mut board = Board::new();
    for ms in (0..10_000).step_by(10) {
        let ending = if ms < 5_000 { Ending::Weighted } else { Ending::Sticky };
        board.apply(at(ms), ended(ending, "openai"));
    }
    let (tally, rate) = board.recent(at(10_000));
    assert_eq!((rate, tally.of(Ending::Sticky), tally.of(Ending::Weighted)), (100, 200, 0));
    assert_eq!(board.recent(at(13_000)).1, 0, "what is over is not now");
    assert_eq!((board.total.all(), board.total.decided()), (1_000, 1_000));
    assert_eq!(board.total.providers, [1_000, 0, 0]);
    assert!(board.recent.len() <= 9);
}

#[test]
fn a_young_run_has_a_rate() {
    let mut board = Board::new();
    (0..100).for_each(|ms| {
        board.apply(at(ms * 5), ended(Ending::Weighted, "openai"));
    });
    assert_eq!(board.recent(at(500)).1, 200);
    assert_eq!(Board::new().recent(at(0)).1, 0);
}

#[test]
fn an_event_counts_once_however_many_workers_tell_it() {
    let mut board = Board::new();
    assert!(board.apply(at(1), moved("1", State::Closed, State::Open)).is_some());
    assert!(board.apply(at(2), moved("1", State::Closed, State::Open)).is_none());
    assert_eq!(board.cells[0].remaining(at(1_001)), Some(at(4_000)));
    assert!(board.apply(at(3), moved("2", State::Open, State::HalfOpen)).is_some());
    assert_eq!(board.transitions.len(), 2);
    assert_eq!(board.state("acme", "openai"), State::HalfOpen);
    assert_eq!(board.cells[0].remaining(at(2)), None);
    assert_eq!(board.state("globex", "openai"), State::Closed);
}

#[test]
fn an_opening_knows_how_long_ago_the_first_failure_was() {
    let mut board = Board::new();
    board.apply(at(90), failed("anthropic"));
    board.apply(at(100), failed("openai"));
    board.apply(at(200), failed("openai"));
    let after = |t: Option<&Transition>| t.and_then(|t| t.after);
    assert_eq!(after(board.apply(at(350), moved("1", State::Closed, State::Open))), Some(at(250)));
    // What fails while it is open is not the first failure of anything.
    board.apply(at(400), failed("openai"));
    board.apply(at(500), moved("2", State::Open, State::HalfOpen));
    assert_eq!(after(board.apply(at(600), moved("3", State::HalfOpen, State::Open))), None);
    board.apply(at(700), moved("4", State::Open, State::Closed));
    board.apply(at(800), failed("openai"));
    assert_eq!(after(board.apply(at(810), moved("5", State::Closed, State::Open))), Some(at(10)));
}

#[test]
fn the_time_left_runs_down_between_two_lists() {
    let mut board = Board::new();
    let list = serde_json::json!([{"tenant_id": "acme", "provider_id": "openai", "state": "open",
        "timeout_remaining_ms": 900, "failure_count": 5, "window_requests": 20, "forced": null}]);
    board.apply(at(1_000), Seen::Breakers(serde_json::from_value(list).unwrap()));
    let cell = &board.cells[0];
    assert_eq!((cell.remaining(at(1_400)), cell.remaining(at(9_000))), (Some(at(500)), Some(at(0))));
    assert_eq!((cell.in_a_row, cell.window_requests, board.cells[1].remaining(at(0))), (5, 20, None));
}

#[test]
fn reasons_are_those_of_the_wire() {
    assert_eq!(Ending::of_reason("circuit_breaker_fallback"), Ending::BreakerFallback);
    assert_eq!(Ending::of_reason("sticky"), Ending::Sticky);
    assert_eq!(Ending::of_reason("no answer"), Ending::Refused);
}
