//! A queue of notifications that is full: nothing about it keeps a payment from being recorded for long. Its size can be set
//! from PostgreSQL 17 on; before, it takes 8 GB to fill it.

use outbox_testkit::{PgServer, PgVersion, ServerSettings, wait_until};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::rig::{HOLD, LIMIT, RESEND, Rig};
use crate::wakeup::locks_are;

/// The least that Postgres takes, 512 kB, and what fills it in a few commits.
const SMALL: &str = "max_notify_queue_pages = 64";
const FILL: &str = "select pg_notify('elsewhere', n || repeat('x', 7000)) from generate_series(1, 30) as n";

/// Fills the queue behind a session that does not read what it asked for; returns that session.
async fn fill(rig: &Rig) -> PgConnection {
    let mut deaf = rig.dba().await;
    for statement in ["listen elsewhere", "begin", "select 1"] {
        deaf.execute(statement).await.unwrap();
    }
    let mut loud = rig.dba().await;
    for _ in 0..20 {
        if let Err(error) = loud.execute(FILL).await {
            assert!(error.to_string().contains("too many notifications"), "{error}");
            return deaf;
        }
    }
    panic!("the queue is not full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_notifications_keeps_no_payment_from_being_recorded_and_is_emptied() {
    let version = PgVersion::from_environment().unwrap();
    if version.major() < 17 {
        return;
    }
    let settings = ServerSettings { configuration: vec![SMALL.to_owned()], ..ServerSettings::default() };
    let rig = Rig::start_on(PgServer::start_with(version, &settings).unwrap()).await;
    let daemon = rig.daemon("a");
    rig.until("lanes asleep", &locks_are(&[HOLD, RESEND])).await;
    let deaf = fill(&rig).await;
    assert_eq!(daemon.logged("listener.queue", 1).await["sleeping"], false);
    rig.until("lanes awake", &locks_are(&[])).await;
    // It is full still, and nobody is hinted at.
    rig.enqueue(RESEND, 3).await;
    rig.settled().await;
    rig.all_dispatched().await;
    deaf.close().await.unwrap();
    assert_eq!(daemon.logged("listener.queue", 2).await["sleeping"], true);
    rig.until("lanes asleep again", &locks_are(&[HOLD, RESEND])).await;
    let mut session = rig.dba().await;
    wait_until("a notification", LIMIT, async || session.execute("notify elsewhere").await.is_ok()).await.unwrap();
    rig.enqueue(RESEND, 3).await;
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}
