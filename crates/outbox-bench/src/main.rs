//! What a payment costs and how fast it goes, beside a floor that is measured in the same run. `scripts/bench.sh` builds and
//! starts it; docs/PERFORMANCE.md says what each figure means.

mod daemon;
mod error;
mod floor;
mod logs;
mod meter;
mod noop_rail;
mod programme;
mod report;
mod work;
mod world;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use outbox_testkit::PgVersion;

use error::BenchError;
use logs::Logs;
use programme::{Programme, Sizes};
use report::Report;
use world::World;

/// What a rail that answers at once, and a database beside it, are best served with. Each can be said otherwise with `--set`.
const SETTINGS: [&str; 3] =
    ["dispatcher.claim_batch_max=1000", "dispatcher.completion_batch_size=1000", "rails.bench.concurrency=4000"];

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Each work once, to see that it runs.
    Smoke,
    /// Under six minutes.
    Short,
    /// With a queue of five million and ten minutes of payments that come and go.
    Full,
}

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Payments that wait, to a rail inside the process.
    Drain,
    /// Recording payments.
    Enqueue,
    /// From commit to first byte.
    Wakeup,
    /// Queues of all depths.
    Depth,
    /// Under an old snapshot.
    Pinned,
    /// Many payments at once after a rest.
    Burst,
    /// Over HTTP.
    Http,
    /// A drain with few and with many months; nothing in the short form.
    Partitions,
    /// A drain by several daemons; nothing in the short form.
    ScaleOut,
    /// Payments that come and go; nothing in the short form.
    Mixed,
    /// Where the database's time and its log go.
    Profile,
}

/// What is measured.
#[derive(Debug, Parser)]
struct Options {
    /// How much.
    #[arg(value_enum, default_value_t = Form::Short)]
    form: Form,
    /// Only this work; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<Work>,
    /// The major version of Postgres.
    #[arg(long, default_value = "15")]
    postgres: String,
    /// Settings of the daemon, each `key=value`.
    #[arg(long = "set")]
    settings: Vec<String>,
    /// What the report begins with: lines of commit, machine and the like.
    #[arg(long, default_value = "")]
    head: String,
    /// Where the files of the server and the rails' ledgers go: on a disk, since what a commit waits for is part of what is
    /// measured. The server's account must be able to enter it.
    #[arg(long)]
    dir: PathBuf,
    /// Where the raw figures go.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
            let _ = writeln!(std::io::stderr().lock(), "outbox-bench: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: Options) -> Result<(), BenchError> {
    let version = PgVersion::parse(&options.postgres, "--postgres")?;
    let world = World::start(version, &options.dir)?;
    let sizes = match options.form {
        Form::Smoke => Sizes::smoke(),
        Form::Short => Sizes::short(),
        Form::Full => Sizes::full(),
    };
    let settings = SETTINGS.map(str::to_owned).into_iter().chain(options.settings).collect();
    let logs = Logs::begin()?;
    let mut programme = Programme { world: &world, logs: &logs, sizes, settings, report: Report::default() };
    programme.conditions().await?;
    for work in Work::value_variants() {
        if !options.only.is_empty() && !options.only.contains(work) {
            continue;
        }
        match work {
            Work::Drain => programme.drain().await?,
            Work::Enqueue => programme.enqueue().await?,
            Work::Wakeup => programme.wakeup().await?,
            Work::Depth => programme.depth().await?,
            Work::Pinned => programme.pinned().await?,
            Work::Burst => programme.burst().await?,
            Work::Http => programme.http(&options.dir).await?,
            Work::Partitions => programme.partitions().await?,
            Work::ScaleOut => programme.scale_out().await?,
            Work::Mixed => programme.mixed().await?,
            Work::Profile => programme.profile(&World::start_counting(version, &options.dir)?).await?,
        }
    }
    let report = programme.report;
    if let Some(out) = &options.out {
        report.write(out, &options.head)?;
    }
    let _ = writeln!(std::io::stdout().lock(), "{}\n{}", report.table(), report.last_line());
    Ok(())
}
