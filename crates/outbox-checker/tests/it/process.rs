//! The program itself: its last line, its report and its exit codes.

use std::{path::Path, process::Command, time::Duration};

use outbox_testkit::{ChildGuard, Signal, wait_until_blocking};

use crate::rig::{RESEND, Rig};

const LIMIT: Duration = Duration::from_secs(60);

fn start(rig: &Rig, database: &str) -> ChildGuard {
    let dir = rig.dir.path();
    let configure = |command: &mut Command| {
        command.args(["--database", database, "--interval-ms", "20", "--faults"]);
        command.arg(dir.join("faults")).arg("--report").arg(dir.join("report"));
        for (rail, terms) in [("sepa", "contract=resend,keys=idempotent"), ("legacy", "contract=hold,keys=every")] {
            let dir = dir.display();
            command
                .args(["--rail", &format!("{rail},{terms},ledger={dir}/{rail}.ledger,answers={dir}/{rail}.answers")]);
        }
    };
    ChildGuard::spawn(Path::new(env!("CARGO_BIN_EXE_outbox-checker")), &dir.join("log"), configure).unwrap()
}

/// Waits until the checker has made a pass: it holds a connection then.
async fn has_connected(rig: &mut Rig) {
    let mut sql = rig.db.connect_as("postgres").await.unwrap();
    let asked = "select count(*) from pg_stat_activity where application_name = 'outbox-checker' and datname = current_database()";
    outbox_testkit::wait_until("a connection of the checker", LIMIT, async || {
        sqlx::query_scalar::<_, i64>(asked).fetch_one(&mut sql).await.unwrap() == 1
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn without_a_finding_it_ends_with_0_and_says_what_it_counted() {
    let mut rig = Rig::new().await;
    rig.dispatch(RESEND).await;
    let mut checker = start(&rig, &rig.db.url("postgres"));
    has_connected(&mut rig).await;
    checker.signal(Signal::TERM).unwrap();
    assert_eq!(checker.wait_exit(LIMIT).unwrap().code(), Some(0), "{}", checker.log());
    let log = checker.log();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("CHECKED passes="), "{log}");
    let counted =
        " payments=1 effects=1 unknown=0 held=0 dispatched=1 failed=0 cancelled=0 pending=0 lost=0 double=0 findings=0";
    assert!(last.ends_with(counted), "{log}");
    let report = std::fs::read_to_string(rig.dir.path().join("report")).unwrap();
    for part in ["\"payments\": 1", "\"recovered_max_s\": null", "\"slowest_recoveries\": []"] {
        assert!(report.contains(part), "{part} {report}");
    }
}

#[tokio::test]
async fn a_finding_is_told_at_once_and_ends_it_with_1() {
    let mut rig = Rig::new().await;
    rig.dispatch(RESEND).await;
    let mut checker = start(&rig, &rig.db.url("postgres"));
    has_connected(&mut rig).await;
    let id = rig.enqueue(RESEND).await;
    rig.end(&id).await;
    let line = format!("FINDING lost_payment: {id}/sepa ");
    wait_until_blocking("the finding", LIMIT, || checker.log().contains(&line)).unwrap();
    checker.signal(Signal::INT).unwrap();
    assert_eq!(checker.wait_exit(LIMIT).unwrap().code(), Some(1));
    assert!(checker.log().lines().last().unwrap().ends_with("lost=1 double=0 findings=1"), "{}", checker.log());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_ends_it_with_2_and_the_reason() {
    let rig = Rig::new().await;
    rig.append("sepa.ledger", "no json");
    let mut checker = start(&rig, &rig.db.url("postgres"));
    assert_eq!(checker.wait_exit(LIMIT).unwrap().code(), Some(2));
    assert!(checker.log().contains("could not check: ") && checker.log().contains("sepa.ledger"), "{}", checker.log());
}
