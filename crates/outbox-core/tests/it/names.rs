//! What the core's values are called outside of it: in the database, in the configuration, on the wire and before people.

use std::time::Duration;

use outbox_core::ids::BadName;
use outbox_core::{
    AttemptKind, AttemptNo, AttemptState, HoldReason, Meaning, Millis, OnUnknown, OutboxId, PolicyVersion, RailName,
    WorkerId,
};
use uuid::Uuid;

#[test]
fn names_are_those_that_the_database_and_the_configuration_hold_and_are_read_back() {
    assert_eq!(OnUnknown::ALL.map(OnUnknown::name), ["resend", "inquire", "hold"]);
    assert_eq!(AttemptKind::ALL.map(AttemptKind::name), ["SUBMIT", "INQUIRE"]);
    let meanings = "accepted refused not_executed throttled rail_refused_us interim key_reused not_found unknown";
    assert_eq!(Meaning::ALL.map(Meaning::name).join(" "), meanings);
    let reasons = "UNKNOWN EXHAUSTED KEY_WINDOW MISSED_WINDOW LATE_SUCCESS CONTRADICTION REQUESTED";
    assert_eq!(HoldReason::ALL.map(HoldReason::name).join(" "), reasons);
    assert_eq!(OnUnknown::ALL.map(|v| OnUnknown::from_name(v.name())), OnUnknown::ALL.map(Some));
    assert_eq!(AttemptKind::ALL.map(|v| AttemptKind::from_name(v.name())), AttemptKind::ALL.map(Some));
    assert_eq!(Meaning::ALL.map(|v| Meaning::from_name(v.name())), Meaning::ALL.map(Some));
    assert_eq!(HoldReason::ALL.map(|v| HoldReason::from_name(v.name())), HoldReason::ALL.map(Some));
}

#[test]
fn a_name_that_nobody_gave_is_none() {
    for name in ["", "HOLD", "xyzzy"] {
        assert_eq!(OnUnknown::from_name(name), None);
        assert_eq!(AttemptKind::from_name(name), None);
        assert_eq!(Meaning::from_name(name), None);
        assert_eq!(HoldReason::from_name(name), None);
    }
}

#[test]
fn a_payment_has_ended_when_it_is_dispatched_failed_or_cancelled_and_never_else() {
    let ends: Vec<&str> = AttemptState::ALL.into_iter().filter(|s| s.is_terminal()).map(AttemptState::name).collect();
    assert_eq!(ends, ["DISPATCHED", "FAILED", "CANCELLED"]);
}

#[test]
fn ids_are_shown_as_they_are() {
    let boot = Uuid::from_u128(7);
    // The wire key is this text.
    assert_eq!(OutboxId(boot).to_string(), "00000000-0000-0000-0000-000000000007");
    assert_eq!(AttemptNo(3).to_string(), "3");
    assert_eq!(PolicyVersion(12).to_string(), "12");
    assert_eq!(RailName::new("sepa").map(|name| name.to_string()), Ok("sepa".to_owned()));
    let worker = WorkerId::new("pay-1", boot).map(|id| (id.as_str().to_owned(), id.to_string()));
    let expected = "pay-1/00000000-0000-0000-0000-000000000007".to_owned();
    assert_eq!(worker, Ok((expected.clone(), expected)));
    let fault = BadName { given: "a\nb".to_owned(), rule: "no line breaks" };
    assert_eq!(fault.to_string(), "`a\\nb` is not a valid name: no line breaks");
}

#[test]
fn a_length_of_time_is_whole_milliseconds_in_both_directions() {
    assert_eq!(Duration::from(Millis(1_500)), Duration::from_micros(1_500_000));
    assert_eq!(Millis::from(Duration::from_micros(2_999)), Millis(2));
    assert_eq!(Millis::from(Duration::MAX), Millis(u64::MAX));
    assert_eq!(Millis(250).to_string(), "250 ms");
}
