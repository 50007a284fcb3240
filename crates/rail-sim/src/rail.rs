//! The state that all connections of a rail share, and its files. It puts records into files and
//! counts; what happens to a request is `exchange`'s part.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use hyper::header::HeaderName;
use tokio::sync::watch;

use crate::{
    append::{Appender, written},
    callers::Callers,
    config::{Durability, SimConfig},
    error::SimError,
    fault::{Fault, Profile, Script, draw},
    keys::{EXECUTED, KeyBook},
    ledger::LedgerWriter,
    park::Parking,
    record::{Answer, Received, line_of, read_lines},
    stats::Counters,
};

/// What decides the next fault.
#[derive(Debug)]
struct Faults {
    profile: Profile,
    script: Script,
    /// Requests since the script was set.
    place: u64,
    /// Inquiries since the script was set.
    inquiry_place: u64,
}

#[derive(Debug)]
pub(crate) struct Rail {
    pub(crate) cfg: SimConfig,
    pub(crate) key_header: HeaderName,
    pub(crate) ledger: LedgerWriter,
    pub(crate) counters: Counters,
    pub(crate) parking: Parking,
    pub(crate) stopping: watch::Sender<bool>,
    answers: Option<Appender>,
    received: Option<Appender>,
    keys: Mutex<KeyBook>,
    faults: Mutex<Faults>,
    executed_status: Mutex<String>,
    callers: Mutex<Callers>,
    next_request: AtomicU64,
}

/// A request as it arrived, before its body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) request: u64,
    pub(crate) at_us: u64,
    pub(crate) nth: u32,
    pub(crate) fault: Fault,
}

impl Rail {
    pub(crate) fn open(cfg: SimConfig) -> Result<Self, SimError> {
        cfg.check()?;
        let key_header = HeaderName::from_bytes(cfg.key_header.as_bytes())
            .map_err(|_| SimError::Config("the key header is not a header name".to_owned()))?;
        let (ledger, past) = LedgerWriter::open(&cfg.ledger, cfg.durability)?;
        let mut keys = KeyBook::new(cfg.keys);
        for effect in &past.effects {
            keys.restore(&effect.key, &effect.body_sha256, effect.at_us, &effect.reference);
        }
        let open = |path: &Option<_>| path.as_deref().map(|path| Appender::open(path, Durability::Written)).transpose();
        let (answers, received) = (open(&cfg.answers)?, open(&cfg.received)?);
        let last = last_request(&cfg)?.max(past.effects.iter().map(|effect| effect.request).max().unwrap_or(0));
        let faults = Faults { profile: cfg.profile.clone(), script: cfg.script.clone(), place: 0, inquiry_place: 0 };
        Ok(Self {
            key_header,
            ledger,
            counters: Counters::new(),
            parking: Parking::new(),
            stopping: watch::Sender::new(false),
            answers,
            received,
            keys: Mutex::new(keys),
            faults: Mutex::new(faults),
            executed_status: Mutex::new(EXECUTED.to_owned()),
            callers: Mutex::default(),
            next_request: AtomicU64::new(last + 1),
            cfg,
        })
    }

    pub(crate) fn keys(&self) -> MutexGuard<'_, KeyBook> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a request and settles which fault it meets.
    pub(crate) fn arrive(&self, key: &str) -> Arrival {
        let nth = self.keys().arrive(key);
        let fault = {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            let place = faults.place;
            faults.place += 1;
            let scripted = faults.script.fault(key, nth, place);
            scripted.unwrap_or_else(|| faults.profile.draw(self.cfg.seed, key, nth))
        };
        Arrival { request: self.number(), at_us: now_us(), nth, fault }
    }

    /// Counts an inquiry and settles which fault it meets.
    pub(crate) fn asked(&self) -> Fault {
        self.counters.change(|stats| stats.inquiries += 1);
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let place = faults.inquiry_place;
        faults.inquiry_place += 1;
        faults.script.inquiry_fault(place)
    }

    /// The number of the next request.
    pub(crate) fn number(&self) -> u64 {
        self.counters.change(|stats| stats.requests += 1);
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// How long the answer to the `nth` request of `key` waits.
    pub(crate) fn latency_ms(&self, key: &str, arrival: Arrival) -> u64 {
        let spread = self.cfg.latency_max_ms - self.cfg.latency_min_ms + 1;
        let drawn = self.cfg.latency_min_ms + draw(self.cfg.seed, key, arrival.nth, "latency") % spread;
        drawn + if arrival.fault == Fault::Slow { self.cfg.slow_ms } else { 0 }
    }

    pub(crate) fn set_script(&self, script: Script) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.script = script;
        faults.place = 0;
        faults.inquiry_place = 0;
    }

    pub(crate) fn set_profile(&self, profile: Profile) -> Result<(), SimError> {
        profile.check()?;
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).profile = profile;
        Ok(())
    }

    /// The status by which the rail calls a payment that it executed.
    pub(crate) fn executed_status(&self) -> String {
        self.executed_status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_executed_status(&self, status: &str) {
        status.clone_into(&mut self.executed_status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the rail takes payments from whoever has sent this.
    pub(crate) fn admits(&self, received: &Received) -> bool {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner).admit(received)
    }

    pub(crate) fn set_callers(&self, callers: Callers) {
        *self.callers.lock().unwrap_or_else(PoisonError::into_inner) = callers;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Puts an answer on record, given or withheld; `first` if the request has none yet.
    pub(crate) async fn put_answer(&self, answer: &Answer, first: bool) {
        self.put(self.answers.as_ref(), line_of(answer)).await;
        self.counters.change(|stats| {
            stats.answers += u64::from(first);
            stats.unknown_answers += u64::from(answer.unknown);
            stats.replays += u64::from(first && answer.replayed);
        });
    }

    /// Puts a received request on record.
    pub(crate) async fn put_received(&self, received: &Received) {
        self.put(self.received.as_ref(), line_of(received)).await;
        self.counters.change(|stats| stats.bodies += 1);
    }

    async fn put(&self, appender: Option<&Appender>, line: Vec<u8>) {
        if let Some(appender) = appender
            && written(appender.append(line)).await.is_err()
            && !self.is_stopping()
        {
            self.counters.change(|stats| stats.write_failed = true);
        }
    }

    /// Writes what is left and ends the writers.
    pub(crate) fn close_files(&self) {
        self.ledger.close();
        for appender in [&self.answers, &self.received].into_iter().flatten() {
            appender.close();
        }
    }
}

/// The highest request number on record: after a restart numbers go on from there.
fn last_request(cfg: &SimConfig) -> Result<u64, SimError> {
    let mut last = 0;
    if let Some(path) = &cfg.answers {
        last = read_lines::<Answer>(path)?.0.iter().map(|answer| answer.request).max().unwrap_or(0);
    }
    if let Some(path) = &cfg.received {
        let received = read_lines::<Received>(path)?.0.iter().map(|received| received.request).max();
        last = last.max(received.unwrap_or(0));
    }
    Ok(last)
}

/// The time, in microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
