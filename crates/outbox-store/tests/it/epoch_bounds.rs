//! The edges of an epoch: a timeline that is another while the cluster is the same, what a worker of the lost database may still
//! send, and what was held before its time.

use sqlx::Row as _;
use time::OffsetDateTime;

use crate::sql::{refused, run, scalar};
use crate::world::World;

/// An hour before now, as far as the database knows what was sent.
fn an_hour_ago() -> OffsetDateTime {
    OffsetDateTime::now_utc() - time::Duration::hours(1)
}

#[tokio::test]
async fn promoted_standby_has_the_clusters_name_and_another_timeline_and_is_refused() {
    let mut world = World::new().await;
    world.enqueue("a", 1).await;
    world.beat(None).await;
    let text = "insert into outbox.outbox_cluster (system_identifier, timeline, environment, recorded_by, recorded_at) \
                select c.system_identifier, c.timeline + 1, c.environment, 'test', now() from outbox.outbox_cluster c";
    run(&mut world.dba, text).await;
    assert_eq!(world.try_claim(None).await.unwrap_err().refusal(), Some("OB011"));
    world.acknowledge(an_hour_ago(), 10).await;
    world.contract("on_unknown = 'resend'").await;
    assert_eq!(world.try_claim(None).await.unwrap(), 1);
}

#[tokio::test]
async fn what_the_lost_database_may_have_leased_may_be_on_its_way_for_a_lease_and_an_exchange() {
    let mut world = World::new().await;
    world.beat(None).await;
    let id = world.enqueue("a", 1).await[0];
    world.other_epoch("+ 1").await;
    world.acknowledge(an_hour_ago(), 10).await;
    let text = format!(
        "select quarantine_until = in_doubt_since + interval '150 s' from outbox.payment_outbox_pending where outbox_id = '{id}'"
    );
    assert!(
        scalar::<bool>(&mut world.dba, &text).await,
        "a lease (60 s), an exchange (30 s) and its processing (60 s)"
    );
}

#[tokio::test]
async fn payment_that_is_held_before_its_time_is_doubtful_after_a_failover() {
    let mut world = World::new().await;
    world.beat(None).await;
    let id = world.enqueue("a", 1).await[0];
    // A person held it; the commits that are missing may have let it go and sent it.
    world.tamper(id, "disposition = 'HELD', hold_reason = 'REQUESTED', next_attempt_at = '2999-01-01'").await;
    world.other_epoch("+ 1").await;
    world.acknowledge(an_hour_ago(), 10).await;
    assert!(world.pending(id).await.unwrap().get::<Option<OffsetDateTime>, _>("in_doubt_since").is_some());
}

#[tokio::test]
async fn epochs_are_history() {
    let mut world = World::new().await;
    world.beat(None).await;
    for text in [
        "update outbox.outbox_cluster set timeline = 7",
        "delete from outbox.outbox_cluster",
        "truncate outbox.outbox_cluster",
    ] {
        assert_eq!(refused(&mut world.dba, text).await.code, "OB009", "{text}");
    }
}
