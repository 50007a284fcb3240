//! `reconcile` on a real statement: written from the rail's own ledger after a daemon has dispatched to it.

use std::path::PathBuf;
use std::process::Command;

use crate::commands_binary::{Desk, Ended, OUTBOXD, end, text};
use crate::rig::{RESEND, Rig};

const FROM: &str = "2020-01-01T00:00:00Z";
const UNTIL: &str = "2100-01-01T00:00:00Z";
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
    let mut command = Command::new(OUTBOXD);
    command.arg("reconcile").args(arguments).env_clear().env("DATABASE_URL", rig.db.url("t_operator"));
    end(&mut command, b"")
}

fn compare(rig: &Rig, file: &std::path::Path, more: &[&str]) -> Ended {
    let fixed = ["--statement", text(file), "--rail", RESEND, "--from", FROM, "--until", UNTIL, "--reason", "daily"];
    reconcile(rig, &[&fixed, more].concat())
}

#[tokio::test]
async fn statement_with_one_missing_one_extra_and_one_changed_amount_names_exactly_those() {
    let rig = Rig::start().await;
    let lines = dispatched(&rig, 50).await;
    let whole = compare(&rig, &file(&rig, "whole.csv", &lines), &["--output", "json"]).json();
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
    let ended = compare(&rig, &path, &["--output", "json"]);
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
    let ended = compare(&rig, &path, &["--output", "json"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let exactly =
        vec![format!("AMOUNT_DIFFERS {other}"), format!("MISSING_AT_RAIL {removed}"), format!("UNKNOWN_TO_US {extra}")];
    assert_eq!(found(&ended), (exactly, 48));
    // The corrected statement closes what it can; the extra line is a person's.
    let ended = compare(&rig, &file(&rig, "whole.csv", &lines), &[]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.out.contains("50 matched") && ended.out.contains("2 closed, 1 open"), "{ended:?}");
    let listed = reconcile(&rig, &["list", "--output", "json"]);
    assert_eq!((listed.code, listed.out.lines().count()), (Some(3), 1), "{listed:?}");
    let open: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let id = open["break_id"].as_str().unwrap();
    let asked = reconcile(&rig, &["resolve", id, "--reason", "returned by the bank"]);
    assert_eq!(asked.code, Some(64), "{asked:?}");
    let resolved = reconcile(&rig, &["resolve", id, "--reason", "returned by the bank", "--confirm", "1"]);
    assert_eq!(resolved.code, Some(0), "{resolved:?}");
    // The first statement again opens nothing that was closed since.
    let again = compare(&rig, &path, &["--output", "json"]);
    assert_eq!(found(&again), (vec![], 48));
    assert_eq!(again.code, Some(0), "{again:?}");
}

#[tokio::test]
async fn bad_line_is_named_and_nothing_is_recorded() {
    let desk = Desk::with_rails().await;
    let good = "k,R,1,EUR\n".repeat(20_000);
    let path = desk.file("bad.csv", format!("{HEADER}\n{good}k,R,x,EUR\n"));
    let words = ["reconcile", "--rail", "sepa", "--from", FROM, "--until", UNTIL, "--reason", "r"];
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
    // Lines alike are one break.
    let ended = desk.run("t_operator", &[&words[..], &["--statement", text(&path)]].concat());
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.out.contains("1 breaks found"), "{ended:?}");
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
    let words = ["reconcile", "--rail", "sepa", "--from", FROM, "--until", UNTIL, "--reason", "r", "--propose"];
    let words = [&words[..], &["--statement", text(&path)]].concat();
    let asked = desk.run("t_operator", &words);
    assert_eq!(asked.code, Some(64), "{asked:?}");
    assert!(asked.err.contains("RESOLVE_DISPATCHED: 2 payments"), "{asked:?}");
    let ended = desk.run("t_operator", &[&words[..], &["--confirm", "2", "--output", "json"]].concat());
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let proposal: serde_json::Value = serde_json::from_str(ended.out.lines().last().unwrap()).unwrap();
    assert_eq!((&proposal["payments"], &proposal["needs_approval"]), (&2.into(), &true.into()));
    let action = proposal["action_id"].as_str().unwrap();
    let approved = desk.run("t_approver", &["approve", action, "--reason", "checked", "--confirm", "2"]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    let listed = desk.run("t_operator", &["reconcile", "list", "--all", "--output", "csv"]);
    assert_eq!((listed.code, listed.out.lines().count()), (Some(3), 5), "{listed:?}");
}
