//! Whether a connection is one to work on, and what it means if it is not. Pure: the facts come from
//! `dispatcher_preflight`.

use std::fmt;

use outbox_store::{API_VERSION, Preflight};

use crate::config::Config;
use crate::exit::{Exit, Failure};

/// What is demanded of a connection beyond what is always demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demands {
    /// Commits survive a crash.
    DurableCommits,
    /// Anything: the database is thrown away.
    Nothing,
}

impl Demands {
    /// What `config` asks of its database.
    pub(crate) const fn of(config: &Config) -> Self {
        if config.database.allow_unsafe_durability { Self::Nothing } else { Self::DurableCommits }
    }
}

/// Why a connection is not one to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// How the daemon ends if this is so at its start; `None`: it waits, for this passes.
    pub(crate) exit: Option<Exit>,
    /// What is wrong, and what to do.
    pub(crate) what: String,
}

impl Refusal {
    /// The end of a daemon that is running: only a schema that no longer serves this version is one.
    /// Everything else may pass, and a daemon that runs is worth more than one that must be started.
    pub(crate) fn ends_the_daemon(&self) -> Option<Failure> {
        (self.exit == Some(Exit::WrongSchema)).then(|| Failure::new(Exit::WrongSchema, &*self.what))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Judges a connection; the first thing that is wrong.
pub(crate) fn judge(found: &Preflight, demands: Demands) -> Option<Refusal> {
    judge_all(found, demands).into_iter().next()
}

/// Judges a connection; everything that is wrong, the first to mend first.
pub(crate) fn judge_all(found: &Preflight, demands: Demands) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |exit, what: String| refusals.push(Refusal { exit, what });
    if !found.api_versions.contains(&API_VERSION) {
        let (low, high) = (found.api_versions.start(), found.api_versions.end());
        let what = format!(
            "the schema serves interface versions {low} to {high}, this program speaks {API_VERSION}: install the one that fits the other"
        );
        refuse(Some(Exit::WrongSchema), what);
    }
    if !found.limits_in_force {
        let what = "the server does not keep the limits that this connection asked for (statement_timeout, \
                    lock_timeout, idle_in_transaction_session_timeout), as behind a pooler that drops startup \
                    options: connect to the server itself, or set them for the login";
        refuse(Some(Exit::BadConfiguration), what.to_owned());
    }
    if let Some(excess) = &found.excess_privilege {
        let what = format!(
            "the database login `{}` {excess}: a dispatcher's login is a member of outbox_dispatcher and of nothing else",
            found.login
        );
        refuse(Some(Exit::WrongLogin), what);
    }
    if found.server_encoding != "UTF8" {
        let what = format!("the database's encoding is {}, and must be UTF8", found.server_encoding);
        refuse(Some(Exit::BadConfiguration), what);
    }
    let forgets = [
        ("fsync", !found.fsync),
        ("full_page_writes", !found.full_page_writes),
        ("synchronous_commit", found.synchronous_commit == "off"),
    ];
    for (setting, _) in forgets.into_iter().filter(|(_, is_off)| *is_off && demands == Demands::DurableCommits) {
        let what = format!(
            "the database runs with {setting} = off and may forget what it committed: set it to on, or allow it for a throw-away database with --allow-unsafe-durability"
        );
        refuse(Some(Exit::BadConfiguration), what);
    }
    if found.in_recovery {
        refuse(None, "the database is a standby".to_owned());
    } else if found.read_only {
        refuse(None, "the database is read-only".to_owned());
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Preflight {
        Preflight {
            login: "pay_dispatcher".to_owned(),
            backend_pid: 1,
            limits_in_force: true,
            excess_privilege: None,
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".to_owned(),
            in_recovery: false,
            read_only: false,
            server_encoding: "UTF8".to_owned(),
            server_version_num: 150_018,
            api_versions: API_VERSION..=API_VERSION + 3,
            db_now: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Preflight), demands: Demands, exit: Option<Option<Exit>>, word: &str) {
        let mut found = sound();
        change(&mut found);
        let refusal = judge(&found, demands);
        assert_eq!(refusal.as_ref().map(|r| r.exit), exit);
        assert!(refusal.is_none_or(|r| r.what.contains(word)));
    }

    #[test]
    fn each_fault_of_a_connection_has_its_own_end() {
        use Demands::{DurableCommits, Nothing};
        check(|_| {}, DurableCommits, None, "");
        check(
            |f| f.api_versions = API_VERSION + 1..=API_VERSION + 2,
            DurableCommits,
            Some(Some(Exit::WrongSchema)),
            "interface",
        );
        check(|f| f.api_versions = 0..=API_VERSION - 1, Nothing, Some(Some(Exit::WrongSchema)), "interface");
        check(
            |f| f.excess_privilege = Some("is a superuser".to_owned()),
            Nothing,
            Some(Some(Exit::WrongLogin)),
            "superuser",
        );
        check(|f| f.limits_in_force = false, Nothing, Some(Some(Exit::BadConfiguration)), "limits");
        check(|f| f.server_encoding = "LATIN1".to_owned(), Nothing, Some(Some(Exit::BadConfiguration)), "LATIN1");
        check(|f| f.fsync = false, DurableCommits, Some(Some(Exit::BadConfiguration)), "fsync");
        check(|f| f.full_page_writes = false, DurableCommits, Some(Some(Exit::BadConfiguration)), "full_page_writes");
        check(
            |f| f.synchronous_commit = "off".to_owned(),
            DurableCommits,
            Some(Some(Exit::BadConfiguration)),
            "synchronous_commit",
        );
        check(|f| f.fsync = false, Nothing, None, "");
        check(|f| f.in_recovery = true, DurableCommits, Some(None), "standby");
        check(|f| f.read_only = true, DurableCommits, Some(None), "read-only");
    }

    #[test]
    fn everything_that_is_wrong_is_told_and_a_standby_is_not_told_twice() {
        let mut found = sound();
        (found.fsync, found.full_page_writes, found.in_recovery, found.read_only) = (false, false, true, true);
        found.excess_privilege = Some("is a superuser".to_owned());
        let words = judge_all(&found, Demands::DurableCommits);
        let told = ["superuser", "fsync", "full_page_writes", "standby"];
        assert_eq!(words.len(), told.len());
        assert!(words.iter().zip(told).all(|(refusal, word)| refusal.what.contains(word)), "{words:?}");
    }
}
