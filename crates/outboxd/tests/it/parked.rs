//! Parked payments on the real daemon.

use crate::rig::{RESEND, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_resume_owes_comes_back_at_once_and_not_a_pass_an_interval() {
    let rig = Rig::start().await;
    // Three passes, and an interval in which nobody would wait for the second.
    rig.enqueue(RESEND, 2_500).await;
    rig.run(
        "update outbox.payment_outbox_pending set disposition = 'PARKED'; \
         insert into outbox.payment_outbox_unparking (rail, participant_id) values ('resend', 'p')",
    )
    .await;
    let daemon = rig.daemon_with("a", rig.proxy.address(), &["dispatcher.maintenance_interval=10m"]);
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}
