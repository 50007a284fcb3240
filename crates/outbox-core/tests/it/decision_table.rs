//! What follows an attempt, in every situation, as a page. The cells are written down from `docs/PROTOCOL.md`; the test goes
//! through all outcomes in all situations, and fails if a cell is missing, differs, or is looked up by nothing.
//!
//! Words of the cells: DISPATCHED and FAILED are the end; READY, it is sent (again) under the same key after the wait;
//! IN_DOUBT, the rail is asked what became of it after the wait; HELD and a reason, it waits for a person.
//!
//! Words of the columns: *resend*, *inquire*, *hold* are contracts; *doubt*, an earlier attempt may have executed the payment;
//! *late*, a worker that had lost its lease reported a success; *asked*, a person asked for a hold while it was leased.
//! A column that does not name a contract, a doubt or a limit is the same with any of them.
//!
//! "Not found" has four rows: *final*, the contract promises that it is, and nothing could still be on its way, and the rail
//! still knew the key, when it was asked; *early*, something could still be on its way; *forgotten*, nothing could, but the
//! rail may have forgotten the key; without a word, the contract promises nothing.

use std::collections::BTreeMap;

use outbox_core::decide::{attempt_state, counts_as_inquiry, counts_as_send};
use outbox_core::{
    AttemptKind, Decision, Millis, OnUnknown, Outcome, RailContract, RailName, Situation, after_attempt,
};

/// What the attempt is recorded as, and what it counts as. *doubt*: on a contract other than resend, where a refusal of this
/// send says nothing of an earlier one.
const RECORDED: &str = "
                   |SUBMIT    |SUBMIT doubt|SUBMIT late|INQUIRE   |INQUIRE late|a send|an inquiry
ACCEPTED           |DISPATCHED|DISPATCHED  |DISPATCHED |DISPATCHED|DISPATCHED  |no    |no
REFUSED            |FAILED    |IN_DOUBT    |IN_DOUBT   |FAILED    |IN_DOUBT    |no    |no
NOT_SENT           |RETRYABLE |RETRYABLE   |RETRYABLE  |RETRYABLE |RETRYABLE   |no    |no
NOT_EXECUTED       |RETRYABLE |RETRYABLE   |RETRYABLE  |IN_DOUBT  |IN_DOUBT    |yes   |no
THROTTLED          |RETRYABLE |RETRYABLE   |RETRYABLE  |RETRYABLE |RETRYABLE   |no    |no
RAIL_REFUSED_US    |RETRYABLE |RETRYABLE   |RETRYABLE  |RETRYABLE |RETRYABLE   |no    |no
INTERIM            |IN_DOUBT  |IN_DOUBT    |IN_DOUBT   |IN_DOUBT  |IN_DOUBT    |yes   |yes
UNKNOWN            |IN_DOUBT  |IN_DOUBT    |IN_DOUBT   |IN_DOUBT  |IN_DOUBT    |yes   |no
KEY_REUSED         |IN_DOUBT  |IN_DOUBT    |IN_DOUBT   |IN_DOUBT  |IN_DOUBT    |no    |no
NOT_FOUND final    |IN_DOUBT  |IN_DOUBT    |IN_DOUBT   |RETRYABLE |IN_DOUBT    |yes   |no
NOT_FOUND early    |IN_DOUBT  |IN_DOUBT    |IN_DOUBT   |IN_DOUBT  |IN_DOUBT    |yes   |no
NOT_FOUND forgotten|IN_DOUBT  |IN_DOUBT    |IN_DOUBT   |IN_DOUBT  |IN_DOUBT    |yes   |no
NOT_FOUND          |IN_DOUBT  |IN_DOUBT    |IN_DOUBT   |IN_DOUBT  |IN_DOUBT    |yes   |yes
INCONCLUSIVE       |IN_DOUBT  |IN_DOUBT    |IN_DOUBT   |IN_DOUBT  |IN_DOUBT    |yes   |yes
";

