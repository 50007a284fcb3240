//! What was asked for, on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use outbox_testkit::PgVersion;

/// Faults by the thousand against a running outbox; see docs/RELIABILITY.md. Use scripts/nemesis.sh.
#[derive(Clone, Debug, Parser)]
#[command(name = "outbox-nemesis", version)]
pub struct Settings {
    /// What is drawn: which faults, in which order, with which details.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Payments to be enqueued.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub payments: u64,
    /// Faults that must take effect.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    pub faults: u64,
    /// The major version of Postgres.
    #[arg(long, default_value = "15", value_parser = version)]
    pub postgres: PgVersion,
    /// Where outboxd and outbox-checker are.
    #[arg(long)]
    pub bin: PathBuf,
    /// Where an outboxd of another version is; without it that kind of fault is left out.
    #[arg(long)]
    pub other_bin: Option<PathBuf>,
    /// An empty directory for ledgers, logs and the journal. Its path must be short enough for a socket.
    #[arg(long)]
    pub dir: PathBuf,
    /// The mount point of a file system for the database alone, which may be made full by remounting it; without it that
    /// kind of fault is left out.
    #[arg(long)]
    pub disk: Option<PathBuf>,
    /// Only these kinds of fault, by name; may be repeated.
    #[arg(long = "only", value_name = "KIND", value_parser = kind)]
    pub only: Vec<crate::Kind>,
    /// SQL that changes the outbox before anything is dispatched: a dispatcher that does wrong.
    #[arg(long)]
    pub mutant: Option<PathBuf>,
}

impl Settings {
    /// One of the programs under test.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A rail is away for so long at most, in milliseconds: a minute in a long run.
    #[must_use]
    pub fn longest_away_ms(&self) -> u64 {
        (self.payments / 10).clamp(4_000, 60_000)
    }

    /// A snapshot is pinned for so long at most, in milliseconds: a minute in a long run.
    #[must_use]
    pub fn longest_pin_ms(&self) -> u64 {
        (self.payments / 2).clamp(3_000, 60_000)
    }

    /// How long what is left may take after the last fault: the longest single wait is a quarantine with two inquiries.
    #[must_use]
    pub fn settle_limit(&self) -> Duration {
        Duration::from_secs(180 + self.payments / 2_000)
    }
}

fn version(text: &str) -> Result<PgVersion, String> {
    PgVersion::parse(text, "--postgres").map_err(|error| error.to_string())
}

fn kind(text: &str) -> Result<crate::Kind, String> {
    let found = crate::Kind::ALL.iter().copied().find(|kind| kind.name() == text);
    found.ok_or_else(|| {
        let names: Vec<&str> = crate::Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("there is no such kind; there are {}", names.join(", "))
    })
}
