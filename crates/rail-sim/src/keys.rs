//! What the rail remembers of each key: its requests, its effects, and the first result as long as
//! the key window lasts. Pure: the time is an argument, and nothing here writes or answers.

use std::collections::HashMap;

use serde::Serialize;

use crate::config::KeyMode;

/// What came of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Executed { reference: String },
    Refused { status: u16, code: String },
}

/// What a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Go ahead; this is the key's execution number `ordinal` (from 0). Must be followed by `settle` or `give_up`.
    Fresh { ordinal: u32 },
    /// The key and the bytes are known: answer as the first time.
    Replay(Verdict),
    /// The key is known with other bytes.
    Reused,
    /// A request with this key is being worked on.
    InFlight,
}

/// The state of a payment, as told to whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PaymentState {
    pub(crate) key: String,
    pub(crate) status: String,
    pub(crate) effects: u32,
    pub(crate) requests: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
}

impl PaymentState {
    /// The status as `executed` calls it, if the payment was executed.
    pub(crate) fn called(mut self, executed: &str) -> Self {
        if self.status == EXECUTED {
            executed.clone_into(&mut self.status);
        }
        self
    }

    /// True while nothing is known but that the payment is being worked on.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.status == IN_FLIGHT
    }
}

/// What a rail calls a payment that it executed, unless it is told to call it otherwise.
pub(crate) const EXECUTED: &str = "ACCEPTED";
const IN_FLIGHT: &str = "IN_FLIGHT";

#[derive(Debug)]
struct First {
    body_sha256: String,
    at_us: u64,
    verdict: Verdict,
}

#[derive(Debug, Default)]
struct KeyState {
    requests: u32,
    begun: u32,
    in_flight: u32,
    effects: u32,
    first: Option<First>,
    last: Option<Verdict>,
}

#[derive(Debug)]
pub(crate) struct KeyBook {
    mode: KeyMode,
    keys: HashMap<String, KeyState>,
}

impl KeyBook {
    pub(crate) fn new(mode: KeyMode) -> Self {
        Self { mode, keys: HashMap::new() }
    }

    /// Counts a request of `key`; gives how many came before it.
    pub(crate) fn arrive(&mut self, key: &str) -> u32 {
        let state = self.keys.entry(key.to_owned()).or_default();
        state.requests += 1;
        state.requests - 1
    }

    pub(crate) fn begin(&mut self, key: &str, body_sha256: &str, now_us: u64) -> Begin {
        let mode = self.mode;
        let state = self.keys.entry(key.to_owned()).or_default();
        if let KeyMode::Idempotent { window_ms } = mode {
            if state.in_flight > 0 {
                return Begin::InFlight;
            }
            let forgotten = |at_us: u64| {
                window_ms.is_some_and(|window_ms| now_us.saturating_sub(at_us) >= window_ms.saturating_mul(1000))
            };
            match &state.first {
                Some(first) if forgotten(first.at_us) => state.first = None,
                Some(first) if first.body_sha256 == body_sha256 => return Begin::Replay(first.verdict.clone()),
                Some(_) => return Begin::Reused,
                None => {}
            }
        }
        let ordinal = state.begun;
        state.begun += 1;
        state.in_flight += 1;
        Begin::Fresh { ordinal }
    }

    /// Records what came of a request that `begin` let through.
    pub(crate) fn settle(&mut self, key: &str, body_sha256: &str, now_us: u64, verdict: Verdict) {
        let state = self.keys.entry(key.to_owned()).or_default();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.record(body_sha256, now_us, verdict);
    }

    /// Ends a request that `begin` let through and that came to nothing.
    pub(crate) fn give_up(&mut self, key: &str) {
        if let Some(state) = self.keys.get_mut(key) {
            state.in_flight = state.in_flight.saturating_sub(1);
        }
    }

    /// Takes back an effect from the ledger after a restart. The requests of a key are then as many
    /// as its effects: nobody else kept count.
    pub(crate) fn restore(&mut self, key: &str, body_sha256: &str, at_us: u64, reference: &str) {
        let state = self.keys.entry(key.to_owned()).or_default();
        state.requests += 1;
        state.begun += 1;
        // A second effect of a key is the first one after its window: the window runs from there.
        state.first = None;
        state.record(body_sha256, at_us, Verdict::Executed { reference: reference.to_owned() });
    }

    /// Forgets every result, as if every key window had passed.
    pub(crate) fn forget(&mut self) {
        for state in self.keys.values_mut() {
            state.first = None;
        }
    }

