//! What a rail writes down, read by types of our own: its ledger of effects and its log of answers, as lines of
//! JSON. What the lines mean for a payment is put under its key; whether that is in order is the checks' part.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use uuid::Uuid;

use crate::{
    error::CheckError,
    payment::{Payment, RailNo, fingerprint},
    tail::Tail,
    words::Contract,
};

/// A rail as the command line names it.
#[derive(Clone, Debug)]
pub struct RailSpec {
    /// Its name.
    pub name: String,
    /// What may follow an unknown outcome.
    pub contract: Contract,
    /// Whether it executes a key at most once by itself.
    pub is_idempotent: bool,
    /// Its ledger of effects.
    pub ledger: PathBuf,
    /// Its log of answers.
    pub answers: PathBuf,
}

/// An executed payment; other fields are left out.
#[derive(Debug, Deserialize)]
struct EffectLine {
    seq: u64,
    at_us: i64,
    request: u64,
    key: String,
    body_sha256: String,
    reference: String,
}

/// An answer given or withheld.
#[derive(Debug, Deserialize)]
struct AnswerLine {
    request: u64,
    at_us: i64,
    key: Option<String>,
    fault: String,
    delivery: String,
    status: Option<u16>,
    code: Option<String>,
    reference: Option<String>,
    executed: bool,
    unknown: bool,
}

impl AnswerLine {
    fn is_whole(&self) -> bool {
        self.delivery == "whole"
    }

    /// A refusal of the payment: of its sender, of its time and of a key in flight are none.
    fn refuses(&self) -> bool {
        let status = self.status.unwrap_or(0);
        self.fault == "refuse"
            || (self.is_whole() && (400..500).contains(&status) && ![401, 403, 408, 409, 429].contains(&status))
    }

    fn is_vague(&self) -> bool {
        let is_4xx = self.status.is_some_and(|status| (400..500).contains(&status));
        is_4xx && (self.code.is_none() || self.code.as_deref() == Some("KEY_REUSED"))
    }

    fn accepts(&self) -> bool {
        self.is_whole() && !self.unknown && matches!(self.status, Some(200 | 201)) && self.reference.is_some()
    }
}

/// Where the reading of one rail's files stands.
#[derive(Debug)]
pub(crate) struct RailFiles {
    no: RailNo,
    ledger: Tail,
    answers: Tail,
    next_seq: u64,
    /// Requests that have an answer on record, and those of them whose answer tells nothing.
    answered: HashSet<u64>,
    doubted: HashSet<u64>,
    /// How many effects there are.
    pub(crate) effects: u64,
    /// Effects under keys that are none of ours can be.
    pub(crate) strange_keys: Vec<String>,
}

/// What a reading of a rail's files showed to be wrong with the files themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FileFlaws(pub(crate) Vec<String>);

impl RailFiles {
    pub(crate) fn new(no: RailNo, spec: &RailSpec) -> Self {
        Self {
            no,
            ledger: Tail::new(&spec.ledger),
            answers: Tail::new(&spec.answers),
            next_seq: 1,
            answered: HashSet::new(),
            doubted: HashSet::new(),
            effects: 0,
            strange_keys: Vec::new(),
        }
    }

    /// Begins anew with the next reading; gives how many effects there were.
    pub(crate) fn rewind(&mut self) -> u64 {
        self.ledger.rewind();
        self.answers.rewind();
        self.next_seq = 1;
        self.answered.clear();
        self.doubted.clear();
        self.strange_keys.clear();
        std::mem::take(&mut self.effects)
    }

