//! The daemon is killed or stopped at a named point; another goes on. Each time: no payment is lost, the
//! rail that executes every request is asked at most once, and what was lost is found soon.

use rail_sim::Point;

use crate::rig::{HOLD, LEASE_MS, RAILS, RECOVERY_MS, RESEND, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn first() {
    let rig = Rig::start().await;
    for rail in RAILS {
        rig.enqueue(rail, 20).await;
    }
    let daemon = rig.daemon("a");
    daemon.logged("complete.applied", 40).await;
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.becomes_ready(true).await;
    daemon.stop().await;
}
