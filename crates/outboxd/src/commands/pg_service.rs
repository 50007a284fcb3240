//! A service of libpq's connection service file, as a URL. `$PGSERVICEFILE` or `~/.pg_service.conf`,
//! then `$PGSYSCONFDIR/pg_service.conf`. Keys that the driver has no use for are refused, not skipped.

use std::path::PathBuf;

use url::Url;

use super::database::PARAMETERS;
use crate::exit::{Exit, Failure};

/// The URL of the service `name`; `variable` reads the environment.
///
/// # Errors
/// A service that is nowhere, or that says something this program does not understand.
pub(crate) fn url(name: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<Url, Failure> {
    let own = variable("PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".pg_service.conf")));
    let system = variable("PGSYSCONFDIR").map(|dir| PathBuf::from(dir).join("pg_service.conf"));
    for file in own.into_iter().chain(system) {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(refused(name, format!("{}: {error}", file.display()))),
        };
        if let Some(found) = url_in(&text, name) {
            return found.map_err(|why| refused(name, format!("{}: {why}", file.display())));
        }
    }
    Err(refused(name, "no connection service file has it".to_owned()))
}

/// The service `name` of a file's `text`, `None` if it has no such section.
pub(crate) fn url_in(text: &str, name: &str) -> Option<Result<Url, String>> {
    section(text, name).map(|parameters| parameters.and_then(|parameters| as_url(&parameters)))
}

fn refused(name: &str, why: String) -> Failure {
    Failure::new(Exit::BadConfiguration, format!("PGSERVICE `{}`: {why}", name.escape_debug()))
}

/// The lines `key=value` of `[name]`, `None` if there is no such section.
fn section<'t>(text: &'t str, name: &str) -> Option<Result<Vec<(&'t str, &'t str)>, String>> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.by_ref().find(|(_, line)| {
        line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|found| found == name)
    })?;
    let body = lines
        .take_while(|(_, line)| !line.starts_with('['))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let pair = |(number, line): (usize, &'t str)| {
        let (key, value) = line.split_once('=').ok_or_else(|| format!("line {number} is not key=value"))?;
        if PARAMETERS.contains(&key) {
            Ok((key, value))
        } else {
            Err(format!("line {number}: `{}` is not supported", key.escape_debug()))
        }
    };
    Some(body.map(pair).collect())
}

fn as_url(parameters: &[(&str, &str)]) -> Result<Url, String> {
    let mut url = Url::parse("postgres:///").map_err(|error| error.to_string())?;
    url.query_pairs_mut().extend_pairs(parameters);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[other]\nhost=elsewhere\n\n[pay]\r\nhost=/run/pg dir\nport=5433\n# a comment\n\
                        dbname=p&q\nuser=someone\n[last]\nhost=nowhere\n[odd]\nkeepalives=1\n[broken]\nhost\n";

    fn find(name: &str) -> Result<Url, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("services");
        std::fs::write(&file, FILE).unwrap();
        let variable = |wanted: &str| (wanted == "PGSERVICEFILE").then(|| file.display().to_string());
        url(name, &variable).map_err(|failure| failure.message)
    }

    #[test]
    fn a_service_is_its_own_section_and_no_more() {
        let found = find("pay").unwrap();
        let pairs: Vec<(String, String)> = found.query_pairs().into_owned().collect();
        let expected = [("host", "/run/pg dir"), ("port", "5433"), ("dbname", "p&q"), ("user", "someone")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_service_that_is_missing_or_not_understood_is_refused_by_name() {
        for (name, why) in [
            ("nothing", "no connection service file has it"),
            ("odd", "`keepalives` is not supported"),
            ("broken", "is not key=value"),
        ] {
            let message = find(name).unwrap_err();
            assert!(message.contains(name) && message.contains(why), "{message}");
        }
    }
}