    /// Reads what is new: first the ledger, so that an effect is known before what was answered. `of` gives the
    /// payment of a key.
    pub(crate) fn read(
        &mut self,
        flaws: &mut FileFlaws,
        mut of: impl FnMut(u128, &mut dyn FnMut(&mut Payment)),
    ) -> Result<(), CheckError> {
        let Self { no, ledger, answers, next_seq, answered, doubted, effects, strange_keys } = self;
        let is_longer = ledger.read(|line| {
            let effect: EffectLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            if effect.seq != *next_seq {
                flaws.0.push(format!("effect {} where {next_seq} should be", effect.seq));
            }
            *next_seq = effect.seq + 1;
            *effects += 1;
            match Uuid::parse_str(&effect.key) {
                Ok(key) => of(key.as_u128(), &mut |payment| take_effect(payment, *no, &effect)),
                Err(_) => strange_keys.push(effect.key),
            }
            Ok(())
        })?;
        if !is_longer {
            flaws.0.push("the ledger became shorter".to_owned());
        }
        let is_longer = answers.read(|line| {
            let answer: AnswerLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            let Some(key) = answer.key.as_deref().and_then(|key| Uuid::parse_str(key).ok()) else { return Ok(()) };
            let request = fingerprint((key.as_u128(), answer.request));
            let is_first = answered.insert(request);
            let is_new_doubt = answer.unknown && doubted.insert(request);
            of(key.as_u128(), &mut |payment| take_answer(payment, *no, &answer, is_first, is_new_doubt));
            Ok(())
        })?;
        if !is_longer {
            flaws.0.push("the log of answers became shorter".to_owned());
        }
        Ok(())
    }
}

fn on_rail(payment: &mut Payment, no: RailNo) {
    let wire = &mut payment.wire;
    wire.is_on_two_rails |= wire.rail_plus_one != 0 && wire.rail_plus_one != no + 1;
    wire.rail_plus_one = no + 1;
}

fn take_effect(payment: &mut Payment, no: RailNo, effect: &EffectLine) {
    on_rail(payment, no);
    let wire = &mut payment.wire;
    let body = first_bytes(&effect.body_sha256);
    wire.effects = wire.effects.saturating_add(1);
    wire.effect_request = effect.request;
    if wire.effects == 1 {
        (wire.reference, wire.body, wire.effect_us) = (fingerprint(effect.reference.as_str()), body, effect.at_us);
    } else {
        wire.bytes_vary |= wire.body != body;
    }
}

fn take_answer(payment: &mut Payment, no: RailNo, answer: &AnswerLine, is_first: bool, is_new_doubt: bool) {
    on_rail(payment, no);
    let wire = &mut payment.wire;
    wire.answer_us = answer.at_us;
    if answer.executed {
        wire.answered_request = answer.request;
    }
    wire.unknown_answers = wire.unknown_answers.saturating_add(u16::from(is_new_doubt));
    if is_first {
        wire.requests = wire.requests.saturating_add(1);
        wire.refusals = wire.refusals.saturating_add(u16::from(answer.refuses()));
        wire.vague_answers = wire.vague_answers.saturating_add(u16::from(answer.is_vague()));
        if answer.accepts() {
            wire.acceptances = wire.acceptances.saturating_add(1);
            wire.accepted_us = if wire.accepted_us == 0 { answer.at_us } else { wire.accepted_us };
        }
    } else if is_new_doubt {
        // Nobody was there to take what had been said.
        wire.acceptances = wire.acceptances.saturating_sub(1);
    }
}

