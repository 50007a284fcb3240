//! How a person's command ends after an error of the store: the exit code, and the whole chain of
//! causes in words. The daemon, which waits out most of these, decides for itself.

use std::error::Error;

use outbox_store::StoreError;

use crate::exit::{Exit, Failure};

/// The end of a command that met `error`.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    let mut message = chain(error);
    if let StoreError::Refused { hint: Some(hint), .. } = error {
        message = format!("{message}\nhint: {hint}");
    }
    Failure::new(exit(error), message)
}

fn exit(error: &StoreError) -> Exit {
    if error.is_unavailable() {
        return Exit::Unavailable;
    }
    match error {
        StoreError::LoginRefused { .. } => Exit::WrongLogin,
        // Without the schema or the function, no grant would help.
        StoreError::NotPermitted { .. } if error.sqlstate().as_deref() != Some("42501") => Exit::WrongSchema,
        StoreError::NotPermitted { .. } => Exit::WrongLogin,
        StoreError::Refused { .. } | StoreError::BadValue { .. } => Exit::BadData,
        StoreError::Credential { .. } | StoreError::Url(_) => Exit::BadConfiguration,
        StoreError::Invariant { .. } => Exit::InvariantBroken,
        StoreError::Connection { .. } | StoreError::ConnectionLost | StoreError::TimedOut { .. } => Exit::Unavailable,
        StoreError::Server { .. } | StoreError::Migration(_) => Exit::Failure,
    }
}

/// The error and its causes, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_their_effects_and_are_said_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let failure = store_failure(&StoreError::Connection { call: "connect", source: refused.into() });
        assert_eq!(failure.exit, Exit::Unavailable);
        assert_eq!(failure.message.matches("connection refused").count(), 1, "{}", failure.message);
        assert!(failure.message.starts_with("connect: the connection to the database failed: "));
    }

    #[test]
    fn a_refusal_shows_what_to_do() {
        let refused = StoreError::Refused {
            call: "set_payment_rail",
            code: "OB005".to_owned(),
            message: "rail r: no".to_owned(),
            hint: Some("use hold".to_owned()),
        };
        let failure = store_failure(&refused);
        assert_eq!((failure.exit, failure.message.lines().last()), (Exit::BadData, Some("hint: use hold")));
    }
}
