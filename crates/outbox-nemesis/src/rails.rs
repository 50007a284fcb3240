//! The five rails of a run, one for each thing that a contract can promise, and how to spoil their answers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outbox_testkit::{CertFiles, Certs};
use rail_sim::{Durability, Fault, KeyMode, Profile, Script, Sim, SimConfig, Stats, TlsFiles};
use tokio::sync::{Mutex, MutexGuard};

use crate::error::NemesisError;
use crate::patience::Patience;

/// How long a rail may take, by its contract and by the daemons' configuration, in milliseconds.
pub(crate) const RAIL_TIMEOUT_MS: u64 = 2_000;
/// How long a lease is, in milliseconds.
pub(crate) const LEASE_MS: u64 = 6_000;
/// By its contract a request that was sent is executed so long after at most, in milliseconds. Longer than what the
/// database's clock may be wrong without being noticed (10 s): see docs/RELIABILITY.md.
const PROCESSING_BOUND_MS: u64 = 12_000;
/// The contract of `window` sends nothing again so long after the first time, in milliseconds.
pub(crate) const CONTRACT_WINDOW_MS: u64 = 8_000;
/// The rail `window` forgets a key so long after its first result, in milliseconds.
const KEY_WINDOW_MS: u64 = 40_000;

/// A connection of the harness or of a daemon lasts no longer on the port that a rail wants back.
const REBIND_LIMIT: Duration = Duration::from_secs(20);

/// What is the same for the whole life of a rail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RailKind {
    /// Its name.
    pub(crate) name: &'static str,
    /// What its contract says of an unknown outcome.
    pub(crate) on_unknown: &'static str,
    /// Of a hundred payments, so many go over it.
    pub(crate) share: u64,
    keys: KeyMode,
    tls: bool,
}

impl RailKind {
    /// Whether it executes a key once.
    #[must_use]
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.keys, KeyMode::Idempotent { .. })
    }

    /// Whether it serves TLS.
    #[must_use]
    pub(crate) fn has_certificate(&self) -> bool {
        self.tls
    }

    /// Whether it forgets keys.
    #[must_use]
    pub(crate) fn forgets(&self) -> bool {
        matches!(self.keys, KeyMode::Idempotent { window_ms: Some(_) })
    }

    /// Arguments of `set_payment_rail` after the name.
    pub(crate) fn contract(&self) -> String {
        let window = match self.on_unknown {
            "resend" if self.forgets() => format!(", p_idempotency_window_ms => {CONTRACT_WINDOW_MS}"),
            "resend" => ", p_idempotency_window_ms => 86400000".to_owned(),
            _ => String::new(),
        };
        let last = if self.on_unknown == "inquire" { ", p_not_found_is_final => true" } else { "" };
        format!(
            "'{}'{window}{last}, p_rail_timeout_ms => {RAIL_TIMEOUT_MS}, p_processing_bound_ms => {PROCESSING_BOUND_MS}, \
             p_lease_duration_ms => {LEASE_MS}, p_backoff_base_ms => 50, p_backoff_cap_ms => 1000, p_max_crashes => 3, \
             p_max_sends => 1000, p_max_inquiries => 1000",
            self.on_unknown
        )
    }
}

/// All rails. Those of `hold` and `inquire` execute every request: there a second send is a second payment.
pub(crate) const RAILS: [RailKind; 5] = [
    RailKind { name: "resend", on_unknown: "resend", share: 35, keys: FOR_EVER, tls: false },
    RailKind { name: "hold", on_unknown: "hold", share: 20, keys: KeyMode::NonIdempotent, tls: false },
    RailKind { name: "inquire", on_unknown: "inquire", share: 20, keys: KeyMode::NonIdempotent, tls: false },
    RailKind { name: "window", on_unknown: "resend", share: 15, keys: WINDOW, tls: false },
    RailKind { name: "secure", on_unknown: "resend", share: 10, keys: FOR_EVER, tls: true },
];

const FOR_EVER: KeyMode = KeyMode::Idempotent { window_ms: None };
const WINDOW: KeyMode = KeyMode::Idempotent { window_ms: Some(KEY_WINDOW_MS) };

/// One running rail.
#[derive(Debug)]
pub(crate) struct Rail {
    /// What it is.
    pub(crate) kind: RailKind,
    addr: SocketAddr,
    config: SimConfig,
    sim: Mutex<Option<Sim>>,
    /// Held by whoever parks requests or spoils answers: those who do it at once would undo each other's work.
    turn: Mutex<()>,
}

