//! Where a person's command finds the database: the URL given, or what libpq would take. How the
//! daemon connects is not decided here: it reads its configuration.

use std::future::Future;

use clap::Args;
use outbox_store::{ConnectSettings, StoreError};
use url::Url;

use super::pg_service;
use super::store_failure::store_failure;
use crate::exit::{Exit, Failure};

/// The parameters of a URL that are understood. The driver leaves others unused, so that a misspelt
/// `sslmode` would quietly connect without the protection it asks for.
pub(crate) const PARAMETERS: [&str; 11] = [
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

/// The database of a person's command, and the login of that person.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// The database, such as postgres://LOGIN@HOST/NAME [env: DATABASE_URL]
    ///
    /// Never with a password, which every user of this host could see: give that in ~/.pgpass,
    /// PGPASSWORD or DATABASE_URL. Without a URL, a service of ~/.pg_service.conf that PGSERVICE
    /// names; without that, the variables PGHOST, PGPORT, PGDATABASE, PGUSER and PGSSLMODE.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

/// Where a URL came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// From the command line, which all users of the host can read.
    OnCommandLine,
    /// From the environment of this process.
    InEnvironment,
}

impl DatabaseArgs {
    /// How to connect.
    ///
    /// # Errors
    /// A URL or a service that cannot be used, or a password where others can see it.
    pub(crate) fn settings(&self) -> Result<ConnectSettings, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(url) = &self.database_url {
            return from_url(url, Given::OnCommandLine);
        }
        if let Some(url) = variable("DATABASE_URL") {
            return from_url(&url, Given::InEnvironment);
        }
        match variable("PGSERVICE") {
            Some(name) => connect_with(&pg_service::url(&name, &variable)?),
            None => Ok(ConnectSettings::from_environment()),
        }
    }
}

pub(crate) fn from_url(text: &str, given: Given) -> Result<ConnectSettings, Failure> {
    let (what, refuse) = match given {
        Given::OnCommandLine => ("--database-url", Exit::Usage),
        Given::InEnvironment => ("DATABASE_URL", Exit::BadConfiguration),
    };
    let refused = |why: String| Failure::new(refuse, format!("{what}: {why}"));
    let url = Url::parse(text).map_err(|error| refused(format!("not a URL: {error}")))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(refused("a URL of a database begins with postgres://".to_owned()));
    }
    let has_password = url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password");
    if has_password && given == Given::OnCommandLine {
        let why = "a password on the command line is visible to every user of this host: \
                   use ~/.pgpass, PGPASSWORD or DATABASE_URL";
        return Err(refused(why.to_owned()));
    }
    if let Some((key, _)) = url.query_pairs().find(|(key, _)| !PARAMETERS.contains(&key.as_ref())) {
        let known = PARAMETERS.join(", ");
        return Err(refused(format!("unknown parameter `{}`; known are {known}", key.escape_debug())));
    }
    ConnectSettings::from_url(text).map_err(|error| refused(store_failure(&error).message))
}

fn connect_with(url: &Url) -> Result<ConnectSettings, Failure> {
    ConnectSettings::from_url(url.as_str()).map_err(|error: StoreError| store_failure(&error))
}

/// Runs `work` to its end on this thread.
///
/// # Errors
/// What `work` returns, or a system that gives no runtime.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Unavailable, format!("runtime: {error}")))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str, given: Given) -> Option<(Exit, String)> {
        from_url(url, given).err().map(|failure| (failure.exit, failure.message))
    }

    #[test]
    fn a_password_is_taken_from_the_environment_and_refused_on_the_command_line() {
        for url in ["postgres://a:canary@h/d", "postgresql://h/d?user=a&password=canary", "postgres://a:%63anary@h"] {
            assert_eq!(refusal(url, Given::InEnvironment), None);
            let (exit, message) = refusal(url, Given::OnCommandLine).unwrap();
            assert_eq!(exit, Exit::Usage);
            assert!(message.contains("~/.pgpass") && !message.contains("canary"), "{message}");
        }
        assert_eq!(refusal("postgres://a@h/d", Given::OnCommandLine), None);
    }

    #[test]
    fn a_misspelt_parameter_is_refused_by_name() {
        let (_, message) = refusal("postgres://a@h/d?sslmod=verify-full", Given::OnCommandLine).unwrap();
        assert!(message.contains("`sslmod`"), "{message}");
        assert!(refusal("postgres://a@h/d?sslmode=verify-fool", Given::OnCommandLine).is_some());
        assert_eq!(refusal("postgres://a@h/d?sslmode=verify-full", Given::OnCommandLine), None);
    }

    #[test]
    fn what_is_no_url_of_a_database_is_refused_without_being_shown() {
        for (url, given) in [("mysql://a:canary@h/d", Given::InEnvironment), ("canary", Given::OnCommandLine)] {
            let (_, message) = refusal(url, given).unwrap();
            assert!(!message.contains("canary"), "{message}");
        }
    }
}
