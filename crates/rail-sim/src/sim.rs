//! The handle of a running rail: start it, ask it, steer it, stop it. It is what tests hold; the
//! binary holds the same.

use std::{net::SocketAddr, path::Path, sync::Arc};

use crate::{
    callers::Callers,
    config::SimConfig,
    error::SimError,
    fault::{Profile, Script},
    ledger::{Effect, Ledger},
    park::Point,
    rail::Rail,
    record::{Answer, Received},
    serve::{Gate, Service},
    stats::Stats,
    tls,
};

/// A running rail. Dropping it closes the listeners; `stop` also waits for the files.
pub struct Sim {
    rail: Arc<Rail>,
    gate: Arc<Gate>,
    admin: Option<Arc<Gate>>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("addr", &self.addr()).finish_non_exhaustive()
    }
}

impl Sim {
    /// Starts a rail. If its ledger exists, the rail goes on from there: executed keys are known.
    ///
    /// # Errors
    /// If a setting, file, certificate or address cannot be used.
    pub async fn start(cfg: SimConfig) -> Result<Self, SimError> {
        let tls = cfg.tls.as_ref().map(tls::acceptor).transpose()?;
        let (listen, admin) = (cfg.listen, cfg.admin);
        let rail = Arc::new(Rail::open(cfg)?);
        let gate = Arc::new(Gate::reserve(listen, tls)?);
        gate.open(Service::Payments(Arc::clone(&rail))).await?;
        let admin = match admin {
            Some(addr) => {
                let admin = Gate::reserve(addr, None)?;
                admin.open(Service::Admin(Arc::clone(&rail), Arc::clone(&gate))).await?;
                Some(Arc::new(admin))
            }
            None => None,
        };
        Ok(Self { rail, gate, admin })
    }

    /// Where payments come in.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.gate.addr
    }

    /// Where control requests come in, if anywhere.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.addr)
    }

    /// The URL of the rail, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.rail.cfg.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr())
    }

    /// The effects in the ledger file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn effects(&self) -> Result<Vec<Effect>, SimError> {
        Ledger::read(&self.rail.cfg.ledger).map(|ledger| ledger.effects)
    }

    /// The answers on record; none if they are not recorded.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn answers(&self) -> Result<Vec<Answer>, SimError> {
        Self::records(self.rail.cfg.answers.as_deref(), Answer::read)
    }

    /// The requests on record; none if they are not recorded.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn received(&self) -> Result<Vec<Received>, SimError> {
        Self::records(self.rail.cfg.received.as_deref(), Received::read)
    }

    fn records<T>(path: Option<&Path>, read: fn(&Path) -> Result<Vec<T>, SimError>) -> Result<Vec<T>, SimError> {
        path.map_or_else(|| Ok(Vec::new()), read)
    }

    /// Where the rail stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.rail.counters.now()
    }

    /// Waits, without a limit, until the counters satisfy `condition`.
    pub async fn wait_for(&self, condition: impl FnMut(&Stats) -> bool) -> Stats {
        self.rail.counters.wait_for(condition).await
    }

    /// Waits, without a limit, until the headers of `n` requests have arrived since the start.
    pub async fn wait_for_requests(&self, n: u64) -> Stats {
        self.wait_for(|stats| stats.requests >= n).await
    }

    /// Waits, without a limit, until this process has written `n` effects.
    pub async fn wait_for_effects(&self, n: u64) -> Stats {
        self.wait_for(|stats| stats.effects >= n).await
    }

    /// Waits, without a limit, until `n` requests have their answer, given or withheld, on record.
    pub async fn wait_for_answers(&self, n: u64) -> Stats {
        self.wait_for(|stats| stats.answers >= n).await
    }

    /// Waits, without a limit, until `n` requests are parked at `point`.
    pub async fn wait_for_parked(&self, point: Point, n: u64) -> Stats {
        self.wait_for(move |stats| stats.parked(point) >= n).await
    }

    /// From now on every request that comes to `point` waits there.
    pub fn park(&self, point: Point) {
        self.rail.parking.close(point);
    }

    /// Lets all parked requests go on, and parks no more.
    pub fn release(&self) {
        self.rail.parking.open_all();
    }

    /// Takes the rail down (connecting is refused, open connections are reset), or brings it back on
    /// the same address. What it was executing goes on.
    ///
    /// # Errors
    /// If the system does not let it listen again.
    pub async fn set_down(&self, down: bool) -> Result<(), SimError> {
        if down {
            self.gate.close().await;
        } else {
            self.gate.open(Service::Payments(Arc::clone(&self.rail))).await?;
        }
        self.rail.counters.change(|stats| stats.down = down);
        Ok(())
    }

    /// Sets the faults of the requests to come; the order counts from now.
    pub fn script(&self, script: Script) {
        self.rail.set_script(script);
    }

    /// Sets how often each fault is drawn from now on.
    ///
    /// # Errors
    /// If they add up to more than 1000 per mille.
    pub fn set_profile(&self, profile: Profile) -> Result<(), SimError> {
        self.rail.set_profile(profile)
    }

    /// Calls payments that were executed by this status from now on, such as one of ISO 20022.
    pub fn call_executed(&self, status: &str) {
        self.rail.set_executed_status(status);
    }

    /// From now on takes payments from these callers alone, and executes nothing for others.
    pub fn admit_only(&self, callers: Callers) {
        self.rail.set_callers(callers);
    }

    /// Forgets every key, as if its window had passed. The ledger stays.
    pub fn forget_keys(&self) {
        self.rail.keys().forget();
    }

    /// Ends the rail: resets connections, lets nothing more execute, and closes its files.
    pub async fn stop(self) {
        self.rail.stopping.send_replace(true);
        self.rail.parking.open_all();
        self.gate.close().await;
        if let Some(admin) = &self.admin {
            admin.close().await;
        }
        let rail = Arc::clone(&self.rail);
        // Joins the writers, which may be in the middle of a sync.
        let _ = tokio::task::spawn_blocking(move || rail.close_files()).await;
    }
}
