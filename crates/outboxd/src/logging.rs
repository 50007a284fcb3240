//! Log lines: one JSON object an event, or text where a person reads along. What may be logged is
//! decided by types (a payload, a key or a secret has none that prints), not by a filter here.

use std::fmt;
use std::io::{IsTerminal, stdout};
use std::panic::PanicHookInfo;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::model::{Log, LogFormat};
use crate::events;
use crate::exit::{Exit, Failure};

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The time of an event: UTC, to the millisecond.
struct UtcMillis;

impl FormatTime for UtcMillis {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let text = OffsetDateTime::now_utc().format(TIME).map_err(|_| fmt::Error)?;
        w.write_str(&text)
    }
}

/// The form of a line, once it is known where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object.
    Json,
    /// Text, for people.
    Text(Colour),
}

/// Whether text has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// It has none.
    Plain,
    /// Levels and names have colours.
    Ansi,
}

/// Whether lines go to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// To a person at a terminal.
    Terminal,
    /// To a file, a pipe or the journal.
    Machine,
}

/// The form of `format` for `reader`; `no_color` is what the environment says in NO_COLOR.
#[must_use]
pub fn form(format: LogFormat, reader: Reader, no_color: Option<&str>) -> Form {
    let colour = match (reader, no_color) {
        (Reader::Terminal, None | Some("")) => Colour::Ansi,
        _ => Colour::Plain,
    };
    match (format, reader) {
        (LogFormat::Json, _) | (LogFormat::Auto, Reader::Machine) => Form::Json,
        (LogFormat::Text, _) | (LogFormat::Auto, Reader::Terminal) => Form::Text(colour),
    }
}

/// What writes events that `filter` lets through to `writer`.
///
/// # Errors
/// A filter that cannot be parsed.
pub fn subscriber<W>(form: Form, filter: &str, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, Failure>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| Failure::new(Exit::BadConfiguration, format!("log.filter: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_timer(UtcMillis).with_writer(writer);
    Ok(match form {
        Form::Json => {
            Box::new(builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish())
        }
        Form::Text(colour) => Box::new(builder.with_ansi(colour == Colour::Ansi).finish()),
    })
}

/// Sends the process's events to standard output, as `log` says, and makes a panic end it.
///
/// # Errors
/// A filter that cannot be parsed, or logging that was begun before.
pub fn begin(log: &Log) -> Result<(), Failure> {
    let reader = if stdout().is_terminal() { Reader::Terminal } else { Reader::Machine };
    let no_color = std::env::var("NO_COLOR").ok();
    let subscriber = subscriber(form(log.format, reader, no_color.as_deref()), &log.filter, stdout)?;
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Failure::new(Exit::InvariantBroken, error.to_string()))?;
    std::panic::set_hook(Box::new(|info| {
        log_panic(info);
        // The runtime would catch the panic and go on with a part missing.
        std::process::exit(i32::from(Exit::InvariantBroken.code()));
    }));
    Ok(())
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    // A message put together at run time may hold a payment's details; a constant cannot.
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(withheld)");
    tracing::error!(event = events::DAEMON_PANICKED, location, message);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use secrecy::SecretString;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn capture(form: Form, filter: &str, events: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(form, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_json_object_with_its_fields_at_the_top() {
        let text = capture(Form::Json, "info", || {
            tracing::info!(event = "claim.leased", rail = "sepa", attempt_no = 3, "a\nb");
            tracing::debug!(event = "hidden");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["event"], "claim.leased");
        assert_eq!(line["rail"], "sepa");
        assert_eq!(line["attempt_no"], 3);
        assert_eq!(line["level"], "INFO");
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(timestamp.len() == "2026-01-01T00:00:00.000Z".len() && timestamp.ends_with('Z'), "{timestamp}");
    }

    #[test]
    fn a_person_at_a_terminal_gets_text_and_everybody_else_json() {
        use LogFormat::{Auto, Json, Text};
        use Reader::{Machine, Terminal};
        for (format, reader, no_color, expected) in [
            (Auto, Terminal, None, Form::Text(Colour::Ansi)),
            (Auto, Terminal, Some(""), Form::Text(Colour::Ansi)),
            (Auto, Terminal, Some("1"), Form::Text(Colour::Plain)),
            (Auto, Machine, None, Form::Json),
            (Json, Terminal, None, Form::Json),
            (Text, Machine, None, Form::Text(Colour::Plain)),
        ] {
            assert_eq!(form(format, reader, no_color), expected, "{format:?} {reader:?} {no_color:?}");
        }
        let text = capture(Form::Text(Colour::Plain), "info", || tracing::info!(event = "daemon.ready"));
        assert!(text.contains("event=\"daemon.ready\"") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_secret_that_is_logged_by_mistake_does_not_show() {
        for form in [Form::Json, Form::Text(Colour::Plain)] {
            let secret = SecretString::from("canary-7f3a");
            let text = capture(form, "info", || tracing::info!(?secret, "mistake"));
            assert!(text.contains("mistake") && !text.contains("canary-7f3a"), "{text}");
        }
    }
}
