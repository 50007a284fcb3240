//! The kinds of fault, numbered as in docs/RELIABILITY.md, and which track deals them out. What a kind does is
//! in `daemon_faults`, `database_faults`, `rail_faults` and `operator_acts`.

/// Who deals a kind of fault out. Tracks go on beside each other; each deals out one fault at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A daemon and its way to the database; there is a track for each daemon.
    Daemon,
    /// The database.
    Database,
    /// Beside everything else, for long.
    Background,
    /// A rail; there is a track for each.
    Rail,
    /// People.
    Operator,
}

macro_rules! kinds {
    ($($number:literal $kind:ident $name:literal $place:ident $what:literal),+ $(,)?) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = $what] $kind),+
        }

        impl Kind {
            /// Every kind, by number.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Its number in docs/RELIABILITY.md.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$kind => $number),+ }
            }

            /// Its name in the journal and in docs/RELIABILITY.md.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),+ }
            }

            /// Who deals it out.
            #[must_use]
            pub const fn place(self) -> Place {
                match self { $(Self::$kind => Place::$place),+ }
            }

            /// What happens.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$kind => $what),+ }
            }
        }
    };
}

kinds! {
    1 Kill "kill" Daemon "SIGKILL at a random moment",
    2 KillClaimed "kill_claimed" Daemon "SIGKILL when a claim is committed and its answer is not here yet",
    3 KillExecuted "kill_executed" Daemon "SIGKILL when the rail has executed and not answered",
    4 KillCompleting "kill_completing" Daemon "SIGKILL when a completion is committed and its answer is not here yet",
    5 StopShort "stop_short" Daemon "SIGSTOP for less than a lease, then SIGCONT",
    6 StopPastLease "stop_past_lease" Daemon "SIGSTOP for longer than a lease, then SIGCONT",
    7 StopSending "stop_sending" Daemon "SIGSTOP past the lease while requests wait at the rail before they are executed",
    8 StopClaimed "stop_claimed" Daemon "SIGSTOP past the lease between the commit of a claim and its answer",
    9 Restart "restart" Daemon "SIGTERM, an orderly end, and a new start",
    10 OtherVersion "other_version" Daemon "an orderly end, and a start of the daemon's other version",
    11 CutAfter "cut_after" Daemon "the connection that carries the n-th frame from the database is cut after it",
    12 LoseClaim "lose_claim" Daemon "the answer to a claim is lost",
    13 LoseCompletion "lose_completion" Daemon "the answer to a completion is lost",
    14 SwallowCompletion "swallow_completion" Daemon "the rows of a completion's answer arrive, its CommandComplete never does",
    15 Delay "delay" Daemon "everything to and from the database takes longer",
    16 Trickle "trickle" Daemon "everything to and from the database trickles",
    17 Reset "reset" Daemon "every connection to the database is reset",
    18 HalfOpen "half_open" Daemon "every connection to the database is open and nothing passes",
    19 DeafListener "deaf_listener" Daemon "the listening connection is open and nothing passes",
    20 ImmediateRestart "immediate_restart" Database "Postgres is killed and recovers from its log",
    21 Terminations "terminations" Database "a storm of pg_terminate_backend over the dispatchers' sessions",
    22 ListenersTerminated "listeners_terminated" Database "the listening sessions are terminated",
    23 Promotion "promotion" Database "an asynchronous standby is promoted and has lost the last commits",
    24 DiskFull "disk_full" Database "the disk of tables and log is full",
    25 NoConnections "no_connections" Database "every connection that is left is taken",
    26 TableLock "table_lock" Database "a session of a DBA locks the queue or the ledger exclusively",
    27 PartitionAttached "partition_attached" Database "the partitions of a month are made and attached",
    28 Migration "migration" Database "a column is added to a hot table and dropped again, as a migration may do it",
    29 ClockAhead "clock_ahead" Database "the database's clock jumps ahead, by less than what is noticed",
    30 ClockBack "clock_back" Database "the database's clock jumps back, by less than what is noticed",
    31 ClockWrong "clock_wrong" Database "the database's clock jumps by more than what is noticed",
    32 NotificationsFill "notifications_fill" Database "a session that does not listen to what it asked for lets the notification queue fill",
    33 Frozen "frozen" Database "every process of Postgres stands still",
    34 Poison "poison" Background "whoever sends a certain payment is killed, until it is held",
    35 PinnedSnapshot "pinned_snapshot" Background "a transaction holds an old snapshot",
    36 Hang "hang" Rail "executes and never answers",
    37 ResetAfter "reset_after" Rail "executes and resets the connection in mid-answer",
    38 ResetBefore "reset_before" Rail "resets the connection and executes nothing",
    39 ErrorAfter "error_after" Rail "executes and answers 500",
    40 ErrorBefore "error_before" Rail "executes nothing and answers the same 500",
    41 Garbage "garbage" Rail "executes and answers nothing that can be read: garbage, truncated, oversize, 202",
    42 Storm "storm" Rail "answers 429 to most, for a while",
    43 Slow "slow" Rail "executes and answers slowly, for a while",
    44 Unauthorized "unauthorized" Rail "answers 401 and 403",
    45 Refuse "refuse" Rail "refuses for good",
    46 WrongCertificate "wrong_certificate" Rail "shows a certificate of another name, of another CA, or past its end",
    47 KeysExpire "keys_expire" Rail "does not answer, and is away until the contract's window for what is in doubt has passed",
    48 Down "down" Rail "is away: connecting is refused, what is open is reset",
    49 Inquiries "inquiries" Rail "spoils the answers to inquiries",
    50 Pause "pause" Operator "a rail is paused and resumed",
    51 HoldAndRelease "hold_and_release" Operator "payments are held, and released by maker and checker",
    52 Settle "settle" Operator "held payments are resolved, or sent again, by the rail's own books",
    53 Cancel "cancel" Operator "payments that were never sent are cancelled",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_from_one_without_gaps_and_names_differ() {
        let numbers: Vec<u32> = Kind::ALL.iter().map(|kind| kind.number()).collect();
        assert_eq!(numbers, (1..=53).collect::<Vec<_>>());
        let names: std::collections::BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn the_table_in_the_documents_is_this_one() {
        let page = std::fs::read_to_string(outbox_testkit::workspace_root().join("docs/RELIABILITY.md")).unwrap();
        for kind in Kind::ALL {
            let row = format!("| {} | `{}` | {} |", kind.number(), kind.name(), kind.what());
            assert!(page.contains(&row), "docs/RELIABILITY.md has no row that begins: {row}");
        }
    }
}
