//! The command: runs, and says in one last line what came of it. Exit code 0 only if the checker found nothing, everything
//! ended or is held, and every kind of fault that could be dealt out took effect; 1 if not; 2 if the run could not go on.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use outbox_nemesis::{NemesisError, Outcome, Settings, run};

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    let seed = settings.seed;
    let started = std::time::Instant::now();
    match run(settings).await {
        Ok(outcome) => say(seed, &outcome, started.elapsed().as_secs()),
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "outbox-nemesis: seed {seed}: {error}");
            if matches!(error, NemesisError::Found(_)) { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

fn say(seed: u64, outcome: &Outcome, took_s: u64) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let verdict = &outcome.verdict;
    let count = |name| verdict.count(name).map_or_else(|| "?".to_owned(), |count| count.to_string());
    for (what, kinds) in [("left out", &outcome.left_out), ("missing: without effect", &outcome.missing)] {
        if !kinds.is_empty() {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let _ = writeln!(out, "{what}: {}", names.join(", "));
        }
    }
    for finding in &verdict.findings {
        let _ = writeln!(out, "{finding}");
    }
    if outcome.unsettled > 0 {
        let _ = writeln!(out, "neither over nor held at the end: {}", outcome.unsettled);
    }
    let _ = writeln!(out, "{}\ntook {took_s} s", verdict.line);
    let (crashes, with_outages) = (verdict.crashes, verdict.recovered_with_outages_max_s);
    let _ = writeln!(
        out,
        "{crashes} crashes left leases; the slowest was recovered from within {:.1} s, with outages of the database {with_outages:.1} s",
        verdict.recovered_max_s
    );
    let _ = writeln!(
        out,
        "NEMESIS seed={seed} payments={} faults={} kinds={} effects={} unknown={} held={} lost={} double={} recovered_max_s={:.1}",
        count("payments"),
        outcome.faults,
        outcome.kinds.len(),
        count("effects"),
        count("unknown"),
        count("held"),
        count("lost"),
        count("double"),
        verdict.recovered_max_s,
    );
    let is_whole = outcome.unsettled == 0 && outcome.missing.is_empty();
    if verdict.passed && is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
