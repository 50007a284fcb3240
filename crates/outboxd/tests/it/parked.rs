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

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_after_a_pause_of_its_rail_is_not_leased_and_given_back_meanwhile() {
    for [pause, resume] in [
        [
            "select outbox.set_outbox_pause('resend', null, true, 'r')",
            "select outbox.set_outbox_pause('resend', null, false, 'r')",
        ],
        [
            "select outbox.set_payment_rail('resend', null, p_paused => true)",
            "select outbox.set_payment_rail('resend', null, p_paused => false)",
        ],
    ] {
        let rig = Rig::start().await;
        rig.run(pause).await;
        rig.enqueue(RESEND, 50).await;
        let daemon = rig.daemon("a");
        daemon.logged("lane.on", 2).await;
        rig.run(resume).await;
        rig.settled().await;
        rig.all_dispatched().await;
        assert_eq!(rig.count(RESEND, "RELEASED").await, 0, "{pause}");
        daemon.stop().await;
    }
}
