//! The URL of the database for people's commands, and a connection service file: no password where others can see it, no
//! parameter that would be passed over, and a service says what its lines say. A text with a line `[pay]` is such a file.

use outboxd::parsers::{database_url, service};

use crate::CANARY;

const PARAMETERS: [&str; 11] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains("[pay]") {
        check_service(text);
    }
    let (on_command_line, in_environment) = (database_url(text, true), database_url(text, false));
    for message in [&on_command_line, &in_environment].into_iter().filter_map(|taken| taken.as_ref().err()) {
        assert!(!message.chars().any(char::is_control), "a message with control characters: {message:?}");
        assert!(!(is_in_the_password(text) && message.contains(CANARY)), "a password is shown: {message}");
    }
    if on_command_line.is_ok() {
        assert!(in_environment.is_ok(), "allowed where all see it, and not where nobody does");
    }
    let Ok(url) = url::Url::parse(text) else {
        assert!(in_environment.is_err(), "taken, and is no URL");
        return;
    };
    let names: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    if in_environment.is_ok() {
        assert!(names.iter().all(|name| PARAMETERS.contains(&name.as_str())), "a parameter was passed over: {names:?}");
        assert!(matches!(url.scheme(), "postgres" | "postgresql"));
    }
    let has_password = url.password().is_some() || names.iter().any(|name| name == "password");
    assert!(!(on_command_line.is_ok() && has_password), "a password on the command line was taken");
}

/// Whether the canary is in what is a password, or in what is no URL at all, and nowhere else.
fn is_in_the_password(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return true };
    let in_query = url.query_pairs().any(|(name, value)| name == "password" && value.contains(CANARY));
    let is_there = in_query || url.password().is_some_and(|password| password.contains(CANARY));
    is_there && text.matches(CANARY).count() == 1
}

fn check_service(text: &str) {
    let found = service(text, "pay");
    let mut lines = text.lines().map(str::trim);
    let is_there = lines.any(|line| line == "[pay]");
    assert_eq!(found.is_some(), is_there, "the service");
    let own = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let own: Vec<Option<(&str, &str)>> = own.map(|line| line.split_once('=')).collect();
    let is_known = |line: &Option<(&str, &str)>| line.is_some_and(|(name, _)| PARAMETERS.contains(&name));
    match found {
        Some(Ok(url)) => {
            let said: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            let written = own.iter().flatten().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            assert_eq!(said, written.collect::<Vec<_>>(), "the service says something else than its lines");
            assert!(own.iter().all(is_known));
        }
        Some(Err(message)) => {
            assert!(!own.iter().all(is_known), "refused: {message}");
            assert!(!message.chars().any(char::is_control), "a message with control characters: {message:?}");
        }
        None => {}
    }
}