/// What follows a send. "Not found" and "inconclusive" answer no send: they prove nothing.
const AFTER_SUBMIT: &str = "
                   |resend            |inquire           |inquire doubt     |hold              |hold doubt
ACCEPTED           |DISPATCHED        |DISPATCHED        |DISPATCHED        |DISPATCHED        |DISPATCHED
REFUSED            |FAILED            |FAILED            |IN_DOUBT          |FAILED            |HELD UNKNOWN
NOT_SENT           |READY             |READY             |IN_DOUBT          |READY             |HELD UNKNOWN
NOT_EXECUTED       |READY             |READY             |IN_DOUBT          |READY             |HELD UNKNOWN
THROTTLED          |READY             |READY             |IN_DOUBT          |READY             |HELD UNKNOWN
RAIL_REFUSED_US    |READY             |READY             |IN_DOUBT          |READY             |HELD UNKNOWN
INTERIM            |READY             |IN_DOUBT          |IN_DOUBT          |HELD UNKNOWN      |HELD UNKNOWN
UNKNOWN            |READY             |IN_DOUBT          |IN_DOUBT          |HELD UNKNOWN      |HELD UNKNOWN
KEY_REUSED         |HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION
NOT_FOUND final    |READY             |IN_DOUBT          |IN_DOUBT          |HELD UNKNOWN      |HELD UNKNOWN
NOT_FOUND early    |READY             |IN_DOUBT          |IN_DOUBT          |HELD UNKNOWN      |HELD UNKNOWN
NOT_FOUND forgotten|READY             |IN_DOUBT          |IN_DOUBT          |HELD UNKNOWN      |HELD UNKNOWN
NOT_FOUND          |READY             |IN_DOUBT          |IN_DOUBT          |HELD UNKNOWN      |HELD UNKNOWN
INCONCLUSIVE       |READY             |IN_DOUBT          |IN_DOUBT          |HELD UNKNOWN      |HELD UNKNOWN
";

/// What follows a send if a hold was asked for, or a success came late. *asked doubt*: on a contract other than resend.
const AFTER_SUBMIT_SET_ASIDE: &str = "
                   |asked             |asked doubt       |late              |inquire late      |inquire late asked
ACCEPTED           |DISPATCHED        |DISPATCHED        |DISPATCHED        |DISPATCHED        |DISPATCHED
REFUSED            |FAILED            |HELD REQUESTED    |HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION
NOT_SENT           |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
NOT_EXECUTED       |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
THROTTLED          |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
RAIL_REFUSED_US    |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
INTERIM            |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
UNKNOWN            |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
KEY_REUSED         |HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION
NOT_FOUND final    |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
NOT_FOUND early    |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
NOT_FOUND forgotten|HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
NOT_FOUND          |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
INCONCLUSIVE       |HELD REQUESTED    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
";

/// What follows an inquiry: resend and hold if the contract was changed meanwhile. "Not executed" and "key reused" answer no
/// inquiry: they prove nothing.
const AFTER_INQUIRE: &str = "
                   |resend            |inquire           |hold
ACCEPTED           |DISPATCHED        |DISPATCHED        |DISPATCHED
REFUSED            |FAILED            |FAILED            |FAILED
NOT_SENT           |READY             |IN_DOUBT          |HELD UNKNOWN
NOT_EXECUTED       |READY             |IN_DOUBT          |HELD UNKNOWN
THROTTLED          |READY             |IN_DOUBT          |HELD UNKNOWN
RAIL_REFUSED_US    |READY             |IN_DOUBT          |HELD UNKNOWN
INTERIM            |READY             |IN_DOUBT          |HELD UNKNOWN
UNKNOWN            |READY             |IN_DOUBT          |HELD UNKNOWN
KEY_REUSED         |READY             |IN_DOUBT          |HELD UNKNOWN
NOT_FOUND final    |READY             |READY             |READY
NOT_FOUND early    |READY             |IN_DOUBT          |HELD UNKNOWN
NOT_FOUND forgotten|HELD KEY_WINDOW   |HELD KEY_WINDOW   |HELD UNKNOWN
NOT_FOUND          |READY             |IN_DOUBT          |HELD UNKNOWN
INCONCLUSIVE       |READY             |IN_DOUBT          |HELD UNKNOWN
";

