//! `reconcile` on a real statement: written from the rail's own ledger after a daemon has dispatched to it.

use std::path::PathBuf;
use std::process::Command;

use crate::commands_binary::{Desk, Ended, OUTBOXD, end, text};
use crate::rig::{RESEND, Rig};

const FROM: &str = "2020-01-01T00:00:00Z";
const HEADER: &str = "wire_key,rail_reference,amount_minor,currency";

/// `count` payments of 101, 102, … cents that a daemon has dispatched, as lines of the rail's statement.
async fn dispatched(rig: &Rig, count: usize) -> Vec<String> {
    let sql = format!(
        "select count(outbox_id) from generate_series(1, {count}) as n, lateral outbox.enqueue_payment_outbox_text(
             'p', 'i' || n, 'k' || n, '{RESEND}', 'x', 'text/plain', 100 + n, 'EUR')"
    );
    rig.run(&sql).await;
    let daemon = rig.daemon("d");
    rig.settled().await;
    daemon.stop().await;
    let mut lines = Vec::new();
    for effect in rig.resend.effects().unwrap() {
        let sql =
            format!("select amount_minor from outbox.payment_outbox_instructions where outbox_id = '{}'", effect.key);
        let amount: i64 = rig.value(&sql).await;
        lines.push(format!("{},{},{amount},EUR", effect.key, effect.reference));
    }
    assert_eq!(lines.len(), count);
    lines
}

fn file(rig: &Rig, name: &str, lines: &[String]) -> PathBuf {
    let path = rig.dir.path().join(name);
    std::fs::write(&path, format!("{HEADER}\r\n{}\r\n", lines.join("\r\n"))).unwrap();
    path
}

fn reconcile(rig: &Rig, arguments: &[&str]) -> Ended {
    reconcile_as(rig, "t_operator", arguments)
}

fn reconcile_as(rig: &Rig, login: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(OUTBOXD);
    command.arg("reconcile").args(arguments).env_clear().env("DATABASE_URL", rig.db.url(login));
    end(&mut command, b"")
}

