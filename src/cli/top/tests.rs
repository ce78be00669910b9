use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::breaker::Key;
use super::keys::{Asked, Look, Pane, press};
use super::model::{Count, Load, Model};
use super::order::Sort;
use super::view::{Scene, draw};
use super::words::{age, seconds};
use crate::breaker::State;
use crate::domain::Tick;
use crate::nats::watch::{Seen, WorkerSeen};

/// When the scenes play, by the wall clock.
const WALL: u64 = 1_700_000_100_000;

fn told(tenant: &str, provider: &str, state: &str) -> Value {
    json!({
        "tenant_id": tenant, "provider_id": provider, "policy_id": "default", "state": state,
        "since": WALL - 12_000, "failure_count": 0, "error_rate": 0.0, "window_requests": 0,
        "window_failures": 0, "half_open_in_flight": 0, "timeout_remaining_ms": 0, "trips": 0,
        "forced": null, "flag_off": false, "fail_fast": 0,
    })
}

fn with(mut told: Value, fields: Value) -> Value {
    for (field, value) in fields.as_object().unwrap() {
        told[field] = value.clone();
    }
    told
}

fn worker(n: u64, requests: u64, refused: u64) -> Seen {
    let name = format!("w-{n}");
    Seen::Worker(WorkerSeen { id: format!("id{n}"), name, version: "0.1.0".to_owned(), requests, refused })
}

fn page(worker: &str, breakers: impl IntoIterator<Item = Value>) -> Seen {
    Seen::Page { worker: worker.to_owned(), breakers: breakers.into_iter().collect() }
}

fn list(model: &mut Model, breakers: impl IntoIterator<Item = Value>, now: Tick) {
    model.apply(Seen::Began, now);
    model.apply(page("w-1", breakers), now);
    model.apply(Seen::Listed, now);
}

fn moved(provider: &str, from: &str, to: &str, at: u64) -> Value {
    json!({
        "kind": "breaker", "tenant_id": "acme", "provider_id": provider, "policy_id": "default",
        "timestamp": at, "from": from, "to": to, "reason": "failure_threshold_exceeded", "failure_count": 5,
        "error_rate": 0.5, "window": {"requests": 10, "failures": 5}, "trips": 1,
        "open_until": if to == "open" { json!(at + 30_000) } else { Value::Null }, "actor": null,
    })
}

/// Some of everything.
fn scene() -> Model {
    let mut model = Model::default();
    list(
        &mut model,
        [
            with(
                told("acme", "openai", "open"),
                json!({
                    "error_rate": 0.625, "window_requests": 16, "window_failures": 10, "failure_count": 5,
                    "timeout_remaining_ms": 18_450, "trips": 3, "fail_fast": 1_204,
                }),
            ),
            with(
                told("acme", "anthropic", "closed"),
                json!({"window_requests": 4_000, "window_failures": 2, "error_rate": 0.0005, "failure_count": 1}),
            ),
            with(told("beta", "openai", "half_open"), json!({"half_open_in_flight": 2, "trips": 1})),
            with(told("beta", "local_llm", "open"), json!({"forced": {"state": "open", "until": null}})),
            with(told("gamma", "openai", "closed"), json!({"flag_off": true})),
            with(told("gamma", "mistral", "open"), json!({"trips": 1, "since": WALL - 3_700_000})),
        ],
        Tick(1_000),
    );
    model.apply(worker(1, 100, 10), Tick(1_000));
    model.apply(worker(2, 50, 0), Tick(1_000));
    model.apply(worker(1, 300, 14), Tick(3_000));
    model.apply(worker(2, 150, 0), Tick(3_000));
    model
}

/// The screen, line by line.
fn screen(model: &Model, look: &mut Look, size: (u16, u16), now: Tick) -> String {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let scene = Scene { model, now, wall_ms: WALL, colour: false };
    terminal.draw(|frame| draw(frame, &scene, look)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..size.1).map(line).collect::<Vec<_>>().join("\n")
}

fn look() -> Look {
    Look::new(Duration::from_secs(2))
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

fn typed(text: &str, look: &mut Look, model: &mut Model) -> Asked {
    let mut asked = Asked::Nothing;
    for c in text.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\u{8}' => KeyCode::Backspace,
            c => KeyCode::Char(c),
        };
        asked = press(key(code), look, model, Tick(4_000));
    }
    asked
}

