//! `rail set` and `rail list`: what changes is shown, and what the database refuses is said.

use serde_json::json;

use crate::commands_binary::Desk;

#[tokio::test]
async fn a_change_shows_old_and_new_values_and_leaves_the_others() {
    let desk = Desk::with_rails().await;
    let set = ["rail", "set", "sepa", "--on-unknown", "resend", "--idempotency-window", "24h", "--output", "json"];
    let changed = desk.run("t_operator", &set).json();
    let expected = json!({"rail": "sepa", "created": false, "changes": {
        "on_unknown": {"old": "hold", "new": "resend"}, "idempotency_window_ms": {"old": null, "new": 86_400_000}}});
    assert_eq!(changed, expected);
    let table = desk.run("t_operator", &["rail", "set", "sepa", "--paused", "true", "--max-sends", "3"]);
    let rows: Vec<Vec<&str>> = table.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(
        rows.contains(&vec!["max_sends", "10", "3"]) && rows.contains(&vec!["paused", "false", "true"]),
        "{table:?}"
    );
    assert_eq!(rows.len(), 4, "{table:?}");
    let all = desk.run("t_monitor", &["rail", "list", "--output", "json"]).json();
    assert_eq!((&all["sepa"]["paused"], &all["sepa"]["idempotency_window_ms"]), (&json!(true), &json!(86_400_000)));
    assert_eq!((&all["telex"]["paused"], &all["telex"]["on_unknown"]), (&json!(false), &json!("hold")));
    assert!(desk.run("t_monitor", &["rail", "list"]).out.contains("telex"));
}

#[tokio::test]
async fn a_key_window_that_no_lease_fits_into_is_warned_of_with_both_values() {
    let desk = Desk::with_rails().await;
    let set = |options: &[&'static str]| [&["rail", "set", "sepa", "--output", "json"], options].concat();
    let resend = ["--on-unknown", "resend", "--idempotency-window", "45s"];
    for (options, warned) in [
        (&["--idempotency-window", "60s", "--lease-duration", "60s"][..], false),
        (&["--on-unknown", "resend", "--idempotency-window", "60s"], true),
        (&["--max-sends", "9"], true),
        (&["--idempotency-window", "61s"], false),
        (&["--lease-duration", "2m"], true),
        (&["--lease-duration", "60s"], false),
        (&["--on-unknown", "hold"], false),
    ] {
        let ended = desk.run("t_operator", &set(options));
        assert_eq!((ended.code, ended.err.contains("warning: rail sepa")), (Some(0), warned), "{options:?} {ended:?}");
        assert!(ended.json()["changes"].is_object(), "{ended:?}");
    }
    let ended = desk.run("t_operator", &set(&resend));
    assert!(
        ended.err.contains("idempotency_window of 45000 ms") && ended.err.contains("lease_duration of 60000 ms"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_new_rail_shows_all_its_values() {
    let desk = Desk::with_rails().await;
    let made = desk.run("t_operator", &["rail", "set", "fresh", "--output", "json"]).json();
    assert_eq!(
        (&made["created"], &made["changes"]["on_unknown"]),
        (&json!(true), &json!({"old": null, "new": "hold"}))
    );
    assert_eq!(made["changes"].as_object().map(serde_json::Map::len), Some(16));
}

#[tokio::test]
async fn a_contract_that_the_database_refuses_changes_nothing() {
    let desk = Desk::with_rails().await;
    let before = desk.run("t_monitor", &["rail", "list"]).out;
    for (options, what) in [
        (&["--on-unknown", "guess"][..], "on_unknown_is_known"),
        (&["--on-unknown", "resend"], "resend_has_key_window"),
        (&["--lease-duration", "1s"], "lease_outlasts_rail_timeout"),
        (&["--backoff-cap", "1ms"], "backoff_cap_not_below_base"),
    ] {
        let ended = desk.run("t_operator", &[&["rail", "set", "sepa"], options].concat());
        assert!(ended.code == Some(65) && ended.err.contains(what), "{what}: {ended:?}");
    }
    for options in [&[][..], &["--paused", "maybe"], &["--rail-timeout", "5"], &["--max-sends", "-1"]] {
        let ended = desk.run("t_operator", &[&["rail", "set", "sepa"], options].concat());
        assert_eq!(ended.code, Some(64), "{options:?}: {ended:?}");
    }
    assert_eq!(desk.run("t_operator", &["rail", "set", "No-Rail", "--paused", "true"]).code, Some(64));
    let ended = desk.run("t_ingest", &["rail", "set", "sepa", "--paused", "true"]);
    assert!(ended.code == Some(77) && ended.err.contains("set_payment_rail"), "{ended:?}");
    assert_eq!(desk.run("t_monitor", &["rail", "list"]).out, before);
}
