//! The exit codes: each says whether a person must act, and systemd restarts only after those that
//! say no. What leads to which is in docs/OPERATIONS.md.

use std::process::ExitCode;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// A command could not do what it was asked to.
    Failure = 1,
    /// Compared, and something differs that a person has to clear.
    OpenBreaks = 3,
    /// The command line makes no sense (EX_USAGE).
    Usage = 64,
    /// The data given to a command is wrong (EX_DATAERR).
    BadData = 65,
    /// What a command was given to read is not there or cannot be read (EX_NOINPUT).
    NoInput = 66,
    /// Something needed is not there for now; trying again may help (EX_UNAVAILABLE).
    Unavailable = 69,
    /// An invariant is broken: stop, keep the evidence, call a person (EX_SOFTWARE).
    InvariantBroken = 70,
    /// The schema and this version do not go together (EX_PROTOCOL).
    WrongSchema = 76,
    /// The login is refused, or may do less or more than it should (EX_NOPERM).
    WrongLogin = 77,
    /// The configuration, or the database's own, is not one to run with (EX_CONFIG).
    BadConfiguration = 78,
}

impl Exit {
    /// The code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether a restart cannot help (`RestartPreventExitStatus` of the unit).
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        match self {
            Self::Ok | Self::Failure | Self::OpenBreaks | Self::Unavailable => false,
            Self::Usage
            | Self::BadData
            | Self::NoInput
            | Self::InvariantBroken
            | Self::WrongSchema
            | Self::WrongLogin
            | Self::BadConfiguration => true,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ended before it was done, in words for a person.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What went wrong.
    pub message: String,
}

impl Failure {
    /// A failure that ends the process with `exit`.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever read our output has seen enough, such as `head`.
        let exit = if error.kind() == std::io::ErrorKind::BrokenPipe { Exit::Ok } else { Exit::Failure };
        Self::new(exit, format!("cannot write: {error}"))
    }
}