/// The first eight bytes of a hash in hexadecimal digits; 0 if it is none.
fn first_bytes(digits: &str) -> u64 {
    digits.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// A rail of the command line: `NAME,contract=…,keys=…,ledger=PATH,answers=PATH`.
///
/// # Errors
/// What is missing or not understood.
pub fn parse_rail(text: &str) -> Result<RailSpec, String> {
    let mut parts = text.split(',');
    let name =
        parts.next().filter(|name| !name.is_empty() && !name.contains('=')).ok_or("a rail begins with its name")?;
    let (mut contract, mut is_idempotent, mut ledger, mut answers) = (None, None, None, None);
    for part in parts {
        match part.split_once('=') {
            Some(("contract", word)) => contract = Some(Contract::of(word).map_err(|error| error.to_string())?),
            Some(("keys", "idempotent")) => is_idempotent = Some(true),
            Some(("keys", "every")) => is_idempotent = Some(false),
            Some(("ledger", path)) => ledger = Some(Path::new(path).to_owned()),
            Some(("answers", path)) => answers = Some(Path::new(path).to_owned()),
            _ => return Err(format!("{part} is not understood")),
        }
    }
    Ok(RailSpec {
        name: name.to_owned(),
        contract: contract.ok_or("contract= is missing")?,
        is_idempotent: is_idempotent.ok_or("keys= is missing")?,
        ledger: ledger.ok_or("ledger= is missing")?,
        answers: answers.ok_or("answers= is missing")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0192f000-0000-7000-8000-000000000001";

    fn read(ledger: &str, answers: &str) -> (Payment, FileFlaws) {
        let dir = tempfile::tempdir().unwrap();
        let spec = format!("sepa,contract=resend,keys=idempotent,ledger={0}/l,answers={0}/a", dir.path().display());
        let spec = parse_rail(&spec).unwrap();
        std::fs::write(&spec.ledger, ledger).unwrap();
        std::fs::write(&spec.answers, answers).unwrap();
        let (mut payment, mut flaws) = (Payment::new(1), FileFlaws::default());
        let mut files = RailFiles::new(0, &spec);
        files.read(&mut flaws, |_, change| change(&mut payment)).unwrap();
        (payment, flaws)
    }

    fn effect(seq: u64, request: u64) -> String {
        format!(
            "{{\"seq\":{seq},\"at_us\":5,\"request\":{request},\"key\":\"{KEY}\",\"body_sha256\":\"{}\",\
             \"body_bytes\":3,\"content_type\":null,\"reference\":\"R-1\",\"traceparent\":null}}\n",
            "ab".repeat(32)
        )
    }

    fn answer(request: u64, delivery: &str, status: &str, reference: &str, unknown: bool) -> String {
        format!(
            "{{\"request\":{request},\"at_us\":6,\"key\":\"{KEY}\",\"fault\":\"none\",\"delivery\":\"{delivery}\",\
             \"status\":{status},\"code\":null,\"reference\":{reference},\"executed\":true,\"replayed\":false,\
             \"unknown\":{unknown}}}\n"
        )
    }

    #[test]
    fn an_answer_of_two_lines_is_one_request_and_its_doubt_counts() {
        let lines = answer(4, "whole", "201", "\"R-1\"", false) + &answer(4, "abandoned", "null", "null", true);
        let (payment, flaws) = read(&effect(1, 4), &lines);
        let wire = payment.wire;
        assert_eq!((wire.requests, wire.unknown_answers, wire.acceptances), (1, 1, 0));
        assert!(!wire.is_silent());
        assert_eq!(flaws, FileFlaws::default());
    }

    #[test]
    fn an_effect_without_an_answer_is_silent() {
        assert!(read(&effect(1, 4), "").0.wire.is_silent());
        assert!(!read(&effect(1, 4), &answer(4, "whole", "201", "\"R-1\"", false)).0.wire.is_silent());
    }

    #[test]
    fn a_gap_in_a_ledger_is_told() {
        assert_eq!(read(&(effect(1, 4) + &effect(3, 5)), "").1.0.len(), 1);
    }

    #[test]
    fn a_rail_of_the_command_line_needs_all_its_parts() {
        assert!(parse_rail("sepa,contract=hold,keys=every,ledger=l,answers=a").is_ok());
        for text in [
            "",
            "contract=hold",
            "sepa",
            "sepa,contract=maybe,keys=every,ledger=l,answers=a",
            "sepa,contract=hold,keys=every,ledger=l",
        ] {
            assert!(parse_rail(text).is_err(), "{text}");
        }
    }
}
