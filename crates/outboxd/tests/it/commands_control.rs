//! `list`, `hold`, `release`, `approve` and the others: what a person types, sees, and how it ends.

use serde_json::Value;
use sqlx::Executor as _;

use crate::commands_binary::{Desk, Ended, text};

/// Three payments of 100 EUR each on `sepa`, and their ids in order.
async fn desk_with_payments() -> (Desk, Vec<String>) {
    let desk = Desk::with_rails().await;
    let lines: String = (1..=3)
        .map(|n| {
            format!("{{\"instruction_id\":\"i{n}\",\"payload\":\"x\",\"amount_minor\":100,\"currency\":\"EUR\"}}\n")
        })
        .collect();
    let file = desk.file("in.ndjson", lines);
    let options = ["--participant", "p", "--rail", "sepa", "--content-type", "text/plain"];
    assert_eq!(desk.enqueue(text(&file), &options).code, Some(0));
    let ids =
        listed(&desk, &["--rail", "sepa"]).iter().map(|one| one["outbox_id"].as_str().unwrap().to_owned()).collect();
    (desk, ids)
}

fn listed(desk: &Desk, options: &[&str]) -> Vec<Value> {
    let ended = desk.run("t_operator", &[&["list", "--output", "json"], options].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn action_of(ended: &Ended) -> String {
    ended.json()["action_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn change_is_made_only_when_its_number_of_payments_is_confirmed() {
    let (desk, _) = desk_with_payments().await;
    let hold = ["hold", "--rail", "sepa", "--reason", "looks odd"];
    let dry = desk.run("t_operator", &[&hold[..], &["--dry-run"]].concat());
    assert_eq!((dry.code, dry.out.as_str()), (Some(0), "HOLD: 3 payments, 300 EUR (minor units)\n"));
    for (confirm, word) in [(&[][..], "--confirm 3"), (&["--confirm", "2"][..], "it is 3 payments, not 2")] {
        let ended = desk.run("t_operator", &[&hold[..], confirm].concat());
        assert_eq!(ended.code, Some(64), "{ended:?}");
        assert!(ended.err.contains(word), "{ended:?}");
    }
    assert!(listed(&desk, &["--state", "held"]).is_empty());
    let ended = desk.run("t_operator", &[&hold[..], &["--confirm", "3", "--output", "json"]].concat());
    assert_eq!(ended.json()["applied"], 3);
    assert_eq!(listed(&desk, &["--state", "held", "--hold-reason", "requested"]).len(), 3);
    let both = desk.run("t_operator", &["list", "--state", "failed", "--hold-reason", "requested"]);
    assert!(both.code == Some(64) && both.err.contains("--hold-reason is of what is held"), "{both:?}");
    // What is held already is skipped, and the end says so.
    let again = desk.run("t_operator", &[&hold[..], &["--confirm", "3"]].concat());
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.out.contains("it is held already: REQUESTED") && again.err.contains("3 of 3"), "{again:?}");
    // So does who carries on what somebody else has begun.
    let id = listed(&desk, &["--actions"])[0]["action_id"].as_str().unwrap().to_owned();
    let carried = desk.run("t_operator", &["apply", &id, "--confirm", "3"]);
    assert!(carried.code == Some(1) && carried.err.contains("3 of 3"), "{carried:?}");
}

#[tokio::test]
async fn release_is_proposed_by_one_login_and_approved_by_another() {
    let (desk, ids) = desk_with_payments().await;
    let held = desk.run("t_operator", &["hold", &ids[0], &ids[1], "--reason", "r", "--confirm", "2"]);
    assert_eq!(held.code, Some(0), "{held:?}");
    let release = ["release", "--state", "held", "--reason", "all clear", "--confirm", "2", "--output", "json"];
    let proposed = desk.run("t_operator", &release);
    let action = action_of(&proposed);
    assert_eq!(
        (&proposed.json()["payments"], &proposed.json()["amounts"]["EUR"]),
        (&Value::from(2), &Value::from(200))
    );
    assert_eq!(listed(&desk, &["--state", "held"]).len(), 2);
    // The maker's login does not even see the function, and nothing goes on without approval.
    for arguments in [&["approve", &action, "--reason", "r"][..], &["apply", &action]] {
        let ended = desk.run("t_operator", &[arguments, &["--confirm", "2"]].concat());
        assert!(matches!(ended.code, Some(65 | 77)), "{ended:?}");
    }
    let shown = desk.run("t_approver", &["approve", &action, "--reason", "checked", "--dry-run"]);
    for word in ["RELEASE", "{\"EUR\":200}", "all clear", "t_operator"] {
        assert!(shown.out.contains(word), "{word}: {shown:?}");
    }
    let ended =
        desk.run("t_approver", &["approve", &action, "--reason", "checked", "--confirm", "2", "--output", "json"]);
    assert_eq!(ended.json()["applied"], 2);
    assert!(listed(&desk, &["--state", "held"]).is_empty());
    let actions = desk.run("t_auditor", &["list", "--actions"]);
    assert!(actions.out.contains("APPROVED") && actions.out.contains("t_approver"), "{actions:?}");
}

#[tokio::test]
async fn rejected_and_withdrawn_actions_are_over() {
    let (desk, ids) = desk_with_payments().await;
    let resolve = [
        "resolve",
        &ids[0],
        "--as",
        "failed",
        "--evidence",
        "R",
        "--reason",
        "r",
        "--confirm",
        "1",
        "--output",
        "json",
    ];
    let rejected = action_of(&desk.run("t_operator", &resolve));
    let ended = desk.run("t_approver", &["reject", &rejected, "--reason", "no", "--confirm", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let withdrawn = action_of(&desk.run("t_operator", &resolve));
    assert_eq!(desk.run("t_operator", &["withdraw", &withdrawn, "--reason", "mistake"]).code, Some(0));
    for action in [rejected, withdrawn] {
        let ended = desk.run("t_approver", &["approve", &action, "--reason", "r", "--confirm", "1"]);
        assert_eq!(ended.code, Some(65), "{ended:?}");
        assert!(ended.err.contains("decided already"), "{ended:?}");
    }
}

#[tokio::test]
async fn list_of_what_left_of_a_wrong_batch_goes_into_the_next_command() {
    let (desk, ids) = desk_with_payments().await;
    let held =
        desk.run("t_operator", &["hold", "--rail", "sepa", "--reason", "r", "--confirm", "3", "--output", "json"]);
    let action = action_of(&held);
    // One of them is found to have been dispatched after all.
    let sql = format!(
        "update outbox.payment_outbox_pending set first_sent_at = now(), in_doubt_since = now() where outbox_id = '{}'",
        ids[1]
    );
    desk.dba().await.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    let sent = desk.run("t_operator", &["list", "--action", &action, "--sent", "--output", "csv"]);
    let lines: Vec<&str> = sent.out.lines().collect();
    assert_eq!(lines.len(), 2, "{sent:?}");
    assert!(lines[0].starts_with("outbox_id,wire_key,rail,") && lines[1].starts_with(&ids[1]), "{sent:?}");
    let file = desk.file("recall.csv", &sent.out);
    let resolve = [
        "resolve",
        "--ids-from",
        text(&file),
        "--as",
        "dispatched",
        "--evidence",
        "REF",
        "--reason",
        "r",
        "--confirm",
        "1",
    ];
    let ended = desk.run("t_operator", &resolve);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let bad = desk.file("bad.csv", "outbox_id\nnonsense\n");
    let ended = desk.run("t_operator", &["hold", "--ids-from", text(&bad), "--reason", "r", "--confirm", "1"]);
    assert_eq!(ended.code, Some(65));
    assert!(ended.err.contains("bad.csv:2: `nonsense`"), "{ended:?}");
}

#[tokio::test]
async fn selection_has_to_be_one_way_of_saying_which() {
    let (desk, ids) = desk_with_payments().await;
    for arguments in [&["hold", "--reason", "r"][..], &["hold", &ids[0], "--rail", "sepa", "--reason", "r"]] {
        let ended = desk.run("t_operator", arguments);
        assert_eq!(ended.code, Some(64), "{ended:?}");
        assert!(ended.err.contains("say which payments"), "{ended:?}");
    }
    let none = desk.run("t_operator", &["hold", "--rail", "telex", "--reason", "r", "--confirm", "0"]);
    assert_eq!(none.code, Some(66), "{none:?}");
}

#[tokio::test]
async fn everything_is_paused_and_resumed_by_its_own_scope_and_a_failover_waits_for_the_second_person() {
    let (desk, _) = desk_with_payments().await;
    assert_eq!(desk.run("t_operator", &["pause", "--reason", "r"]).code, Some(64));
    assert_eq!(desk.run("t_operator", &["pause", "--all", "--reason", "drill"]).code, Some(0));
    let ended = desk.run("t_operator", &["resume", "--rail", "sepa", "--reason", "drill"]);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.err.contains("its own scope"), "{ended:?}");
    assert_eq!(desk.run("t_operator", &["resume", "--all", "--reason", "drill"]).code, Some(0));
    let propose =
        ["failover", "acknowledge", "--lost-from", "2026-01-31T08:00:00Z", "--reason", "promoted", "--output", "json"];
    let action = action_of(&desk.run("t_operator", &propose));
    let ended = desk.run("t_approver", &["approve", &action, "--reason", "r", "--confirm", "0", "--output", "json"]);
    assert_eq!((&ended.json()["doubtful"], &ended.json()["held"]), (&Value::from(3), &Value::from(3)));
}

#[tokio::test]
async fn sums_beyond_64_bits_are_shown_exactly_and_can_be_approved() {
    let (desk, _) = desk_with_payments().await;
    let line = |n: u8| {
        format!(
            "{{\"instruction_id\":\"big{n}\",\"payload\":\"x\",\"amount_minor\":9000000000000000001,\"currency\":\"JPY\"}}\n"
        )
    };
    let file = desk.file("big.ndjson", (1..=3).map(line).collect::<String>());
    let options = ["--participant", "big", "--rail", "sepa", "--content-type", "text/plain"];
    assert_eq!(desk.enqueue(text(&file), &options).code, Some(0));
    let hold = ["hold", "--participant", "big", "--reason", "r", "--confirm", "3"];
    assert_eq!(desk.run("t_operator", &hold).code, Some(0));
    let release = ["release", "--participant", "big", "--reason", "r", "--confirm", "3", "--output", "json"];
    let action = action_of(&desk.run("t_operator", &release));
    let shown = desk.run("t_approver", &["approve", &action, "--reason", "checked", "--dry-run"]);
    for words in ["{\"JPY\":27000000000000000003}", "{\"HELD REQUESTED, not sent\":3}"] {
        assert!(shown.out.contains(words), "{words}: {shown:?}");
    }
    let approved = desk.run("t_approver", &["approve", &action, "--reason", "checked", "--confirm", "3"]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
}

#[tokio::test]
async fn programs_get_a_document_for_every_answer() {
    let (desk, ids) = desk_with_payments().await;
    let json = |login: &str, words: &[&str]| {
        let ended = desk.run(login, &[words, &["--reason", "r", "--output", "json"]].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.json()
    };
    let dry = json("t_operator", &["hold", "--rail", "sepa", "--dry-run"]);
    assert_eq!((&dry["dry_run"], &dry["payments"], &dry["amounts"]["EUR"]), (&"HOLD".into(), &3.into(), &300.into()));
    json("t_operator", &["hold", &ids[0], "--confirm", "1"]);
    let propose =
        || json("t_operator", &["release", &ids[0], "--confirm", "1"])["action_id"].as_str().unwrap().to_owned();
    let action = propose();
    assert_eq!(json("t_approver", &["approve", &action, "--dry-run"])["kind"], "RELEASE");
    assert_eq!(json("t_approver", &["reject", &action, "--confirm", "1"])["decision"], "REJECTED");
    let action = propose();
    let wrong = desk.run("t_operator", &["withdraw", &action, "--reason", "r", "--confirm", "77"]);
    assert!(wrong.code == Some(64) && wrong.err.contains("it is 1 payments, not 77"), "{wrong:?}");
    assert_eq!(json("t_operator", &["withdraw", &action])["decision"], "WITHDRAWN");
}

#[tokio::test]
async fn names_that_nobody_has_are_told() {
    let (desk, ids) = desk_with_payments().await;
    let none = desk.run("t_operator", &["list", "--action", &ids[0]]);
    assert!(none.code == Some(66) && none.err.contains(&ids[0]), "{none:?}");
    let typo = desk.run("t_operator", &["pause", "--participant", "pp", "--reason", "r"]);
    assert!(typo.code == Some(0) && typo.err.contains("no payment of participant pp is in the queue"), "{typo:?}");
    let known = desk.run("t_operator", &["pause", "--participant", "p", "--reason", "r"]);
    assert_eq!((known.code, known.err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn apply_asks_for_no_reason_since_nothing_would_record_it() {
    let (desk, ids) = desk_with_payments().await;
    let held = ["hold", &ids[0], "--reason", "r", "--confirm", "1", "--output", "json"];
    let action = action_of(&desk.run("t_operator", &held));
    let ended = desk.run("t_operator", &["apply", &action]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = desk.run("t_operator", &["apply", &action, "--reason", "r"]);
    assert_eq!(ended.code, Some(64), "{ended:?}");
}

#[tokio::test]
async fn pause_and_resume_say_what_they_keep_back_and_a_dry_run_does_nothing() {
    let (desk, _) = desk_with_payments().await;
    let desk = &desk;
    let run = |words: &[&str]| desk.run("t_operator", &[words, &["--reason", "drill"]].concat());
    let says = |words: &[&str], expected: &[&str]| {
        let ended = run(words);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(expected.iter().all(|word| ended.out.contains(word)), "{expected:?} {ended:?}");
    };
    says(
        &["pause", "--rail", "sepa", "--dry-run"],
        &["3 payments would be kept back, 3 of them due", "nothing is paused"],
    );
    assert!(listed(desk, &["--actions"]).is_empty());
    let paused = run(&["pause", "--rail", "sepa", "--output", "json"]).json();
    assert_eq!((&paused["payments"], &paused["due"], &paused["rails"]["sepa"]), (&3.into(), &3.into(), &3.into()));
    // What another pause keeps back already is told apart.
    let others = ["0 payments would be kept back", "3 more are kept back by another pause", "rail sepa, by t_operator"];
    says(&["pause", "--all", "--dry-run"], &others);
    says(&["pause", "--participant", "p", "--rail", "telex", "--dry-run"], &["0 payments would be kept back"]);
    let dry = run(&["pause", "--all", "--dry-run", "--output", "json"]).json();
    assert_eq!(
        (&dry["dry_run"], &dry["payments"], &dry["kept_back_by_others"]),
        (&"PAUSE".into(), &0.into(), &3.into())
    );
    assert_eq!((&dry["pauses"][0]["rail"], &dry["pauses"][0]["reason"]), (&"sepa".into(), &"drill".into()));
    says(&["resume", "--rail", "sepa", "--dry-run"], &["3 payments would go on", "rail sepa, by t_operator"]);
    // What would be refused is refused.
    for words in [&["resume", "--all"][..], &["pause", "--rail", "nosuch"]] {
        let ended = run(&[words, &["--dry-run"]].concat());
        assert_eq!((ended.code, run(words).code), (Some(65), Some(65)), "{ended:?}");
    }
    assert_eq!(listed(desk, &["--actions"]).len(), 1);
    says(&["resume", "--rail", "sepa"], &["resumed: rail sepa", "3 payments go on"]);
    says(&["pause", "--participant", "p"], &["3 payments are kept back, 3 of them due"]);
}

#[tokio::test]
async fn pause_stands_though_nothing_can_be_counted() {
    let (desk, _) = desk_with_payments().await;
    let revoke = "revoke execute on function outbox.read_outbox_payments from outbox_operator";
    desk.dba().await.execute(revoke).await.unwrap();
    let ended = desk.run("t_operator", &["pause", "--participant", "p", "--reason", "r", "--output", "json"]);
    assert!(ended.json()["payments"].is_null() && ended.err.contains("how many payments"), "{ended:?}");
    let pauses = "select count(*) from outbox.outbox_pauses";
    assert_eq!(sqlx::query_scalar::<_, i64>(pauses).fetch_one(&mut desk.dba().await).await.unwrap(), 1);
}

#[tokio::test]
async fn dry_run_of_a_failover_proposes_nothing_and_says_how_many_payments_would_be_in_doubt() {
    let (desk, ids) = desk_with_payments().await;
    // Never tried and not due: it cannot have been sent.
    let sql = format!(
        "update outbox.payment_outbox_pending set next_attempt_at = now() + interval '1 day' where outbox_id = '{}'",
        ids[2]
    );
    desk.dba().await.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    let words = ["failover", "acknowledge", "--lost-from", "2026-01-31T08:00:00Z", "--reason", "promoted"];
    let dry = desk.run("t_operator", &[&words[..], &["--dry-run"]].concat());
    assert_eq!(dry.code, Some(0), "{dry:?}");
    for word in ["2 payments would be in doubt", "sepa, hold: 2", "2026-01-31T08:00:00.000Z"] {
        assert!(dry.out.contains(word), "{word}: {dry:?}");
    }
    let dry = desk.run("t_operator", &[&words[..], &["--dry-run", "--output", "json"]].concat()).json();
    assert_eq!((&dry["payments"], &dry["rails"]["sepa"]), (&2.into(), &2.into()));
    assert!(listed(&desk, &["--actions"]).is_empty());
    let action = action_of(&desk.run("t_operator", &[&words[..], &["--output", "json"]].concat()));
    let ended = desk.run("t_approver", &["approve", &action, "--reason", "r", "--confirm", "0", "--output", "json"]);
    assert_eq!(ended.json()["doubtful"], 2, "the dry run has said so");
}
