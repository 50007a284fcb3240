//! Log lines: one JSON object an event, or text where a person reads along. What may be logged is
//! decided by types (a payload, a key or a secret has none that prints), not by a filter here. How lines
//! reach standard output is `log_queue`'s.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::model::{Log, LogFormat};
use crate::events;
use crate::exit::{Exit, Failure};
use crate::log_queue::{LogQueue, LogWriter, Weight};

/// The lines that may wait for whoever reads them: some 10,000, what a busy daemon says in ten seconds.
/// Raised, it is memory that a stuck reader costs.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// How long a sink that failed is left alone, since a try costs more than a dropped line.
const RETRY: Duration = Duration::from_secs(1);

/// How long the end of the process waits for its last lines to be taken. A reader at work takes all that
/// may wait in a fraction of it.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

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
    // They would go to standard error, and panic where that is gone.
    let builder = builder.log_internal_errors(false);
    Ok(match form {
        Form::Json => {
            Box::new(builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish())
        }
        Form::Text(colour) => Box::new(builder.with_ansi(colour == Colour::Ansi).finish()),
    })
}

/// Logging that has begun. When it is dropped, the lines that wait are written, if they are taken soon.
#[must_use = "without it the last lines may be missing"]
pub struct Logging(Arc<LogQueue>);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.flush(LAST_WORDS_LIMIT);
    }
}

/// Sends the process's events to standard output: [`begin_on`].
///
/// # Errors
/// Those of [`begin_on`].
pub fn begin(log: &Log) -> Result<Logging, Failure> {
    // Not `stdout()` itself: its lock would be held by whoever waits for the reader.
    begin_on(log, stdout().as_fd().try_clone_to_owned().map(File::from).map_err(unavailable)?)
}

/// Sends the process's events to `sink`, as `log` says, and makes a panic end it. Nobody who logs waits for the reader, and no
/// failure to write ends anything.
///
/// # Errors
/// A filter that cannot be parsed, a process without room for a thread or a file, or logging that was begun
/// before.
pub fn begin_on(log: &Log, sink: File) -> Result<Logging, Failure> {
    let reader = if sink.is_terminal() { Reader::Terminal } else { Reader::Machine };
    let no_color = std::env::var("NO_COLOR").ok();
    let form = form(log.format, reader, no_color.as_deref());
    let queue = Arc::new(LogQueue::new(WAITING_BYTES_MAX));
    let subscriber = subscriber(form, &log.filter, Lines(Arc::clone(&queue)))?;
    let (writer, taken) = (LogWriter::new(sink, RETRY, move |count| dropped(form, count)), Arc::clone(&queue));
    thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&taken)).map_err(unavailable)?;
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Failure::new(Exit::InvariantBroken, error.to_string()))?;
    let logging = Logging(queue);
    let panicked = Arc::clone(&logging.0);
    std::panic::set_hook(Box::new(move |info| {
        log_panic(info);
        panicked.flush(LAST_WORDS_LIMIT);
        // The runtime would catch the panic and go on with a part missing.
        std::process::exit(i32::from(Exit::InvariantBroken.code()));
    }));
    Ok(logging)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unavailable(error: io::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("logging: {error}"))
}

/// Says to standard error why the process ends. Whoever does not read it does not hold up the end.
pub(crate) fn last_words(text: String) {
    let (said, heard) = sync_channel(1);
    let saying = move || {
        let _ = stderr().write_all(text.as_bytes());
        let _ = said.send(());
    };
    if thread::Builder::new().name("last words".to_owned()).spawn(saying).is_ok() {
        let _ = heard.recv_timeout(LAST_WORDS_LIMIT);
    }
}

/// The queue, as what writes events.
struct Lines(Arc<LogQueue>);

/// What writes one event.
struct Line<'l> {
    queue: &'l LogQueue,
    weight: Weight,
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line { queue: &self.0, weight: Weight::Usual }
    }

    fn make_writer_for(&'w self, meta: &Metadata<'_>) -> Line<'w> {
        let weight = if *meta.level() == Level::ERROR { Weight::Grave } else { Weight::Usual };
        Line { queue: &self.0, weight }
    }
}

impl Write for Line<'_> {
    /// Takes an event: it is formatted whole, and written by one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line, self.weight);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line that says how many are missing, as any other event would look.
fn dropped(form: Form, count: u64) -> Vec<u8> {
    let line = Captured::default();
    let written = line.clone();
    let Ok(subscriber) = subscriber(form, "warn", move || written.clone()) else {
        unreachable!("the filter is a constant that can be parsed");
    };
    tracing::subscriber::with_default(subscriber, || tracing::warn!(event = events::LOG_LINES_DROPPED, count));
    line.bytes()
}

/// What was written.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    // A message put together at run time may hold a payment's details; a constant cannot.
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(withheld)");
    tracing::error!(event = events::DAEMON_PANICKED, location, message);
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn capture(form: Form, filter: &str, events: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(form, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(captured.bytes()).unwrap()
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
    fn the_line_about_dropped_lines_looks_like_any_other() {
        let text = String::from_utf8(dropped(Form::Json, 12)).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["event"], &line["count"], &line["level"]),
            (&"log.lines_dropped".into(), &12.into(), &"WARN".into())
        );
        assert!(text.ends_with("}\n") && line["timestamp"].is_string(), "{text}");
        let text = String::from_utf8(dropped(Form::Text(Colour::Plain), 12)).unwrap();
        assert!(text.contains("event=\"log.lines_dropped\" count=12\n"), "{text}");
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