impl Rail {
    /// Starts it, with its files in `dir`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub(crate) async fn start(kind: RailKind, seed: u64, dir: &Path, certs: &Certs) -> Result<Self, NemesisError> {
        let mut config = SimConfig {
            answers: Some(dir.join(format!("{}.answers", kind.name))),
            keys: kind.keys,
            seed,
            // Nobody ends the machine in a run, only processes.
            durability: Durability::Written,
            tls: kind.tls.then(|| files(&certs.server)),
            latency_max_ms: 5,
            slow_ms: RAIL_TIMEOUT_MS / 2,
            oversize_bytes: 1 << 18,
            telling: vec!["503:NOT_EXECUTED".to_owned()],
            ..SimConfig::with_ledger(dir.join(format!("{}.ledger", kind.name)))
        };
        let sim = Sim::start(config.clone()).await?;
        let addr = sim.addr();
        config.listen = addr;
        Ok(Self { kind, addr, config, sim: Mutex::new(Some(sim)), turn: Mutex::new(()) })
    }

    /// Where payments come in.
    #[must_use]
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its ledger of effects.
    #[must_use]
    pub(crate) fn ledger(&self) -> &Path {
        &self.config.ledger
    }

    /// Its record of answers.
    #[must_use]
    pub(crate) fn answers(&self) -> &Path {
        self.config.answers.as_deref().expect("set at the start")
    }

    /// The right to spoil it.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The same, if nobody has it.
    pub(crate) fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.turn.try_lock().ok()
    }

    /// Does something with the running rail.
    pub(crate) async fn with<T>(&self, work: impl FnOnce(&Sim) -> T) -> T {
        let sim = self.sim.lock().await;
        work(sim.as_ref().expect("only a restart takes it out, and holds the lock"))
    }

    /// Its counters.
    pub(crate) async fn stats(&self) -> Stats {
        self.with(Sim::stats).await
    }

    /// The next requests meet these faults; returns whether any of them came.
    pub(crate) async fn spoil(&self, script: Script, limit: Duration) -> bool {
        let wanted = u64::try_from(script.order.len().max(script.inquiries.len())).unwrap_or(1);
        let before = self.stats().await;
        self.with(|sim| sim.script(script)).await;
        let patience = Patience::of(limit);
        let mut now = before;
        while now.requests < before.requests + wanted && now.inquiries < before.inquiries + wanted {
            if !patience.again().await {
                break;
            }
            now = self.stats().await;
        }
        self.with(|sim| sim.script(Script::default())).await;
        now.requests > before.requests || now.inquiries > before.inquiries
    }

    /// For `time`, so many of a thousand requests meet `fault`; returns whether any came.
    pub(crate) async fn lean(&self, fault: Fault, per_mille: u16, time: Duration) -> Result<bool, NemesisError> {
        let before = self.stats().await.requests;
        self.with(|sim| sim.set_profile(Profile::new([(fault, per_mille)]))).await?;
        tokio::time::sleep(time).await;
        self.with(|sim| sim.set_profile(Profile::default())).await?;
        Ok(self.stats().await.requests > before)
    }

    /// Is away for `time`.
    pub(crate) async fn down(&self, time: Duration) -> Result<(), NemesisError> {
        self.set_down(true).await?;
        tokio::time::sleep(time).await;
        self.set_down(false).await
    }

    async fn set_down(&self, down: bool) -> Result<(), NemesisError> {
        let sim = self.sim.lock().await;
        Ok(sim.as_ref().expect("only a restart takes it out").set_down(down).await?)
    }

    /// Shows `certificate` for `time`.
    pub(crate) async fn show(&self, certificate: &CertFiles, time: Duration) -> Result<(), NemesisError> {
        self.restart(Some(files(certificate))).await?;
        tokio::time::sleep(time).await;
        self.restart(self.config.tls.clone()).await
    }

    async fn restart(&self, tls: Option<TlsFiles>) -> Result<(), NemesisError> {
        let mut sim = self.sim.lock().await;
        if let Some(running) = sim.take() {
            running.stop().await;
        }
        let patience = Patience::of(REBIND_LIMIT);
        loop {
            match Sim::start(SimConfig { tls: tls.clone(), ..self.config.clone() }).await {
                Ok(started) => {
                    *sim = Some(started);
                    return Ok(());
                }
                // Its port is anybody's for a moment: a connection of ours may have it for its own end.
                Err(_) if patience.again().await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends it and closes its files.
    pub(crate) async fn stop(&self) {
        if let Some(sim) = self.sim.lock().await.take() {
            sim.stop().await;
        }
    }

    /// Everything spoiled is as it should be again.
    pub(crate) async fn heal(&self) -> Result<(), NemesisError> {
        self.with(|sim| {
            sim.script(Script::default());
            sim.release();
            sim.set_profile(Profile::default())
        })
        .await?;
        self.set_down(false).await
    }
}

fn files(certificate: &CertFiles) -> TlsFiles {
    let CertFiles { certificate, key } = certificate;
    TlsFiles { certificate: PathBuf::from(certificate), private_key: PathBuf::from(key), client_ca: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_the_rails_make_a_hundred() {
        assert_eq!(RAILS.iter().map(|rail| rail.share).sum::<u64>(), 100);
    }
}
