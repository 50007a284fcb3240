//! The ledger: one line for each effect, written before anybody is told of it. It is read from the
//! file alone, so that it tells the truth after the rail is killed. Whether an effect may happen is
//! `keys`' decision.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    append::{Appender, Receipt},
    config::Durability,
    error::SimError,
    record::{line_of, read_lines},
};

/// One executed payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When it was executed, in microseconds since 1970.
    pub at_us: u64,
    /// The request that made it.
    pub request: u64,
    /// The wire key.
    pub key: String,
    /// The hash of the body, byte for byte as received.
    pub body_sha256: String,
    /// The length of the body.
    pub body_bytes: u64,
    /// The content type as received.
    pub content_type: Option<String>,
    /// The rail's reference for it.
    pub reference: String,
    /// The trace header as received.
    pub traceparent: Option<String>,
}

/// A ledger as it stands on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Its effects, in order.
    pub effects: Vec<Effect>,
    /// True if the last line is incomplete: that effect did not happen, as nobody was told of it.
    pub torn: bool,
}

impl Ledger {
    /// Reads the ledger of a rail, running or dead. A file that is not there is an empty ledger.
    ///
    /// # Errors
    /// If the file cannot be read, or a complete line is damaged or out of sequence.
    pub fn read(path: &Path) -> Result<Self, SimError> {
        let (effects, torn) = read_lines::<Effect>(path)?;
        for (expected, effect) in (1..).zip(&effects) {
            if effect.seq != expected {
                return Err(SimError::Sequence { path: path.to_owned(), found: effect.seq, expected });
            }
        }
        Ok(Self { effects, torn })
    }

    /// How many effects each key has.
    #[must_use]
    pub fn effects_by_key(&self) -> HashMap<&str, u64> {
        let mut counts = HashMap::new();
        for effect in &self.effects {
            *counts.entry(effect.key.as_str()).or_insert(0) += 1;
        }
        counts
    }

    /// How many effects there are beyond the first of each key.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.effects_by_key().values().map(|count| count - 1).sum()
    }
}

/// The writing end of the ledger.
#[derive(Debug)]
pub(crate) struct LedgerWriter {
    appender: Appender,
    next_seq: Mutex<u64>,
}

impl LedgerWriter {
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<(Self, Ledger), SimError> {
        let appender = Appender::open(path, durability)?;
        let ledger = if path.is_file() { Ledger::read(path)? } else { Ledger::default() };
        let next_seq = Mutex::new(ledger.effects.last().map_or(1, |effect| effect.seq + 1));
        Ok((Self { appender, next_seq }, ledger))
    }

    /// Numbers an effect and hands it to the file. It has happened once the receipt says so.
    pub(crate) fn append(&self, effect: &mut Effect) -> Receipt {
        // Held over the append, so that numbers and lines have one order.
        let mut next_seq = self.next_seq.lock().unwrap_or_else(PoisonError::into_inner);
        effect.seq = *next_seq;
        *next_seq += 1;
        self.appender.append(line_of(effect))
    }

    pub(crate) fn close(&self) {
        self.appender.close();
    }
}

/// The reference of the `ordinal`th execution (from 0) of `key`: the same for the same seed.
pub(crate) fn reference(seed: u64, key: &str, ordinal: u32) -> String {
    let digest =
        Sha256::new().chain_update(seed.to_be_bytes()).chain_update(ordinal.to_be_bytes()).chain_update(key).finalize();
    format!("R-{digest:x}").chars().take(26).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(seq: u64, key: &str) -> Vec<u8> {
        line_of(&Effect {
            seq,
            at_us: 1,
            request: seq,
            key: key.to_owned(),
            body_sha256: String::new(),
            body_bytes: 0,
            content_type: None,
            reference: reference(1, key, 0),
            traceparent: None,
        })
    }

    #[test]
    fn a_torn_last_line_is_no_effect_wherever_it_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let (whole, last) = (effect(1, "a"), effect(2, "b"));
        for cut in 0..last.len() {
            std::fs::write(&path, [&whole[..], &last[..cut]].concat()).unwrap();
            let ledger = Ledger::read(&path).unwrap();
            assert_eq!((ledger.effects.len(), ledger.torn), (1, cut > 0), "cut after {cut} bytes");
        }
    }

    #[test]
    fn damage_and_gaps_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        std::fs::write(&path, [&b"{}\n"[..], &effect(2, "a")].concat()).unwrap();
        assert!(matches!(Ledger::read(&path), Err(SimError::Line { line: 1, .. })));
        std::fs::write(&path, [effect(1, "a"), effect(3, "b")].concat()).unwrap();
        assert!(matches!(Ledger::read(&path), Err(SimError::Sequence { found: 3, expected: 2, .. })));
    }

    #[test]
    fn effects_beyond_the_first_of_a_key_are_duplicates() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        std::fs::write(&path, [effect(1, "a"), effect(2, "b"), effect(3, "a"), effect(4, "a")].concat()).unwrap();
        assert_eq!(Ledger::read(&path).unwrap().duplicates(), 2);
    }

    #[test]
    fn references_differ_by_key_ordinal_and_seed() {
        let all = [reference(1, "a", 0), reference(1, "b", 0), reference(1, "a", 1), reference(2, "a", 0)];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 4);
        assert_eq!(reference(1, "a", 0), all[0]);
    }
}
