//! Logs: one line for each finished unit of work, in JSON for machines or text for people.
//!
//! `serve` logs to standard output, where containers and service managers collect it; the commands
//! of the CLI print answers there and log nothing. In JSON the fields of an event stand beside
//! `timestamp`, `level` and `target`, so that `event` can be filtered without digging. A line is
//! written when it happens, by whoever logs it: the last words of a dying process are never lost in
//! a buffer. The price is that a reader of standard output that stalls holds up whoever logs, which
//! is why nothing logs once a request.
//!
//! Whoever logs sees to it that no secret is in a field, and limits what repeats. What libraries say is
//! limited here ([`Repeats`]): its `stands_for` tells how many lines of that level and target one is for.
//! Text from outside can stand in any field, and is shown as [`shown`](super::shown) has it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter, format, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::repeats::Repeats;
use super::shown::{Spelling, escaped};
use crate::clock::Clock;

/// What the targets of this program begin with.
const OURS: &str = "beamline_router";

/// So many levels and targets of libraries are told apart; any more count as one.
const MOST_TARGETS: usize = 256;

const ITALIC: &str = "\x1b[3m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// For people; in colour on a terminal.
    Text,
}

/// Logs to standard output from now on: what this program says at `level` and above, and what its
/// libraries say when they complain. At info some of those tell each connection.
///
/// # Errors
/// If the process logs already.
pub fn init(format: Format, level: LevelFilter) -> Result<(), TryInitError> {
    let colour = std::io::stdout().is_terminal();
    subscriber(format, level, std::io::stdout, colour, Clock::start()).try_init()
}

fn subscriber<W>(
    format: Format,
    level: LevelFilter,
    writer: W,
    colour: bool,
    clock: Clock,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let libraries = level.min(LevelFilter::WARN);
    let targets = Targets::new().with_default(libraries).with_target(OURS, level);
    tracing_subscriber::registry().with(targets).with(lines(format, writer, colour, clock))
}

fn lines<S, W>(format: Format, writer: W, colour: bool, clock: Clock) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = layer().with_writer(writer).with_ansi(colour);
    let libraries = Libraries { clock, said: Mutex::default() };
    match format {
        Format::Json => {
            let look = format::format().json().flatten_event(true);
            let look = look.with_current_span(false).with_span_list(false);
            let look = Look { look, format, libraries };
            Box::new(lines.fmt_fields(JsonFields::new()).event_format(look))
        }
        Format::Text => {
            let look = Look { look: format::format().with_ansi(colour), format, libraries };
            Box::new(lines.fmt_fields(format::debug_fn(text_field).delimited(" ")).event_format(look))
        }
    }
}

/// A look of lines, with what the module says of libraries and of text from outside.
struct Look<F> {
    look: F,
    format: Format,
    libraries: Libraries,
}

impl<S, N, F> FormatEvent<S, N> for Look<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut stands_for = None;
        if !event.metadata().target().starts_with(OURS) {
            stands_for = self.libraries.count(event);
            if stands_for.is_none() {
                return Ok(());
            }
        }
        let mut line = String::new();
        self.look.format_event(context, Writer::new(&mut line), event)?;
        line.truncate(line.trim_end().len());
        match (stands_for, self.format) {
            (None, _) => {}
            (Some(n), Format::Text) => write!(line, " stands_for={n}")?,
            (Some(n), Format::Json) => {
                // The brace that closes the object.
                line.pop();
                write!(line, ",\"stands_for\":{n}}}")?;
            }
        }
        match self.format {
            Format::Json => writeln!(writer, "{}", escaped(&line)),
            Format::Text => writeln!(writer, "{line}"),
        }
    }
}

/// A field in text.
fn text_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match (field.name(), writer.has_ansi_escapes()) {
        ("message", _) => {}
        // Where a library's line stands in its source.
        (name, _) if name.starts_with("log.") => return Ok(()),
        (name, false) => write!(writer, "{name}=")?,
        (name, true) => write!(writer, "{ITALIC}{name}{RESET}{DIM}={RESET}")?,
    }
    write!(Spelling(writer), "{value:?}")
}

