//! What went wrong in an exchange: a class from a closed list and a few words. Text that a rail wrote
//! is left out, since a rail may echo what it was sent.

use std::error::Error;
use std::fmt::Display;
use std::io;

/// The longest detail, in characters: enough for a cause, too little to matter in a table.
const DETAIL_CHARS_MAX: usize = 200;

/// A class and a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) class: &'static str,
    pub(crate) detail: Option<String>,
}

impl Fault {
    pub(crate) const fn plain(class: &'static str) -> Self {
        Self { class, detail: None }
    }

    /// `detail` is cut to size, without control characters.
    pub(crate) fn detailed(class: &'static str, detail: impl Display) -> Self {
        let shown = detail.to_string();
        let shown = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_CHARS_MAX).collect();
        Self { class, detail: Some(shown) }
    }

    pub(crate) fn io(class: &'static str, error: &io::Error) -> Self {
        Self::detailed(class, error)
    }

    /// A fault of HTTP. Only its kind is kept: the text of an HTTP/2 GOAWAY, for one, is the rail's.
    pub(crate) fn http(error: &hyper::Error) -> Self {
        if let Some(reason) = cause::<h2::Error>(error).and_then(h2::Error::reason) {
            return Self::detailed("http2", reason.description());
        }
        if error.is_parse() {
            return Self::plain("answer_invalid");
        }
        if let Some(io) = cause::<io::Error>(error) {
            return Self::detailed("interrupted", io.kind());
        }
        if error.is_incomplete_message() {
            return Self::detailed("interrupted", "the rail closed the connection");
        }
        Self::plain("interrupted")
    }
}

fn cause<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