fn now() -> String {
    time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// Compares the statement of all time until `until`.
fn compare(rig: &Rig, file: &std::path::Path, until: &str, more: &[&str]) -> Ended {
    let fixed = ["--statement", text(file), "--rail", RESEND, "--from", FROM, "--until", until, "--slack", "0s"];
    reconcile(rig, &[&fixed[..], &["--reason", "daily"], more].concat())
}

#[tokio::test]
async fn statement_with_one_missing_one_extra_and_one_changed_amount_names_exactly_those() {
    let rig = Rig::start().await;
    let lines = dispatched(&rig, 50).await;
    let until = now();
    let whole = compare(&rig, &file(&rig, "whole.csv", &lines), &until, &["--output", "json"]).json();
    assert_eq!((&whole["matched"], &whole["open_breaks"], &whole["lines"]), (&50.into(), &0.into(), &50.into()));
    let mut changed = lines.clone();
    let id = |line: &str| line.split(',').next().unwrap().to_owned();
    changed.remove(7);
    let other = id(&changed[20]);
    changed[20] = changed[20].replace(",1", ",9");
    let extra = "01920000-0000-7000-8000-000000000001";
    changed.push(format!("{extra},EXTRA-1,5,EUR"));
    // The missing one is in the statement before: as long as that counts, it is not missing.
    let path = file(&rig, "changed.csv", &changed);
    let ended = compare(&rig, &path, &until, &["--output", "json"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let found = |ended: &Ended| {
        let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        let breaks = report["breaks"].as_array().unwrap().iter();
        let mut short: Vec<String> = breaks
            .map(|one| {
                format!(
                    "{} {}",
                    one["kind"].as_str().unwrap(),
                    one["outbox_id"].as_str().or(one["wire_key"].as_str()).unwrap()
                )
            })
            .collect();
        short.sort();
        (short, report["matched"].as_i64().unwrap())
    };
    assert_eq!(found(&ended), (vec![format!("AMOUNT_DIFFERS {other}"), format!("UNKNOWN_TO_US {extra}")], 48));

    let rig = Rig::start().await;
    let lines = dispatched(&rig, 50).await;
    let mut changed = lines.clone();
    let (removed, other) = (id(&changed.remove(7)), id(&changed[20]));
    changed[20] = changed[20].replace(",1", ",9");
    changed.push(format!("{extra},EXTRA-1,5,EUR"));
    let path = file(&rig, "changed.csv", &changed);
    let until = now();
    let ended = compare(&rig, &path, &until, &["--output", "json"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let exactly =
        vec![format!("AMOUNT_DIFFERS {other}"), format!("MISSING_AT_RAIL {removed}"), format!("UNKNOWN_TO_US {extra}")];
    assert_eq!(found(&ended), (exactly, 48));
    // The corrected statement closes what it can; the extra line is a person's.
    let ended = compare(&rig, &file(&rig, "whole.csv", &lines), &until, &[]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.out.contains("50 matched") && ended.out.contains("2 closed, 1 open"), "{ended:?}");
    let listed = reconcile(&rig, &["list", "--output", "json"]);
    assert_eq!((listed.code, listed.out.lines().count()), (Some(3), 1), "{listed:?}");
    let open: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let id = open["break_id"].as_str().unwrap();
    // Named twice it is still one, and not for the login that found it to close.
    let words = ["resolve", id, id, "--reason", "returned by the bank", "--output", "json"];
    let asked = reconcile(&rig, &words);
    assert_eq!(asked.code, Some(64), "{asked:?}");
    let alone = reconcile(&rig, &[&words[..], &["--confirm", "1"]].concat());
    assert_eq!((alone.code, alone.err.contains("another login closes it")), (Some(65), true), "{alone:?}");
    let resolved = reconcile_as(&rig, "t_approver", &[&words[..], &["--confirm", "1"]].concat());
    assert_eq!(resolved.code, Some(0), "{resolved:?}");
    let document = resolved.json();
    assert_eq!((&document["closed"], &document["breaks"][0]["break_id"]), (&1.into(), &id.into()));
    // The first statement again opens nothing that was closed since.
    let again = compare(&rig, &path, &until, &["--output", "json"]);
    assert_eq!(found(&again), (vec![], 48));
    assert_eq!(again.code, Some(0), "{again:?}");
}

#[tokio::test]
async fn bad_line_is_named_and_nothing_is_recorded() {
    let desk = Desk::with_rails().await;
    let good = "k,R,1,EUR\n".repeat(20_000);
    let path = desk.file("bad.csv", format!("{HEADER}\n{good}k,R,x,EUR\n"));
    let until = now();
    let words = ["reconcile", "--rail", "sepa", "--from", FROM, "--until", &until, "--reason", "r"];
    let ended = desk.run("t_operator", &[&words[..], &["--statement", text(&path)]].concat());
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.err.contains("bad.csv:20002: amount_minor `x`"), "{ended:?}");
    let missing = desk.run("t_operator", &[&words[..], &["--statement", "/nowhere.csv"]].concat());
    assert_eq!(missing.code, Some(66), "{missing:?}");
    let path = desk.file("good.csv", format!("{HEADER}\n{good}"));
    let dry = desk.run("t_operator", &[&words[..], &["--statement", text(&path), "--dry-run"]].concat());
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(dry.out.contains("20000 lines, 20000 of them paid, 20000 EUR"), "{dry:?}");
    let sql = "select count(*) from outbox.reconcile_statements";
    let recorded: i64 = sqlx::query_scalar(sql).fetch_one(&mut desk.dba().await).await.unwrap();
    assert_eq!(recorded, 0);
    assert_eq!(desk.run("t_operator", &["reconcile"]).code, Some(64));
    // The money of each line stays to be seen, though they are alike.
    let whole = [&words[..], &["--statement", text(&path), "--output", "json"]].concat();
    let refused = desk.run("t_operator", &whole);
    assert_eq!((refused.code, refused.err.contains("20000 new breaks")), (Some(65), true), "{refused:?}");
    let ended = desk.run("t_operator", &[&whole[..], &["--breaks-max", "20000"]].concat());
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let money = document["breaks"].as_array().unwrap().iter().map(|one| one["their_amount_minor"].as_i64().unwrap());
    assert_eq!((money.sum::<i64>(), &document["found"]), (20_000, &20_000.into()));
}

#[tokio::test]
async fn what_is_held_and_paid_is_proposed_in_one_action() {
    let desk = Desk::with_rails().await;
    let lines: String = (1..=3)
        .map(|n| {
            format!("{{\"instruction_id\":\"i{n}\",\"payload\":\"x\",\"amount_minor\":100,\"currency\":\"EUR\"}}\n")
        })
        .collect();
    let input = desk.file("in.ndjson", lines);
    let options = ["--participant", "p", "--rail", "sepa", "--content-type", "text/plain"];
    assert_eq!(desk.enqueue(text(&input), &options).code, Some(0));
    let doubt = "update outbox.payment_outbox_pending set first_sent_at = now(), in_doubt_since = now(), \
                 disposition = 'HELD', hold_reason = 'UNKNOWN'";
    sqlx::query(doubt).execute(&mut desk.dba().await).await.unwrap();
    let sql = "select outbox_id::text from outbox.payment_outbox_pending order by 1";
    let ids: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut desk.dba().await).await.unwrap();
    // The third has another amount: it is not proposed.
    let content = format!("{HEADER}\n{},A,100,EUR\n{},B,100,EUR\n{},C,7,EUR\n", ids[0], ids[1], ids[2]);
    let path = desk.file("s.csv", content);
    let until = now();
    let words = ["reconcile", "--rail", "sepa", "--from", FROM, "--until", &until, "--reason", "r", "--propose"];
    let words = [&words[..], &["--statement", text(&path)]].concat();
    let asked = desk.run("t_operator", &words);
    assert_eq!(asked.code, Some(64), "{asked:?}");
    assert!(asked.err.contains("RESOLVE_DISPATCHED: 2 payments"), "{asked:?}");
    let ended = desk.run("t_operator", &[&words[..], &["--confirm", "2", "--output", "json"]].concat());
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let proposal = &document["proposal"];
    assert_eq!((&proposal["payments"], &proposal["needs_approval"]), (&2.into(), &true.into()));
    let action = proposal["action_id"].as_str().unwrap();
    let approved = desk.run("t_approver", &["approve", action, "--reason", "checked", "--confirm", "2"]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    let listed = desk.run("t_operator", &["reconcile", "list", "--all", "--output", "csv"]);
    assert_eq!((listed.code, listed.out.lines().count()), (Some(3), 5), "{listed:?}");
}

#[tokio::test]
async fn interrupted_import_goes_on_where_it_stopped() {
    let rig = Rig::start().await;
    let lines = dispatched(&rig, 5).await;
    let (path, until) = (file(&rig, "s.csv", &[&lines[..], &["X,,7,EUR".to_owned()]].concat()), now());
    // All lines are on record and nothing is compared; then half of them are gone, as if the run had ended before.
    let refused = compare(&rig, &path, &until, &["--breaks-max", "0"]);
    assert_eq!(refused.code, Some(65), "{refused:?}");
    rig.run(
        "alter table outbox.reconcile_lines disable trigger all; delete from outbox.reconcile_lines where line_no % 2 = 0; \
         alter table outbox.reconcile_lines enable always trigger history_is_never_changed",
    )
    .await;
    assert_eq!(rig.value::<i64>("select count(*) from outbox.reconcile_lines").await, 3);
    let ended = compare(&rig, &path, &until, &["--output", "json"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&report["matched"], &report["found"]), (&5.into(), &1.into()));
    let counts = "select (select count(*) from outbox.reconcile_lines) * 10 + (select count(*) from outbox.reconcile_statements)";
    assert_eq!(rig.value::<i64>(counts).await, 61);
}

#[tokio::test]
async fn gap_between_statements_is_named_and_ends_with_3_until_a_statement_fills_it() {
    let desk = Desk::with_rails().await;
    let path = desk.file("empty.csv", format!("{HEADER}\n"));
    let day = |from: &str, until: &str, more: &[&str]| {
        let fixed = ["reconcile", "--rail", "sepa", "--from", from, "--until", until, "--reason", "r"];
        desk.run("t_operator", &[&fixed[..], &["--statement", text(&path)], more].concat())
    };
    let days = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"];
    assert_eq!(day(days[0], days[1], &[]).code, Some(0));
    let gap = day(days[2], days[3], &[]);
    let named = "no statement covers 2026-01-02T00:00:00.000Z until 2026-01-03T00:00:00.000Z";
    assert_eq!(gap.code, Some(3), "{gap:?}");
    assert!(gap.err.contains(named) && gap.out.contains(named), "{gap:?}");
    let gap = day(days[2], days[3], &["--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&gap.out).unwrap();
    let gaps = serde_json::json!([{"from": "2026-01-02T00:00:00.000Z", "until": "2026-01-03T00:00:00.000Z"}]);
    assert_eq!(document["gaps"], gaps);
    let filled = day(days[1], days[2], &["--output", "json"]).json();
    assert_eq!(filled["gaps"], serde_json::json!([]));
    // A statement that was wrong leaves the gap again.
    let id = filled["statement_id"].as_str().unwrap();
    let void = ["reconcile", "void", id, "--reason", "of another account", "--confirm", "0", "--output", "json"];
    let void = desk.run("t_operator", &void);
    assert_eq!((&void.json()["statement_id"], &void.json()["reopened"]), (&id.into(), &0.into()));
    assert_eq!(day(days[2], days[3], &[]).code, Some(3));
    let future = day(days[3], "2100-01-01T00:00:00Z", &[]);
    assert_eq!((future.code, future.err.contains("the period is not over")), (Some(65), true), "{future:?}");
}

#[tokio::test]
async fn statement_proposes_nothing_of_another_rail_or_another_statement() {
    let desk = Desk::with_rails().await;
    let record = "{\"instruction_id\":\"i1\",\"payload\":\"x\",\"amount_minor\":100,\"currency\":\"EUR\"}\n";
    let input = desk.file("in.ndjson", record);
    let options = ["--participant", "p", "--rail", "sepa", "--content-type", "text/plain"];
    assert_eq!(desk.enqueue(text(&input), &options).code, Some(0));
    let doubt = "update outbox.payment_outbox_pending set first_sent_at = now(), in_doubt_since = now(), \
                 disposition = 'HELD', hold_reason = 'UNKNOWN'; select outbox.set_payment_rail('other', 'hold')";
    sqlx::raw_sql(doubt).execute(&mut desk.dba().await).await.unwrap();
    let sql = "select outbox_id::text from outbox.payment_outbox_pending";
    let id: String = sqlx::query_scalar(sql).fetch_one(&mut desk.dba().await).await.unwrap();
    let until = now();
    let propose = |name: &str, rail: &str, content: String, count: &str| {
        let path = desk.file(name, content);
        let words = ["reconcile", "--rail", rail, "--from", FROM, "--until", &until, "--reason", "r", "--propose"];
        let more = ["--statement", text(&path), "--confirm", count, "--output", "json"];
        let ended = desk.run("t_operator", &[&words[..], &more].concat());
        assert_eq!(ended.code, Some(3), "{ended:?}");
        serde_json::from_str::<serde_json::Value>(&ended.out).unwrap()
    };
    let line = format!("{HEADER}\n{id},A,100,EUR\n");
    let foreign = propose("foreign.csv", "other", line.clone(), "1");
    assert_eq!((&foreign["found"], &foreign["proposal"]), (&1.into(), &serde_json::Value::Null));
    let own = propose("own.csv", "sepa", line, "1");
    assert_eq!(own["proposal"]["payments"], 1);
    let later = propose("later.csv", "sepa", format!("{HEADER}\n,OTHER,7,EUR\n"), "1");
    assert_eq!((&later["open_breaks"], &later["proposal"]), (&2.into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn statement_is_voided_when_the_number_of_breaks_that_it_opens_again_is_confirmed() {
    let rig = Rig::start().await;
    let lines = dispatched(&rig, 3).await;
    let until = now();
    let mut changed = lines.clone();
    changed[1] = changed[1].replace(",1", ",9");
    assert_eq!(compare(&rig, &file(&rig, "changed.csv", &changed), &until, &[]).code, Some(3));
    let whole = compare(&rig, &file(&rig, "whole.csv", &lines), &until, &["--output", "json"]).json();
    assert_eq!((&whole["closed"], &whole["open_breaks"]), (&1.into(), &0.into()), "{whole}");
    let words = ["void", whole["statement_id"].as_str().unwrap(), "--reason", "of another account"];
    let dry = reconcile(&rig, &[&words[..], &["--dry-run"]].concat());
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert!(dry.out.contains("AMOUNT_DIFFERS") && dry.out.contains("1 breaks that it closed would be open"), "{dry:?}");
    let dry = reconcile(&rig, &[&words[..], &["--dry-run", "--output", "json"]].concat()).json();
    assert_eq!((&dry["reopened"], dry["breaks"].as_array().unwrap().len()), (&0.into(), 1));
    for (confirm, word) in [(&[][..], "--confirm 1"), (&["--confirm", "0"][..], "it is 1 breaks, not 0")] {
        let ended = reconcile(&rig, &[&words[..], confirm].concat());
        assert!(ended.code == Some(64) && ended.err.contains(word), "{ended:?}");
    }
    assert_eq!(reconcile(&rig, &["list"]).code, Some(0), "nothing was voided");
    let void = reconcile(&rig, &[&words[..], &["--confirm", "1"]].concat());
    assert_eq!(void.code, Some(0), "{void:?}");
    assert_eq!(reconcile(&rig, &["list"]).code, Some(3));
}