/// What follows an inquiry if a hold was asked for, or a success came late.
const AFTER_INQUIRE_SET_ASIDE: &str = "
                   |asked             |late              |inquire late      |inquire late asked
ACCEPTED           |DISPATCHED        |DISPATCHED        |DISPATCHED        |DISPATCHED
REFUSED            |FAILED            |HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION
NOT_SENT           |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
NOT_EXECUTED       |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
THROTTLED          |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
RAIL_REFUSED_US    |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
INTERIM            |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
UNKNOWN            |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
KEY_REUSED         |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
NOT_FOUND final    |HELD REQUESTED    |HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION
NOT_FOUND early    |HELD REQUESTED    |HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION
NOT_FOUND forgotten|HELD REQUESTED    |HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION
NOT_FOUND          |HELD REQUESTED    |HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION
INCONCLUSIVE       |HELD REQUESTED    |HELD LATE_SUCCESS |IN_DOUBT          |HELD REQUESTED
";

/// What the limits make of a cell of the pages above, this attempt counted. A limit is never a failure.
const LIMITED: &str = "
                   |within both       |sends used up     |inquiries used up |both used up
DISPATCHED         |DISPATCHED        |DISPATCHED        |DISPATCHED        |DISPATCHED
FAILED             |FAILED            |FAILED            |FAILED            |FAILED
READY              |READY             |HELD EXHAUSTED    |READY             |HELD EXHAUSTED
IN_DOUBT           |IN_DOUBT          |IN_DOUBT          |HELD EXHAUSTED    |HELD EXHAUSTED
HELD UNKNOWN       |HELD UNKNOWN      |HELD UNKNOWN      |HELD UNKNOWN      |HELD UNKNOWN
HELD KEY_WINDOW    |HELD KEY_WINDOW   |HELD KEY_WINDOW   |HELD KEY_WINDOW   |HELD KEY_WINDOW
HELD LATE_SUCCESS  |HELD LATE_SUCCESS |HELD LATE_SUCCESS |HELD LATE_SUCCESS |HELD LATE_SUCCESS
HELD CONTRADICTION |HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION|HELD CONTRADICTION
HELD REQUESTED     |HELD REQUESTED    |HELD REQUESTED    |HELD REQUESTED    |HELD REQUESTED
";

const MAX_SENDS: u32 = 3;
const MAX_INQUIRIES: u32 = 2;
const DELAY: Millis = Millis(90_000);

const PAGES: [&str; 6] =
    [RECORDED, AFTER_SUBMIT, AFTER_SUBMIT_SET_ASIDE, AFTER_INQUIRE, AFTER_INQUIRE_SET_ASIDE, LIMITED];

/// The cell of each page, row and column, and whether anything led to it.
struct Cells(BTreeMap<(&'static str, &'static str, &'static str), (&'static str, bool)>);

impl Cells {
    fn read() -> Self {
        let mut all = BTreeMap::new();
        for page in PAGES {
            for (row, column, text) in cells(page) {
                let twice = all.insert((page, row, column), (text, false));
                assert_eq!(twice, None, "{row}, {column}: two cells of{page}");
            }
        }
        Self(all)
    }