/// What libraries said.
struct Libraries {
    clock: Clock,
    /// By level and target.
    said: Mutex<BTreeMap<(Level, String), Repeats>>,
}

impl Libraries {
    /// How many lines one about this event stands for, if one is due.
    fn count(&self, event: &Event<'_>) -> Option<u64> {
        let mut what = What { target: event.metadata().target().to_owned(), fields: String::new() };
        event.record(&mut what);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of = (*event.metadata().level(), what.target);
        if said.len() >= MOST_TARGETS && !said.contains_key(&of) {
            of.1.clear();
        }
        said.entry(of).or_default().count(&what.fields, self.clock.tick())
    }
}

/// The fields of an event, which tell whether it says the same as another.
struct What {
    target: String,
    fields: String,
}

impl Visit for What {
    fn record_str(&mut self, field: &Field, value: &str) {
        // What comes by the `log` crate has its target there.
        if field.name() == "log.target" {
            value.clone_into(&mut self.target);
        }
        self.record_debug(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A `String` takes whatever is written.
        let _ = write!(self.fields, " {field}={value:?}");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::telemetry::shown::tests as shown;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    fn say(format: Format, level: LevelFilter) -> Vec<String> {
        said(format, level, false, || {
            tracing::warn!(event = "circuit_breaker_opened", tenant_id = "a\"b", error_rate = 0.5, "opened");
            tracing::info!("info of ours");
            tracing::info!(target: "async_nats", "info of a library");
            tracing::error!(target: "async_nats", "error of a library");
        })
    }

    fn said(format: Format, level: LevelFilter, colour: bool, says: impl FnOnce()) -> Vec<String> {
        let page = Page::default();
        let to = page.clone();
        let subscriber = subscriber(format, level, move || to.clone(), colour, Clock::start());
        tracing::subscriber::with_default(subscriber, says);
        page.lines()
    }

    /// What `says` logs, as JSON.
    pub(crate) fn heard(says: impl FnOnce()) -> Vec<serde_json::Value> {
        said(Format::Json, LevelFilter::TRACE, false, says).iter().map(|line| parsed(line)).collect()
    }

    fn parsed(line: &str) -> serde_json::Value {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    #[test]
    fn a_json_line_has_the_fields_of_the_event_at_its_top() {
        let lines = say(Format::Json, LevelFilter::INFO);
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["event"], "circuit_breaker_opened");
        assert_eq!(line["tenant_id"], "a\"b");
        assert_eq!(line["error_rate"], 0.5);
        assert_eq!(line["message"], "opened");
        assert_eq!(line["level"], "WARN");
        assert!(line["target"].as_str().unwrap().starts_with("beamline_router::"));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_level_is_for_this_program_and_libraries_only_complain() {
        assert_eq!(say(Format::Json, LevelFilter::TRACE).len(), 3);
        assert_eq!(say(Format::Json, LevelFilter::INFO).len(), 3);
        assert_eq!(say(Format::Json, LevelFilter::ERROR).len(), 1);
        assert_eq!(say(Format::Json, LevelFilter::OFF).len(), 0);
    }

    #[test]
    fn a_text_line_is_for_people_and_has_no_colour_off_a_terminal() {
        let lines = say(Format::Text, LevelFilter::WARN);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains("WARN") && lines[0].contains("event=\"circuit_breaker_opened\""),
            "{}",
            lines[0]
        );
        assert!(!lines.concat().contains('\u{1b}'));
    }

    #[test]
    fn text_from_outside_is_shown_harmless_and_parses_to_what_was_sent() {
        let bad = shown::bad();
        let sent = format!("{bad}\u{1b}[2J\n\"שלום é 🦀");
        let speak = || {
            let error = std::io::Error::other(sent.clone());
            tracing::warn!(event = "nats_server_error", actor = sent, %error, "said: {sent}");
            tracing::error!(target: "async_nats::connector", %error, "{sent}");
        };
        let lines = said(Format::Json, LevelFilter::INFO, false, speak);
        assert_eq!(lines.len(), 2);
        for line in &lines {
            assert!(!line.chars().any(|c| bad.contains(c) || c.is_control()), "{line}");
            assert!(line.contains("שלום é 🦀"), "{line}");
            assert_eq!(parsed(line)["error"], sent);
        }
        assert_eq!([&parsed(&lines[0])["actor"], &parsed(&lines[1])["message"]], [&*sent, &*sent]);
        let text = said(Format::Text, LevelFilter::INFO, true, speak);
        assert_eq!(text.len(), 2, "a line each: {text:?}");
        let text = text.concat();
        assert!(!text.chars().any(|c| bad.contains(c)), "{text}");
        assert!(text.contains("\\u{202e}") && text.contains("שלום é 🦀"), "{text}");
        assert!(text.contains("\u{1b}[33m WARN\u{1b}[0m"), "the colours are there: {text:?}");
        assert!(!text.contains("\u{1b}[2J"), "and nothing else that a terminal obeys: {text:?}");
    }

    #[test]
    fn a_library_that_logs_by_the_log_crate_is_taken_by_its_own_target() {
        let speak = || {
            for library in ["rustls", "hyper_rustls"] {
                for n in 0..20 {
                    tracing::warn!(target: "log", { "log.target" = library, "log.line" = n }, "{library} {n}");
                }
            }
            tracing::error!(target: "log", { "log.target" = "rustls" }, "worse");
        };
        let lines = said(Format::Text, LevelFilter::INFO, false, speak);
        let of = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
        assert_eq!([of(": rustls "), of(": hyper_rustls "), of("ERROR")], [8, 8, 1], "{lines:#?}");
        assert_eq!(of("log."), 0, "{lines:#?}");
    }

    #[test]
    fn no_colour_off_a_terminal_within_spans_either() {
        let speak = || tracing::error_span!("request", id = "r-1").in_scope(|| tracing::error!("lost"));
        let lines = said(Format::Text, LevelFilter::INFO, false, speak);
        assert!(lines[0].contains("request{id=\"r-1\"}"), "{lines:?}");
        assert!(!lines[0].contains('\u{1b}'), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_library_repeats_is_told_once_in_ten_seconds_with_how_many_it_stands_for() {
        for format in [Format::Json, Format::Text] {
            let page = Page::default();
            let to = page.clone();
            let subscriber = subscriber(format, LevelFilter::INFO, move || to.clone(), false, Clock::start());
            let _until_the_end = tracing::subscriber::set_default(subscriber);
            for n in 0..21 {
                tracing::error!(target: "async_nats::connector", error = %"refused", "no connection");
                if n == 3 {
                    tracing::error!(target: "async_nats::connector", error = %"denied", "no connection");
                    tracing::warn!(target: "rustls", "of another library");
                }
                tracing::warn!("ours are for whoever logs them to limit");
                tokio::time::advance(std::time::Duration::from_secs(1)).await;
            }
            let (ours, libraries): (Vec<_>, Vec<_>) =
                page.lines().into_iter().partition(|line| line.contains(OURS));
            assert_eq!(ours.len(), 21);
            assert!(ours.iter().all(|line| !line.contains("stands_for")), "{ours:?}");
            let told: Vec<_> = libraries
                .iter()
                .map(|line| match format {
                    Format::Json => {
                        let line = parsed(line);
                        let error = line["error"].as_str().unwrap_or("-").to_owned();
                        (error, line["stands_for"].as_u64().unwrap())
                    }
                    Format::Text => {
                        let word = |name: &str| line.split(name).nth(1)?.split(' ').next();
                        let error = word(" error=").unwrap_or("-").to_owned();
                        (error, word(" stands_for=").unwrap().parse().unwrap())
                    }
                })
                .collect();
            let expected = [("refused", 1), ("denied", 4), ("-", 1), ("refused", 7), ("refused", 10)];
            assert_eq!(told, expected.map(|(error, n)| (error.to_owned(), n)), "{libraries:#?}");
        }
    }
}
