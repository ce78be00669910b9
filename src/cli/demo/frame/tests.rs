use super::*;
use crate::cli::demo::board::{MovedEvent, Seen};

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two seconds of acme, openai just opened.
fn board() -> Board {
    let mut board = Board::new();
    for n in 0..200_u64 {
        let (ending, provider) = match n % 4 {
            0 => (Ending::FailFast, None),
            1 => (Ending::BreakerFallback, Some("anthropic")),
            _ => (Ending::Sticky, Some("openai")),
        };
        let provider = provider.map(str::to_owned);
        board.apply(
            at(n * 10),
            Seen::Ended { ending, provider, probe: false, took: Duration::from_micros(405) },
        );
    }
    let event = MovedEvent {
        tenant_id: "acme".to_owned(),
        provider_id: "openai".to_owned(),
        from: State::Closed,
        to: State::Open,
        reason: "failure_threshold_exceeded".to_owned(),
        timestamp: 1_000,
        open_until: Some(6_000),
    };
    board.apply(at(1_900), Seen::Moved { id: None, event });
    let list = serde_json::json!([{"tenant_id": "acme", "provider_id": "openai", "state": "open",
        "timeout_remaining_ms": 4_300, "window_requests": 31, "window_failures": 5, "trips": 1}]);
    board.apply(at(1_950), Seen::Breakers(serde_json::from_value(list).unwrap()));
    board
}

fn painted(rows: usize, columns: usize) -> Vec<String> {
    let board = board();
    let story = "Provider openai fails: 503 and timeouts. Open circuits: acme goes to anthropic.";
    let scene = Scene { board: &board, cast: "2 workers", story, at: at(2_050), run: at(40_000), bar: '#' };
    let lines = frame(&scene, Size { rows, columns });
    lines.into_iter().map(|line| line.rendered(columns, false).trim_end().to_owned()).collect()
}

#[test]
fn a_usual_terminal_shows_all_of_it() {
    let want = "\
beamline-router  2 workers                                           2.0 of 40 s
> Provider openai fails: 503 and timeouts. Open circuits: acme goes to
  anthropic.
100 decisions/s   200 so far   decide p50 0.41 ms  p99 0.41 ms
PROVIDER, last 2 s               REASON, last 2 s
openai      50 % ######          weighted                   0 %
anthropic   25 % ###             sticky                    50 % ######
local_llm    0 %                 fallback                   0 %
none        25 % ###             circuit_breaker_fallback  25 % ###
                                 circuit_open (fail-fast)  25 % ###
CIRCUIT BREAKERS
acme     openai     open       4.2 s left        window  31 failed   5 trips  1
acme     anthropic  closed                       window   0 failed   0 trips  0
globex   openai     closed                       window   0 failed   0 trips  0
globex   anthropic  closed                       window   0 failed   0 trips  0
globex   local_llm  closed                       window   0 failed   0 trips  0
initech  openai     closed                       window   0 failed   0 trips  0
TRANSITIONS, latest first
  1.90 s  acme/openai       closed -> open (failure_threshold_exceeded)";
    assert_eq!(painted(24, 80).join("\n"), want);
}

#[test]
fn no_size_is_too_small_or_overrun() {
    for (rows, columns) in [(1, 1), (5, 20), (24, 40), (60, 200), (0, 0)] {
        let lines = painted(rows, columns);
        assert!(lines.len() <= rows, "{rows}×{columns}: {} lines", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= columns), "{rows}×{columns}");
    }
}

#[test]
fn a_narrow_terminal_stacks_what_a_wide_one_sets_side_by_side() {
    let lines = painted(30, 40);
    assert!(lines.iter().any(|line| line == "openai      50 % ######"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("sticky ")), "{lines:#?}");
    let lines = painted(16, 40);
    assert!(lines.iter().any(|line| line.starts_with("initech  openai")), "{lines:#?}");
}

#[test]
fn nothing_moves_before_anything_was_seen() {
    let board = Board::new();
    let scene = Scene { board: &board, cast: "", story: "", at: at(0), run: at(8_000), bar: '#' };
    let lines = frame(&scene, Size { rows: 24, columns: 80 });
    assert!(lines.iter().all(|line| line.width() <= 80));
}