    fn at(&mut self, page: &'static str, row: &'static str, column: &'static str) -> &'static str {
        let cell = self.0.get_mut(&(page, row, column));
        let (text, is_seen) = cell.unwrap_or_else(|| panic!("{row}, {column}: no cell of{page}"));
        *is_seen = true;
        text
    }
}

/// Row, column and text of each cell of a page.
fn cells(page: &'static str) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let mut lines = page.trim_matches('\n').lines().map(|line| line.split('|').map(str::trim));
    let columns: Vec<&str> = lines.next().into_iter().flatten().skip(1).collect();
    lines.flat_map(move |mut line| {
        let row = line.next().expect("a row");
        let texts: Vec<&str> = line.collect();
        assert_eq!(texts.len(), columns.len(), "{row}");
        columns.clone().into_iter().zip(texts).map(move |(column, text)| (row, column, text))
    })
}

fn contract(on_unknown: OnUnknown, not_found_is_final: bool) -> RailContract {
    RailContract {
        rail: RailName::new("wire").expect("a name"),
        on_unknown,
        idempotency_window: Some(Millis(86_400_000)),
        not_found_is_final,
        rail_timeout: Millis(30_000),
        processing_bound: Millis(60_000),
        max_sends: MAX_SENDS,
        max_inquiries: MAX_INQUIRIES,
        max_sends_per_s: None,
        max_crashes: 3,
        backoff_base: Millis(1),
        backoff_cap: Millis(1),
        lease_duration: Millis(60_000),
        fallback: false,
        paused: false,
    }
}

/// Every situation: each fact and each count below, at and above its limit, in every combination.
fn situations() -> Vec<Situation> {
    let mut all = Vec::new();
    for (kind, bits) in AttemptKind::ALL.into_iter().flat_map(|kind| (0..32_u8).map(move |bits| (kind, bits))) {
        let [in_doubt, quarantine_over, in_key_window, late_success, hold_requested] =
            [1, 2, 4, 8, 16].map(|bit| bits & bit != 0);
        for (send_count, inquiry_count) in
            (0..=MAX_SENDS + 1).flat_map(|s| (0..=MAX_INQUIRIES + 1).map(move |i| (s, i)))
        {
            all.push(Situation {
                kind,
                send_count,
                inquiry_count,
                in_doubt,
                quarantine_over,
                in_key_window,
                late_success,
                hold_requested,
            });
        }
    }
    all
}

fn row(contract: &RailContract, situation: &Situation, outcome: Outcome) -> &'static str {
    match (outcome, contract.not_found_is_final, situation.quarantine_over, situation.in_key_window) {
        (Outcome::NotFound, true, true, true) => "NOT_FOUND final",
        (Outcome::NotFound, true, true, false) => "NOT_FOUND forgotten",
        (Outcome::NotFound, true, false, _) => "NOT_FOUND early",
        _ => outcome.name(),
    }
}

/// The page and the column of it that say what follows.
fn what_follows(contract: &RailContract, situation: &Situation) -> (&'static str, &'static str) {
    use OnUnknown::{Hold, Inquire, Resend};
    let Situation { kind, in_doubt, late_success, hold_requested, .. } = *situation;
    let set_aside = match (late_success, hold_requested, contract.on_unknown) {
        (true, false, Inquire) => Some("inquire late"),
        (true, true, Inquire) => Some("inquire late asked"),
        (true, _, Resend | Hold) => Some("late"),
        (false, true, Inquire | Hold) if in_doubt && kind == AttemptKind::Submit => Some("asked doubt"),
        (false, true, _) => Some("asked"),
        (false, false, _) => None,
    };
    match (kind, set_aside, contract.on_unknown) {
        (AttemptKind::Submit, Some(column), _) => (AFTER_SUBMIT_SET_ASIDE, column),
        (AttemptKind::Submit, None, Resend) => (AFTER_SUBMIT, "resend"),
        (AttemptKind::Submit, None, Inquire) => (AFTER_SUBMIT, if in_doubt { "inquire doubt" } else { "inquire" }),
        (AttemptKind::Submit, None, Hold) => (AFTER_SUBMIT, if in_doubt { "hold doubt" } else { "hold" }),
        (AttemptKind::Inquire, Some(column), _) => (AFTER_INQUIRE_SET_ASIDE, column),
        (AttemptKind::Inquire, None, on_unknown) => (AFTER_INQUIRE, on_unknown.name()),
    }
}

