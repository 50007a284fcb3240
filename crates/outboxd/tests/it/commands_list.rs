//! `list`: a list is whole, or says that it is not; what a recall needs is in it; and it says how old things are.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::commands_binary::{Desk, Ended};

/// More than a page of what the database is asked for at once.
const MANY: usize = 1_234;

/// A desk with `count` payments on `sepa`.
async fn desk_with(count: usize) -> Desk {
    let desk = Desk::with_rails().await;
    let sql = format!(
        "select count(outbox_id) from generate_series(1, {count}) as n, lateral outbox.enqueue_payment_outbox_text('p', \
         'i' || n, 'k' || n, 'sepa', 'x', 'text/plain', 100, 'EUR')"
    );
    run(&desk, &sql).await;
    desk
}

async fn run(desk: &Desk, sql: &str) {
    desk.dba().await.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
}

fn list(desk: &Desk, words: &[&str]) -> Ended {
    let ended = desk.run("t_operator", &[&["list"], words].concat());
    assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.err);
    ended
}

fn documents(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Does `words` and returns the action.
fn act(desk: &Desk, login: &str, words: &[&str]) -> String {
    let ended = desk.run(login, &[words, &["--reason", "r", "--output", "json"]].concat());
    ended.json()["action_id"].as_str().unwrap().to_owned()
}

/// The values of a column of CSV without quotes.
fn column(csv: &str, name: &str) -> Vec<String> {
    let mut lines = csv.lines();
    let place =
        lines.next().unwrap().split(',').position(|one| one == name).unwrap_or_else(|| panic!("no {name}: {csv}"));
    lines.map(|line| line.split(',').nth(place).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn payments_of_an_action_are_all_listed_page_by_page_unless_a_limit_is_given() {
    let desk = desk_with(MANY).await;
    let count = MANY.to_string();
    let action = act(&desk, "t_operator", &["hold", "--rail", "sepa", "--confirm", &count]);
    run(&desk, "update outbox.payment_outbox_pending set first_sent_at = now(), in_doubt_since = now()").await;
    let recall = list(&desk, &["--action", &action, "--sent", "--output", "csv"]);
    let all = column(&recall.out, "wire_key");
    assert_eq!((all.len(), recall.err.as_str()), (MANY, ""));
    assert_eq!(documents(&list(&desk, &["--action", &action, "--output", "json"])).len(), MANY);
    let table = list(&desk, &["--action", &action]);
    assert_eq!((table.out.matches("sepa").count(), table.err.as_str()), (MANY, ""));
    // A limit that all fit into cuts nothing, and says nothing.
    let fits = list(&desk, &["--action", &action, "--sent", "--limit", &count, "--output", "csv"]);
    assert_eq!((fits.out, fits.err.as_str()), (recall.out, ""));
    let cut = list(&desk, &["--action", &action, "--sent", "--limit", "1001", "--output", "csv"]);
    assert_eq!(column(&cut.out, "wire_key"), all[..1001]);
    assert!(cut.err.contains(&format!("--after {}", all[1000])), "{}", cut.err);
    let rest = list(&desk, &["--action", &action, "--sent", "--after", &all[1000], "--output", "csv"]);
    assert_eq!((column(&rest.out, "wire_key"), rest.err.as_str()), (all[1001..].to_vec(), ""));
}

#[tokio::test]
async fn list_that_a_limit_cuts_says_that_there_is_more_and_how_to_go_on() {
    let desk = desk_with(103).await;
    let all = column(&list(&desk, &["--limit", "103", "--output", "csv"]).out, "outbox_id");
    let after = format!("there are more: go on with --after {}", all[99]);
    for form in ["table", "csv"] {
        let cut = list(&desk, &["--output", form]);
        assert_eq!((cut.out.matches("sepa").count(), cut.err.trim_end()), (100, after.as_str()));
    }
    // Programs see it in the last of the documents, each of which is still a payment.
    let cut = list(&desk, &["--output", "json"]);
    let cut_documents = documents(&cut);
    assert_eq!(cut.err.trim_end(), after);
    let marked: Vec<&Value> = cut_documents.iter().filter(|one| one["more_follow"] == true).collect();
    assert_eq!((cut_documents.len(), marked), (100, vec![&cut_documents[99]]));
    assert_eq!(cut_documents[99]["outbox_id"], all[99]);
    let rest = list(&desk, &["--output", "json", "--after", &all[99]]);
    assert!(rest.err.is_empty() && documents(&rest).iter().all(|one| one["more_follow"].is_null()), "{rest:?}");
    assert_eq!(documents(&rest).len(), 3);
    for id in &all[..2] {
        act(&desk, "t_operator", &["hold", id, "--confirm", "1"]);
    }
    let actions = list(&desk, &["--actions", "--limit", "1"]);
    assert!(actions.err.contains("there are more: go on with a larger --limit"), "{actions:?}");
    assert_eq!(list(&desk, &["--actions", "--limit", "2"]).err, "");
}

#[tokio::test]
async fn recall_of_a_redrive_names_the_keys_that_the_rail_knows() {
    let desk = desk_with(1).await;
    let old = documents(&list(&desk, &["--output", "json"]))[0]["outbox_id"].as_str().unwrap().to_owned();
    act(&desk, "t_operator", &["hold", &old, "--confirm", "1"]);
    let failed = act(&desk, "t_operator", &["resolve", &old, "--as", "failed", "--evidence", "MAIL", "--confirm", "1"]);
    act(&desk, "t_approver", &["approve", &failed, "--confirm", "1"]);
    let redrive = act(&desk, "t_operator", &["redrive", &old, "--evidence", "MAIL", "--confirm", "1"]);
    act(&desk, "t_approver", &["approve", &redrive, "--confirm", "1"]);
    let new = documents(&list(&desk, &["--output", "json"]))[0]["outbox_id"].as_str().unwrap().to_owned();
    run(&desk, "update outbox.payment_outbox_pending set first_sent_at = now(), in_doubt_since = now()").await;
    let recall = list(&desk, &["--action", &redrive, "--sent", "--output", "csv"]);
    assert_eq!((column(&recall.out, "outbox_id"), column(&recall.out, "wire_key")), (vec![old], vec![new.clone()]));
    let table = list(&desk, &["--action", &redrive]).out;
    assert!(table.lines().next().unwrap().contains("wire_key") && table.contains(&new), "{table}");
    assert_eq!(documents(&list(&desk, &["--action", &redrive, "--output", "json"]))[0]["wire_key"], new);
}

#[tokio::test]
async fn list_says_how_long_a_payment_has_waited_or_been_in_doubt() {
    let desk = desk_with(2).await;
    let ids = column(&list(&desk, &["--output", "csv"]).out, "outbox_id");
    let action = act(&desk, "t_operator", &["hold", "--rail", "sepa", "--confirm", "2"]);
    let sql = format!(
        "alter table outbox.payment_outbox_instructions disable trigger all; \
         update outbox.payment_outbox_instructions set created_at = now() - interval '49 hours 10 minutes'; \
         update outbox.payment_outbox_pending set in_doubt_since = now() - interval '3 hours 5 minutes' where outbox_id = '{}'",
        ids[1]
    );
    run(&desk, &sql).await;
    for words in [&[][..], &["--action", &action]] {
        let table = list(&desk, words).out;
        let of = |id: &str| table.lines().find(|line| line.trim_start().starts_with(id)).unwrap().to_owned();
        assert!(table.lines().next().unwrap().contains("age"), "{table}");
        assert!(of(&ids[0]).contains("2d 1h") && of(&ids[1]).contains("3h 5m"), "{table}");
        let csv = list(&desk, &[words, &["--output", "csv"]].concat()).out;
        let year = |at: &String| at.starts_with("20") && at.contains('T');
        assert!(column(&csv, "enqueued_at").iter().all(year), "{csv}");
    }
}
