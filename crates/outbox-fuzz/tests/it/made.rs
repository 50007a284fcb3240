//! Bytes made at random, most of them from the corpus by a few cuts, so that a build without a nightly compiler sees more than
//! what was found before.

use outbox_fuzz::{TARGETS, target};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use super::quietly::fault_of;
use super::replay::inputs;

/// The target that takes a connection for each text.
const OVER_A_SOCKET: &str = "rail_exchange";

/// A cut into some bytes, at a place that is taken modulo their length.
#[derive(Clone, Debug)]
enum Cut {
    Byte(usize, u8),
    Out(usize, usize),
    In(usize, Vec<u8>),
    /// A piece of the same bytes once more, elsewhere.
    Again(usize, usize, usize),
}

/// What parsers stumble over.
const TOKENS: [&[u8]; 24] = [
    b"\"",
    b"\\",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x1b[2J",
    b"\xff",
    b"\xef\xbb\xbf",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"null",
    b"-0",
    b"1e400",
    b"99999999999999999999",
    b"nan",
    b"\\ud800",
    b"\\u0000",
    b"\xc3\xa9",
    b"c4n4ry",
];

fn cut() -> impl Strategy<Value = Cut> {
    let at = any::<u16>().prop_map(usize::from);
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Cut::Byte(at, byte)),
        (at.clone(), 1_usize..20).prop_map(|(at, length)| Cut::Out(at, length)),
        (at.clone(), 0..TOKENS.len()).prop_map(|(at, token)| Cut::In(at, TOKENS[token].to_vec())),
        (at.clone(), vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Cut::In(at, bytes)),
        (at.clone(), 1_usize..40, at).prop_map(|(from, length, to)| Cut::Again(from, length, to)),
    ]
}

fn apply(bytes: &mut Vec<u8>, cut: &Cut) {
    let length = bytes.len();
    let place = |at: usize| at % (length + 1);
    let range = |at: usize, count: usize| place(at)..(place(at) + count).min(length);
    match cut {
        Cut::Byte(at, byte) if length > 0 => bytes[at % length] = *byte,
        Cut::Byte(_, byte) => bytes.push(*byte),
        Cut::Out(at, count) => drop(bytes.drain(range(*at, *count))),
        Cut::In(at, new) => drop(bytes.splice(place(*at)..place(*at), new.iter().copied())),
        Cut::Again(from, count, to) => {
            let piece = bytes[range(*from, *count)].to_vec();
            drop(bytes.splice(place(*to)..place(*to), piece));
        }
    }
}

/// The first that does not hold, if any.
fn fault_of_what_is_made(name: &str, cases: u32) -> Option<String> {
    let check = target(name).expect("a target").check;
    let seeds: Vec<Vec<u8>> = inputs(name).into_iter().map(|(_, bytes)| bytes).collect();
    let made = (any::<usize>(), vec(cut(), 0..6)).prop_map(|(seed, cuts)| {
        let mut bytes = seeds[seed % seeds.len()].clone();
        cuts.iter().for_each(|cut| apply(&mut bytes, cut));
        bytes
    });
    let bytes = prop_oneof![7 => made, 1 => vec(any::<u8>(), 0..200)];
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&bytes, |bytes| match fault_of(check, &bytes) {
        None => Ok(()),
        Some(fault) => Err(TestCaseError::fail(format!("{fault}\n    of \"{}\"", bytes.escape_ascii()))),
    });
    match ran {
        Ok(()) => None,
        Err(TestError::Fail(fault, _)) => Some(format!("{name}: {fault}")),
        Err(TestError::Abort(why)) => Some(format!("{name}: {why}")),
    }
}

fn hold(names: impl Iterator<Item = &'static str>, cases: u32) {
    let faults: Vec<String> = names.filter_map(|name| fault_of_what_is_made(name, cases)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_parser_holds_on_thousands_of_texts_made_from_the_corpus() {
    hold(TARGETS.iter().map(|target| target.name).filter(|name| *name != OVER_A_SOCKET), 2_000);
}

#[test]
fn answers_over_a_socket_hold_on_hundreds_made_from_the_corpus() {
    hold(std::iter::once(OVER_A_SOCKET), 400);
}
