//! Logs: one line for each finished unit of work, in JSON for machines or text for people.
//!
//! `serve` logs to standard output, where containers and service managers collect it; the commands
//! of the CLI print answers there and log nothing. In JSON the fields of an event stand beside
//! `timestamp`, `level` and `target`, so that `event` can be filtered without digging. A line is
//! written when it happens, by whoever logs it: the last words of a dying process are never lost in
//! a buffer. The price is that a reader of standard output that stalls holds up whoever logs, which
//! is why nothing logs once a request.
//!
//! Whoever logs sees to it that no secret is in a field, and limits what repeats.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

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
    subscriber(format, level, std::io::stdout, std::io::stdout().is_terminal()).try_init()
}

fn subscriber<W>(format: Format, level: LevelFilter, writer: W, colour: bool) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let libraries = level.min(LevelFilter::WARN);
    let targets = Targets::new().with_default(libraries).with_target("beamline_router", level);
    tracing_subscriber::registry().with(targets).with(lines(format, writer, colour))
}

fn lines<S, W>(format: Format, writer: W, colour: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer);
    match format {
        Format::Json => {
            Box::new(lines.json().flatten_event(true).with_current_span(false).with_span_list(false))
        }
        Format::Text => Box::new(lines.with_ansi(colour)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

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
        let page = Page::default();
        let to = page.clone();
        tracing::subscriber::with_default(subscriber(format, level, move || to.clone(), false), || {
            tracing::warn!(event = "circuit_breaker_opened", tenant_id = "a\"b", error_rate = 0.5, "opened");
            tracing::info!("info of ours");
            tracing::info!(target: "async_nats", "info of a library");
            tracing::error!(target: "async_nats", "error of a library");
        });
        page.lines()
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
}