fn shown(model: &Model) -> Vec<String> {
    model
        .shown(Tick(4_000))
        .into_iter()
        .map(|((tenant, provider), _)| format!("{tenant}/{provider}"))
        .collect()
}

#[test]
fn a_wide_screen_shows_everything() {
    insta::assert_snapshot!(screen(&scene(), &mut look(), (110, 12), Tick(4_000)));
}

#[test]
fn a_narrow_screen_keeps_what_matters() {
    insta::assert_snapshot!(screen(&scene(), &mut look(), (48, 9), Tick(4_000)));
}

#[test]
fn a_screen_of_any_size_is_drawn() {
    for width in [1, 2, 7, 20, 60, 300] {
        for height in [1, 2, 3, 4, 50] {
            for open in [Pane::Nothing, Pane::Help, Pane::Moves, Pane::Breaker(7)] {
                let mut look = Look { open, selected: Some(("acme".into(), "openai".into())), ..look() };
                screen(&scene(), &mut look, (width, height), Tick(4_000));
            }
        }
    }
}

#[test]
fn a_lost_connection_is_told_and_what_was_seen_stays() {
    let mut model = scene();
    model.apply(Seen::Disconnected, Tick(4_000));
    model.apply(Seen::Failed("no answer within 5s".to_owned()), Tick(5_000));
    insta::assert_snapshot!(screen(&model, &mut look(), (100, 6), Tick(9_000)));
    model.apply(Seen::Connected, Tick(9_000));
    list(&mut model, [told("acme", "openai", "closed")], Tick(9_100));
    let screen = screen(&model, &mut look(), (100, 6), Tick(9_100));
    assert!(
        screen.contains("connected") && !screen.contains("lost") && !screen.contains("no answer"),
        "{screen}"
    );
}

#[test]
fn what_the_broker_does_not_permit_stays_on_the_screen_and_the_rest_goes_on() {
    let mut model = scene();
    model.apply(Seen::Denied("Permissions Violation".to_owned()), Tick(4_000));
    list(&mut model, [told("acme", "openai", "closed")], Tick(4_100));
    let picture = screen(&model, &mut look(), (80, 6), Tick(4_100));
    assert!(picture.contains("1 breaker:") && picture.contains("Permissions Violation"), "{picture}");
    model.apply(Seen::Connected, Tick(5_000));
    assert!(!screen(&model, &mut look(), (80, 6), Tick(5_000)).contains("Violation"));
}

#[test]
fn a_filter_is_typed_and_narrows_at_once() {
    let (mut model, mut look) = (scene(), look());
    typed("/OPEN bet", &mut look, &mut model);
    assert_eq!(shown(&model), ["beta/openai"]);
    insta::assert_snapshot!(screen(&model, &mut look, (80, 6), Tick(4_000)));
    typed("\u{8}\u{8}\u{8}\u{8}\n", &mut look, &mut model);
    assert_eq!(shown(&model).len(), 3);
    // While a filter is typed, keys are its letters.
    assert_eq!(typed("/q", &mut look, &mut model), Asked::Nothing);
    typed("\u{1b}", &mut look, &mut model);
    assert_eq!(model.filter.text, "OPEN", "taken back");
    typed("\u{1b}", &mut look, &mut model);
    assert_eq!(shown(&model).len(), 6);
    typed("ff", &mut look, &mut model);
    assert_eq!((model.filter.state, shown(&model)), (Some(State::HalfOpen), vec!["beta/openai".to_owned()]));
    typed("ff", &mut look, &mut model);
    assert_eq!(shown(&model).len(), 6);
}

