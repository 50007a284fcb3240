//! `audit`: what a person sees, and how it ends.

use crate::commands_binary::{Desk, text};

#[tokio::test]
async fn lost_payment_is_named_and_the_exit_code_says_so() {
    let desk = Desk::with_rails().await;
    let line = "{\"instruction_id\":\"i\",\"payload\":\"x\",\"amount_minor\":100,\"currency\":\"EUR\"}\n";
    let input = desk.file("in.ndjson", line);
    let options = ["--participant", "p", "--rail", "sepa", "--content-type", "text/plain"];
    assert_eq!(desk.enqueue(text(&input), &options).code, Some(0));
    let first = desk.run("t_auditor", &["audit", "--output", "json"]).json();
    assert_eq!((&first["is_full"], &first["pending"], &first["breaches"]), (&true.into(), &1.into(), &0.into()));
    let sql = "delete from outbox.payment_outbox_pending returning outbox_id::text";
    let id: String = sqlx::query_scalar(sql).fetch_one(&mut desk.dba().await).await.unwrap();
    let ended = desk.run("t_auditor", &["audit"]);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.out.contains("changes since") && ended.out.contains("1 breaches"), "{ended:?}");
    assert!(ended.out.lines().any(|line| line.contains("LOST") && line.contains(&id)), "{ended:?}");
    assert_eq!(desk.run("t_operator", &["audit"]).code, Some(77));
}