    pub(crate) fn state(&self, key: &str) -> Option<PaymentState> {
        let state = self.keys.get(key)?;
        let (status, reference, code) = match &state.last {
            Some(Verdict::Executed { reference }) => (EXECUTED, Some(reference.clone()), None),
            _ if state.in_flight > 0 => (IN_FLIGHT, None, None),
            Some(Verdict::Refused { code, .. }) => ("REFUSED", None, Some(code.clone())),
            None => return None,
        };
        let (effects, requests) = (state.effects, state.requests);
        Some(PaymentState { key: key.to_owned(), status: status.to_owned(), effects, requests, reference, code })
    }
}

impl KeyState {
    fn record(&mut self, body_sha256: &str, at_us: u64, verdict: Verdict) {
        if matches!(verdict, Verdict::Executed { .. }) {
            self.effects += 1;
        }
        // A later refusal does not undo an effect.
        if self.effects == 0 || matches!(verdict, Verdict::Executed { .. }) {
            self.last = Some(verdict.clone());
        }
        if self.first.is_none() {
            self.first = Some(First { body_sha256: body_sha256.to_owned(), at_us, verdict });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed(reference: &str) -> Verdict {
        Verdict::Executed { reference: reference.to_owned() }
    }

    fn refused() -> Verdict {
        Verdict::Refused { status: 422, code: "AC04".to_owned() }
    }

    fn book(window_ms: Option<u64>) -> KeyBook {
        KeyBook::new(KeyMode::Idempotent { window_ms })
    }

    #[test]
    fn the_first_result_is_replayed_and_other_bytes_are_told_apart() {
        for verdict in [executed("R-1"), refused()] {
            let mut book = book(None);
            assert_eq!(book.begin("k", "a", 0), Begin::Fresh { ordinal: 0 });
            assert_eq!(book.begin("k", "a", 0), Begin::InFlight);
            book.settle("k", "a", 0, verdict.clone());
            assert_eq!(book.begin("k", "a", u64::MAX), Begin::Replay(verdict));
            assert_eq!(book.begin("k", "b", u64::MAX), Begin::Reused);
        }
    }

    #[test]
    fn a_key_is_forgotten_when_its_window_has_passed_and_not_before() {
        let mut book = book(Some(2));
        book.begin("k", "a", 10_000);
        book.settle("k", "a", 10_000, executed("R-1"));
        assert_eq!(book.begin("k", "a", 11_999), Begin::Replay(executed("R-1")));
        assert_eq!(book.begin("k", "b", 12_000), Begin::Fresh { ordinal: 1 });
        book.settle("k", "b", 12_000, executed("R-2"));
        assert_eq!(book.begin("k", "b", 13_999), Begin::Replay(executed("R-2")));
    }

    #[test]
    fn without_idempotency_every_request_goes_ahead() {
        let mut book = KeyBook::new(KeyMode::NonIdempotent);
        assert_eq!(book.begin("k", "a", 0), Begin::Fresh { ordinal: 0 });
        assert_eq!(book.begin("k", "a", 0), Begin::Fresh { ordinal: 1 });
        book.settle("k", "a", 0, executed("R-1"));
        book.settle("k", "a", 0, executed("R-2"));
        assert_eq!(book.state("k").unwrap().effects, 2);
    }

    #[test]
    fn what_was_given_up_may_be_tried_again_and_leaves_no_state() {
        let mut book = book(None);
        assert_eq!(book.state("k"), None);
        book.begin("k", "a", 0);
        assert_eq!(book.state("k").unwrap().status, "IN_FLIGHT");
        book.give_up("k");
        assert_eq!(book.state("k"), None);
        assert_eq!(book.begin("k", "a", 0), Begin::Fresh { ordinal: 1 });
    }

    #[test]
    fn a_refusal_after_an_effect_does_not_hide_the_effect() {
        let mut book = KeyBook::new(KeyMode::NonIdempotent);
        for verdict in [executed("R-1"), refused()] {
            book.begin("k", "a", 0);
            book.settle("k", "a", 0, verdict);
        }
        let state = book.state("k").unwrap();
        assert_eq!((&*state.status, state.effects, state.reference.as_deref()), ("ACCEPTED", 1, Some("R-1")));
    }

    #[test]
    fn a_restored_key_is_replayed_within_its_window() {
        let mut book = book(Some(2));
        book.restore("k", "a", 1_000, "R-1");
        book.restore("k", "a", 9_000, "R-2");
        assert_eq!(book.begin("k", "a", 10_999), Begin::Replay(executed("R-2")));
        assert_eq!(book.begin("k", "a", 11_000), Begin::Fresh { ordinal: 2 });
    }
}
