//! Why a payment of the input cannot be recorded, and where it is. Never with what the input says
//! beyond ids and names of keys.

use std::fmt;
use std::io;

/// A fault of the input.
#[derive(Debug)]
pub(crate) struct Fault {
    place: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Data(String),
    Unreadable(io::Error),
}

impl Fault {
    /// A fault in what the input says.
    pub(super) fn data(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: What::Data(what.into()) }
    }

    /// An input that cannot be read.
    pub(super) fn unreadable(place: impl Into<String>, error: io::Error) -> Self {
        Self { place: place.into(), what: What::Unreadable(error) }
    }

    /// Whether the input can be read and says something wrong.
    pub(super) fn is_in_data(&self) -> bool {
        matches!(self.what, What::Data(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Data(what) => write!(f, "{}: {what}", self.place),
            What::Unreadable(error) => write!(f, "{}: {error}", self.place),
        }
    }
}
