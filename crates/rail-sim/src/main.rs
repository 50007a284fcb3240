//! The rail as a process: flags in, `LISTENING <addr>` on standard output when it is ready, an orderly
//! end on SIGTERM or SIGINT. One process is one rail.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use rail_sim::{Durability, Fault, KeyMode, Profile, Script, Sim, SimConfig, SimError, TlsFiles};
use tokio::signal::unix::{SignalKind, signal};

/// A simulated payment rail with its own ledger of effects.
#[derive(Debug, Parser)]
#[command(name = "rail-sim", version)]
struct Flags {
    /// Where payments come in; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where control requests come in; printed as `ADMIN <addr>` in a second line.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// The ledger of effects (JSON lines); a rail goes on from the one it finds.
    #[arg(long)]
    ledger: PathBuf,
    /// The log of answers given or withheld (JSON lines).
    #[arg(long)]
    answers: Option<PathBuf>,
    /// The log of requests received (JSON lines).
    #[arg(long)]
    received: Option<PathBuf>,
    /// Count an effect as written before it is synced to disk.
    #[arg(long)]
    no_sync: bool,
    /// The seed of everything drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A fault and how often it is drawn in 1000 requests, as `hang=5`; may be repeated, and goes before the profile.
    #[arg(long = "fault", value_name = "NAME=PER_MILLE", value_parser = share)]
    faults: Vec<(Fault, u16)>,
    /// A file of such shares (TOML, or JSON if its name ends so).
    #[arg(long)]
    profile: Option<PathBuf>,
    /// A file of fixed faults (JSON): `{"order": ["hang"], "keys": {"KEY": ["refuse", "none"]}, "inquiries": ["truncate"]}`.
    #[arg(long)]
    script: Option<PathBuf>,
    /// Execute every request, whether its key is known or not.
    #[arg(long, conflicts_with = "key_window_ms")]
    non_idempotent: bool,
    /// Forget a key so many milliseconds after its first result.
    #[arg(long)]
    key_window_ms: Option<u64>,
    /// The header that carries the wire key.
    #[arg(long, default_value = "Idempotency-Key")]
    key_header: String,
    /// The shortest delay before any answer.
    #[arg(long, default_value_t = 0)]
    latency_min_ms: u64,
    /// The longest delay before any answer; the shortest if left out.
    #[arg(long)]
    latency_max_ms: Option<u64>,
    /// What the fault `slow` adds to the delay.
    #[arg(long, default_value_t = 250)]
    slow_ms: u64,
    /// `Retry-After` of a 429.
    #[arg(long, default_value_t = 1)]
    retry_after_s: u64,
    /// The padding of an oversize answer.
    #[arg(long, default_value_t = 4 << 20)]
    oversize_bytes: usize,
    /// The status of a refusal.
    #[arg(long, default_value_t = 422)]
    refuse_status: u16,
    /// The code of a refusal.
    #[arg(long, default_value = "AC04")]
    refuse_code: String,
    /// A 3xx or 5xx answer that the dispatcher's table of codes explains, as `503:NOT_EXECUTED`; may be repeated.
    #[arg(long, value_name = "STATUS[:CODE]")]
    telling: Vec<String>,
    /// The rail's certificate chain (PEM).
    #[arg(long, requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The rail's private key (PEM).
    #[arg(long, requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Who signs client certificates (PEM); a client without one is turned away.
    #[arg(long, requires = "tls_certificate")]
    tls_client_ca: Option<PathBuf>,
}

fn share(text: &str) -> Result<(Fault, u16), String> {
    let (name, per_mille) = text.split_once('=').ok_or("expected NAME=PER_MILLE")?;
    let fault = name.parse().map_err(|_| {
        let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        format!("there is no fault {name}; there are {}", names.join(", "))
    })?;
    Ok((fault, per_mille.parse().map_err(|_| "the share is not a number per mille".to_owned())?))
}

impl Flags {
    fn into_config(self) -> Result<SimConfig, SimError> {
        let mut profile = self.profile.as_deref().map(read_profile).transpose()?.unwrap_or_default();
        for (fault, per_mille) in &self.faults {
            profile = profile.with(*fault, *per_mille);
        }
        let tls = self.tls_certificate.zip(self.tls_key).map(|(certificate, private_key)| TlsFiles {
            certificate,
            private_key,
            client_ca: self.tls_client_ca,
        });
        let keys = if self.non_idempotent {
            KeyMode::NonIdempotent
        } else {
            KeyMode::Idempotent { window_ms: self.key_window_ms }
        };
        Ok(SimConfig {
            listen: self.listen,
            admin: self.admin,
            answers: self.answers,
            received: self.received,
            durability: if self.no_sync { Durability::Written } else { Durability::Synced },
            tls,
            key_header: self.key_header,
            keys,
            seed: self.seed,
            profile,
            script: self.script.as_deref().map(read_script).transpose()?.unwrap_or_default(),
            latency_min_ms: self.latency_min_ms,
            latency_max_ms: self.latency_max_ms.unwrap_or(self.latency_min_ms),
            slow_ms: self.slow_ms,
            retry_after_s: self.retry_after_s,
            oversize_bytes: self.oversize_bytes,
            refuse_status: self.refuse_status,
            refuse_code: self.refuse_code,
            telling: self.telling,
            ..SimConfig::with_ledger(self.ledger)
        })
    }
}

fn read_profile(path: &Path) -> Result<Profile, SimError> {
    let text = read(path)?;
    if path.extension().is_some_and(|extension| extension == "json") {
        return serde_json::from_str(&text).map_err(|error| bad(path, &error));
    }
    toml::from_str(&text).map_err(|error| bad(path, &error))
}

fn read_script(path: &Path) -> Result<Script, SimError> {
    serde_json::from_str(&read(path)?).map_err(|error| bad(path, &error))
}

fn read(path: &Path) -> Result<String, SimError> {
    std::fs::read_to_string(path).map_err(|source| SimError::File { action: "read", path: path.to_owned(), source })
}

fn bad(path: &Path, error: &dyn std::fmt::Display) -> SimError {
    SimError::Config(format!("{}: {error}", path.display()))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let _ = writeln!(io::stderr().lock(), "rail-sim: {error}{}", source.unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), SimError> {
    // Before anybody can learn the address, so that no signal finds the default action.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ledger = flags.ledger.clone();
    let sim = Sim::start(flags.into_config()?).await?;
    announce(&sim)?;
    let failed = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        // A rail that cannot write down what it does is no witness.
        _ = sim.wait_for(|stats| stats.write_failed) => true,
    };
    sim.stop().await;
    if failed {
        let source = io::Error::other("the rail stops, as it cannot say any more what it executed");
        return Err(SimError::File { action: "write", path: ledger, source });
    }
    Ok(())
}

fn announce(sim: &Sim) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let admin = sim.admin_addr().map(|addr| format!("ADMIN {addr}\n")).unwrap_or_default();
    write!(out, "LISTENING {}\n{admin}", sim.addr())?;
    out.flush()
}
