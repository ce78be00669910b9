use super::*;
use crate::cli::demo::board::{MovedEvent, Seen};
use crate::cli::demo::tenants::cells;

const RUN: Duration = Duration::from_secs(40);

fn told() -> Told {
    let agreement = Agreement::Same { position: "9".to_owned(), digest: "7".to_owned() };
    Told { agreement, decisions: vec![("worker 1".to_owned(), 5), ("worker 2".to_owned(), 4)] }
}

fn decided(board: &mut Board, ending: Ending) {
    let seen = Seen::Ended { ending, provider: None, probe: false, took: Duration::from_micros(300) };
    board.apply(Duration::ZERO, seen);
}

fn moved(board: &mut Board, seconds: u64, tenant: &str, provider: &str, from: State, to: State) {
    let event = MovedEvent {
        tenant_id: tenant.to_owned(),
        provider_id: provider.to_owned(),
        from,
        to,
        reason: "r".to_owned(),
        timestamp: 1_000,
        open_until: (to == State::Open).then_some(6_000),
    };
    board.apply(Duration::from_secs(seconds), Seen::Moved { id: None, event });
}

/// What a whole round shows, without what `left_out` tells.
fn board(left_out: impl Fn(&str, &str, State) -> bool) -> Board {
    let mut board = Board::new();
    for ending in [Ending::Weighted, Ending::FailFast, Ending::BreakerFallback] {
        decided(&mut board, ending);
    }
    for (provider, start) in [("openai", 6), ("anthropic", 24)] {
        for (tenant, _) in cells().filter(|(_, drawn)| *drawn == provider) {
            for (n, from, to) in [
                (0, State::Closed, State::Open),
                (5, State::Open, State::HalfOpen),
                (6, State::HalfOpen, State::Closed),
            ] {
                if !left_out(tenant.id, provider, to) {
                    moved(&mut board, start + n, tenant.id, provider, from, to);
                }
            }
        }
    }
    board
}

fn missing_in(board: &Board, told: &Told, run: Option<Duration>) -> Vec<String> {
    let ended = Ended { board, told, cast: "", lasted: RUN, drained: true, listed: true };
    missing(&ended, &Story::lasting(RUN), run)
}

#[test]
fn a_whole_round_lacks_nothing() {
    assert_eq!(missing_in(&board(|_, _, _| false), &told(), Some(RUN)), Vec::<String>::new());
}

#[test]
fn what_did_not_follow_is_told() {
    let never_closed =
        board(|tenant, provider, to| (tenant, provider, to) == ("globex", "anthropic", State::Closed));
    let want = ["globex/anthropic did not close after its failures from 23 s on"];
    assert_eq!(missing_in(&never_closed, &told(), Some(RUN)), want);

    let never_opened = board(|tenant, _, _| tenant == "initech");
    let want = ["initech/openai did not open after its failures from 5 s on"];
    assert_eq!(missing_in(&never_opened, &told(), Some(RUN)), want);

    let want = ["no request was decided"];
    assert_eq!(missing_in(&Board::new(), &told(), None), want, "cut short");
}

#[test]
fn workers_that_disagree_fail_even_a_run_cut_short() {
    let agreement =
        Agreement::Differ { position: "9".to_owned(), digests: vec!["1".to_owned(), "2".to_owned()] };
    let told = Told { agreement, ..told() };
    let want = ["the workers do not agree on the state of the breakers"];
    assert_eq!(missing_in(&board(|_, _, _| false), &told, None), want);
}

#[test]
fn the_summary_tells_counts_transitions_and_agreement() {
    let (board, told) = (board(|_, provider, _| provider == "openai"), told());
    let ended =
        Ended { board: &board, told: &told, cast: "2 workers", lasted: RUN, drained: true, listed: true };
    let text = summary(&ended).join("\n");
    let want = "\
beamline-router demo, 40.0 s: 2 workers
requests      3, 0 a second; decide p50 0.31 ms, p99 0.31 ms as the clients saw it
                    1  weighted
                    0  sticky
                    0  fallback
                    1  circuit_breaker_fallback
                    1  circuit_open (fail-fast)
calls         0 simulated, 0 of them for pushed assignments, 0 failed
probes        0 requests were let through as probes
transitions   6
                24.00 s  acme/anthropic    closed -> open (r)
                29.00 s  acme/anthropic    open -> half-open (r)
                30.00 s  acme/anthropic    half-open -> closed (r)
                24.00 s  globex/anthropic  closed -> open (r)
                29.00 s  globex/anthropic  open -> half-open (r)
                30.00 s  globex/anthropic  half-open -> closed (r)
opening       no circuit opened
workers       worker 1 answered 5, worker 2 answered 4
              at log position 9 all have state digest 7: they agree
              all drained and ended with exit status 0; nothing is left running";
    assert_eq!(text, want);
}