#[test]
fn each_order_is_what_it_says() {
    let mut model = scene();
    let mut by = |sort| {
        model.sort = sort;
        shown(&model)
    };
    assert_eq!(
        by(Sort::State)[..5],
        ["acme/openai", "beta/local_llm", "gamma/mistral", "beta/openai", "acme/anthropic"]
    );
    assert_eq!(by(Sort::Tenant)[..3], ["acme/anthropic", "acme/openai", "beta/local_llm"]);
    assert_eq!(by(Sort::Provider)[..3], ["acme/anthropic", "beta/local_llm", "gamma/mistral"]);
    assert_eq!(by(Sort::Rate)[..2], ["acme/openai", "acme/anthropic"]);
    assert_eq!(by(Sort::Requests)[..2], ["acme/anthropic", "acme/openai"]);
    assert_eq!(by(Sort::Next)[..3], ["beta/openai", "gamma/mistral", "acme/openai"]);
    assert_eq!(by(Sort::Trips)[..3], ["acme/openai", "beta/openai", "gamma/mistral"]);
    assert_eq!(by(Sort::Refused)[0], "acme/openai");
    let mut look = look();
    typed("r", &mut look, &mut model);
    assert_eq!(shown(&model).last().unwrap(), "acme/openai");
    let before = model.sort;
    typed("s", &mut look, &mut model);
    assert_eq!(model.sort, Sort::State, "round about");
    typed("<", &mut look, &mut model);
    assert_eq!(model.sort, before);
}

#[test]
fn the_cursor_follows_its_breaker_and_stays_on_the_screen() {
    let mut model = Model::default();
    list(&mut model, (0..5_000).map(|n| told("acme", &format!("p{n:04}"), "closed")), Tick(0));
    let mut look = look();
    let first = screen(&model, &mut look, (80, 24), Tick(0));
    assert!(first.contains("p0000") && first.contains("p0019") && !first.contains("p0020"), "{first}");
    press(key(KeyCode::End), &mut look, &mut model, Tick(0));
    let last = screen(&model, &mut look, (80, 24), Tick(0));
    assert!(last.contains("p4999") && !last.contains("p0000"), "{last}");
    press(key(KeyCode::PageUp), &mut look, &mut model, Tick(0));
    assert_eq!(look.selected, Some(("acme".to_owned(), "p4979".to_owned())));
    press(key(KeyCode::Home), &mut look, &mut model, Tick(0));
    press(key(KeyCode::Down), &mut look, &mut model, Tick(0));
    assert_eq!(look.selected, Some(("acme".to_owned(), "p0001".to_owned())));
    // It opens and stands first; the cursor goes with it.
    model.apply(Seen::Moved(moved("p0001", "closed", "open", WALL)), Tick(1));
    let shown: Vec<Key> = model.shown(Tick(1)).into_iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(look.at(&shown), 0);
    press(key(KeyCode::Enter), &mut look, &mut model, Tick(1));
    let details = screen(&model, &mut look, (80, 24), Tick(1));
    assert!(details.contains("acme/p0001") && details.contains("half_open_in_flight"), "{details}");
    typed("\u{1b}", &mut look, &mut model);
    assert_eq!(look.open, Pane::Nothing);
}

#[test]
fn keys_quit_refresh_and_change_the_interval() {
    let (mut model, mut look) = (scene(), look());
    assert_eq!(typed("q", &mut look, &mut model), Asked::Quit);
    assert_eq!(typed("?q", &mut look, &mut model), Asked::Quit, "from the help too");
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    look.open = Pane::Nothing;
    typed("/x", &mut look, &mut model);
    assert_eq!(press(ctrl_c, &mut look, &mut model, Tick(0)), Asked::Quit, "while a filter is typed too");
    typed("\n", &mut look, &mut model);
    assert_eq!(typed(" ", &mut look, &mut model), Asked::Refresh);
    assert_eq!(typed("+", &mut look, &mut model), Asked::Interval);
    assert_eq!(look.every, Duration::from_secs(4));
    typed("--------", &mut look, &mut model);
    assert_eq!(look.every, Duration::from_millis(250));
}