/// The column of the page that says what the attempt is recorded as.
fn recorded_as(contract: &RailContract, situation: &Situation) -> &'static str {
    let believes_key = contract.on_unknown == OnUnknown::Resend;
    match (situation.kind, situation.late_success) {
        (AttemptKind::Submit, true) => "SUBMIT late",
        (AttemptKind::Submit, false) if situation.in_doubt && !believes_key => "SUBMIT doubt",
        (AttemptKind::Submit, false) => "SUBMIT",
        (AttemptKind::Inquire, true) => "INQUIRE late",
        (AttemptKind::Inquire, false) => "INQUIRE",
    }
}

fn word(decision: Decision) -> String {
    match decision {
        Decision::Settle => "DISPATCHED".to_owned(),
        Decision::Refuse => "FAILED".to_owned(),
        Decision::SendAfter(delay) => format!("READY{}", if delay == DELAY { "" } else { " at another time" }),
        Decision::InquireAfter(delay) => format!("IN_DOUBT{}", if delay == DELAY { "" } else { " at another time" }),
        Decision::Hold(reason) => format!("HELD {}", reason.name()),
    }
}

fn check(pages: &mut Cells, contract: &RailContract, situation: &Situation, outcome: Outcome) {
    let case = format!("{outcome:?} {:?} {} {situation:?}", contract.on_unknown, contract.not_found_is_final);
    let row = row(contract, situation, outcome);
    let state = pages.at(RECORDED, row, recorded_as(contract, situation));
    assert_eq!(attempt_state(contract, situation, outcome).name(), state, "{case}");
    let counted_as = match situation.kind {
        AttemptKind::Submit => "a send",
        AttemptKind::Inquire => "an inquiry",
    };
    let counts = u32::from(pages.at(RECORDED, row, counted_as) == "yes");
    let (sends, inquiries) = if counted_as == "a send" { (counts, 0) } else { (0, counts) };
    assert_eq!(u32::from(counts_as_send(situation.kind, outcome)), sends, "{case}");
    assert_eq!(u32::from(counts_as_inquiry(contract, situation.kind, outcome)), inquiries, "{case}");
    let (page, column) = what_follows(contract, situation);
    let next = pages.at(page, row, column);
    let sends_used_up = situation.send_count + sends >= MAX_SENDS;
    let inquiries_used_up = situation.inquiry_count + inquiries >= MAX_INQUIRIES;
    let limits = match (sends_used_up, inquiries_used_up) {
        (false, false) => "within both",
        (true, false) => "sends used up",
        (false, true) => "inquiries used up",
        (true, true) => "both used up",
    };
    let expected = pages.at(LIMITED, next, limits);
    assert_eq!(word(after_attempt(contract, situation, outcome, DELAY)), expected, "{case}");
    // A payment ends where its attempt does.
    let ends = |word: &str| matches!(word, "DISPATCHED" | "FAILED");
    assert!(if ends(state) { expected == state } else { !ends(expected) }, "{case}: {state}, {expected}");
}

#[test]
fn each_outcome_in_each_situation_has_a_cell_and_leads_where_it_says() {
    let mut pages = Cells::read();
    let situations = situations();
    for (on_unknown, not_found_is_final) in OnUnknown::ALL.into_iter().flat_map(|o| [(o, false), (o, true)]) {
        let contract = contract(on_unknown, not_found_is_final);
        for (outcome, situation) in Outcome::ALL.into_iter().flat_map(|o| situations.iter().map(move |s| (o, s))) {
            check(&mut pages, &contract, situation, outcome);
        }
    }
    for ((page, row, column), (_, is_seen)) in pages.0 {
        assert!(is_seen, "{row}, {column}: nothing leads to this cell of{page}");
    }
}