#[test]
fn a_transition_shows_at_once_and_an_older_page_does_not_undo_it() {
    let mut model = Model::default();
    list(&mut model, [told("acme", "a", "closed")], Tick(0));
    model.apply(Seen::Began, Tick(100));
    model.apply(Seen::Moved(moved("a", "closed", "open", WALL)), Tick(110));
    model.apply(Seen::Moved(moved("a", "closed", "open", WALL)), Tick(111));
    assert_eq!(model.moves.len(), 1, "the copy of another worker is none");
    let known = |model: &Model| model.breaker(&("acme".to_owned(), "a".to_owned())).unwrap().clone();
    assert_eq!((known(&model).state, known(&model).remaining_ms(Tick(10_110))), (State::Open, Some(20_000)));
    // Made before the transition, and come after it.
    model.apply(page("w-1", [told("acme", "a", "closed")]), Tick(120));
    model.apply(Seen::Listed, Tick(120));
    assert_eq!(known(&model).state, State::Open);
    // The next list knows better.
    list(&mut model, [told("acme", "a", "closed")], Tick(2_000));
    assert_eq!(known(&model).state, State::Closed);
    // One that no list has told of yet.
    model.apply(Seen::Moved(moved("b", "closed", "open", WALL)), Tick(2_100));
    assert_eq!(model.count(), Count { open: 1, half_open: 0, closed: 1 });
    // What a whole list does not tell of is gone; half of a list says nothing.
    model.apply(Seen::Began, Tick(3_000));
    model.apply(page("w-1", [told("acme", "b", "open")]), Tick(3_000));
    assert_eq!(model.count(), Count { open: 1, half_open: 0, closed: 1 });
    model.apply(Seen::Listed, Tick(3_000));
    assert_eq!(model.count(), Count { open: 1, half_open: 0, closed: 0 });
}

#[test]
fn figures_of_several_workers_add_up_and_go_with_them() {
    let mut model = scene();
    assert_eq!(model.load(), Load { workers: 2, rates: Some((150.0, 2.0)) });
    let breaker = |n| with(told("acme", "openai", "open"), json!({"fail_fast": n}));
    let refusals =
        |model: &Model| model.breaker(&("acme".to_owned(), "openai".to_owned())).unwrap().refusals();
    model.apply(Seen::Began, Tick(5_000));
    model.apply(page("w-2", [breaker(96)]), Tick(5_000));
    model.apply(Seen::Listed, Tick(5_000));
    assert_eq!(refusals(&model), 1_300, "those of both");
    for n in 0..3 {
        model.apply(Seen::Began, Tick(6_000 + n));
        model.apply(worker(2, 150, 0), Tick(6_000 + n));
        model.apply(page("w-2", [breaker(97)]), Tick(6_000 + n));
        model.apply(Seen::Listed, Tick(6_000 + n));
    }
    assert_eq!(model.load().workers, 1, "one did not tell of itself for three lists");
    assert_eq!(refusals(&model), 97);
    // A worker that was started anew counts from 0.
    model.apply(worker(2, 3, 0), Tick(9_000));
    assert_eq!(model.load().rates.map(|(all, _)| all), Some(0.0));
}

#[test]
fn the_refusals_of_a_worker_count_before_it_told_of_itself() {
    let mut model = Model::default();
    let breaker = with(told("acme", "openai", "open"), json!({"fail_fast": 24}));
    model.apply(Seen::Began, Tick(1_000));
    model.apply(worker(1, 100, 16), Tick(1_000));
    model.apply(page("w-2", [breaker]), Tick(1_000));
    model.apply(Seen::Listed, Tick(1_000));
    assert_eq!(model.breaker(&("acme".to_owned(), "openai".to_owned())).unwrap().refusals(), 24);
}

#[test]
fn what_no_router_says_does_no_harm() {
    let mut model = Model::default();
    for told in
        [json!(null), json!([]), json!({"tenant_id": "a"}), json!({"tenant_id": 1, "provider_id": "x"})]
    {
        model.apply(page("w", [told.clone()]), Tick(0));
        model.apply(Seen::Moved(told), Tick(0));
    }
    model.apply(
        page(
            "w",
            [with(told("a\u{1b}[2J", "b", "open"), json!({"timeout_remaining_ms": u64::MAX, "trips": -1}))],
        ),
        Tick(5),
    );
    model.apply(page("w", [told("a", "b", "ajar")]), Tick(5));
    assert_eq!(model.count(), Count { open: 1, half_open: 0, closed: 0 });
    let picture = screen(&model, &mut look(), (80, 6), Tick(9));
    assert!(!picture.contains('\u{1b}'), "{picture}");
}

#[test]
fn times_are_short() {
    let ages = [0, 999, 59_999, 60_000, 3_599_000, 3_600_000, 90_000_000].map(age);
    assert_eq!(ages, ["0s", "0s", "59s", "1m00s", "59m59s", "1h00m", "1d01h"]);
    assert_eq!([250, 500, 2_000, 60_000].map(seconds), ["0.25s", "0.5s", "2s", "60s"]);
}
