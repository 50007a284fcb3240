//! Several endpoints of one rail on the real daemon: what goes to the second, and what never does.

use std::collections::BTreeSet;

use rail_sim::{Fault, Profile, Sim, SimConfig};

use crate::rig::{Daemon, RESEND, Rig};

/// The second site of the rail `resend`, which knows nothing of the keys that the first has seen.
async fn second_site(rig: &Rig) -> Sim {
    let dir = rig.dir.path().join("second");
    std::fs::create_dir(&dir).unwrap();
    rig.contract(RESEND, "p_fallback => true").await;
    Sim::start(SimConfig::in_dir(&dir)).await.unwrap()
}

/// A daemon that has both sites; the first one's breaker opens after three failures, for `open`.
fn daemon(rig: &Rig, second: &Sim, open: &str) -> Daemon {
    let settings = [
        format!("rails.{RESEND}.fallback_urls=[\"{}/payments\"]", second.url()),
        format!("rails.{RESEND}.breaker.failures=3"),
        format!("rails.{RESEND}.breaker.open_min={open}"),
        format!("rails.{RESEND}.breaker.open_max={open}"),
    ];
    rig.daemon_with("a", rig.proxy.address(), &settings)
}

fn keys(sim: &Sim) -> BTreeSet<String> {
    sim.received().unwrap().into_iter().map(|received| received.key.unwrap()).collect()
}

fn executed(sim: &Sim) -> Vec<String> {
    sim.effects().unwrap().into_iter().map(|effect| effect.key).collect()
}

/// The payments with an attempt that ended so, at this site.
async fn with_attempt(rig: &Rig, site: &Sim, condition: &str) -> BTreeSet<String> {
    let sql = format!(
        "select distinct outbox_id::text from outbox.payment_outbox_attempts where endpoint like '{}%' and {condition}",
        site.url()
    );
    rig.rows(&sql).await.iter().map(|row| sqlx::Row::get(row, 0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_endpoint_has_certainly_not_executed_goes_to_the_second() {
    let rig = Rig::start().await;
    let second = second_site(&rig).await;
    rig.resend.set_down(true).await.unwrap();
    rig.enqueue(RESEND, 40).await;
    let daemon = daemon(&rig, &second, "10m");
    rig.settled().await;
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, 40);
    assert_eq!((executed(&second).len(), keys(&second).len(), rig.resend.stats().requests), (40, 40, 0));
    let opened = daemon.logged("breaker.opened", 1).await;
    assert_eq!((&opened["rail"], &opened["endpoint"]), (&RESEND.into(), &rig.resend.url().into()));
    assert!(daemon.ready().await.contains(&format!("rail {RESEND} at {}", rig.resend.url())));
    let page = daemon.get("/metrics").await;
    for told in ["outboxd_endpoints{rail=\"resend\"} 2\n", "outboxd_breaker_open{rail=\"resend\"} 1\n"] {
        assert!(page.contains(told), "{told} is not on {page}");
    }
    assert_eq!(with_attempt(&rig, &second, "state = 'DISPATCHED'").await.len(), 40);
    assert!(with_attempt(&rig, &rig.resend, "outcome = 'NOT_SENT'").await.len() >= 3);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_in_doubt_at_the_first_endpoint_is_never_sent_to_the_second() {
    let rig = Rig::start().await;
    let second = second_site(&rig).await;
    rig.resend.set_profile(Profile::new([(Fault::ErrorAfter, 1000)])).unwrap();
    rig.enqueue(RESEND, 40).await;
    let daemon = daemon(&rig, &second, "3s");
    daemon.logged("breaker.opened", 1).await;
    // They come up again while their endpoint is left alone, and are sent nowhere.
    daemon.logged("send.withheld", 1).await;
    rig.resend.set_profile(Profile::default()).unwrap();
    rig.settled().await;
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, 40);
    let (first, second_keys) = (keys(&rig.resend), keys(&second));
    let doubtful = with_attempt(&rig, &rig.resend, "state = 'IN_DOUBT'").await;
    assert!(doubtful.len() >= 3 && !second_keys.is_empty());
    assert!(doubtful.is_disjoint(&second_keys), "sent to the second after an unknown");
    assert!(first.is_disjoint(&second_keys));
    assert_eq!(executed(&rig.resend).len() + executed(&second).len(), 40);
    let withheld = with_attempt(&rig, &rig.resend, "error_class = 'endpoint_open'").await;
    assert!(!withheld.is_empty() && withheld.is_subset(&doubtful));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_in_doubt_at_an_endpoint_that_is_gone_waits_until_it_is_back() {
    let rig = Rig::start().await;
    let second = second_site(&rig).await;
    rig.resend.set_profile(Profile::new([(Fault::ErrorAfter, 1000)])).unwrap();
    let id = rig.enqueue(RESEND, 1).await[0];
    let daemon = rig.daemon("a");
    rig.until("a doubt", "select count(*) > 0 from outbox.payment_outbox_attempts where state = 'IN_DOUBT'").await;
    daemon.stop().await;
    let moved = [format!("rails.{RESEND}.url={}/payments", second.url())];
    let elsewhere = rig.daemon_with("b", rig.proxy.address(), &moved);
    let withheld = elsewhere.logged("send.withheld", 2).await;
    assert_eq!(
        (&withheld["class"], &withheld["outbox_id"], &withheld["endpoint"], &withheld["level"]),
        (&"endpoint_not_configured".into(), &id.to_string().into(), &rig.resend.url().into(), &"WARN".into())
    );
    elsewhere.stop().await;
    assert_eq!(second.stats().requests, 0);
    rig.resend.set_profile(Profile::default()).unwrap();
    let back = rig.daemon("c");
    rig.settled().await;
    rig.all_dispatched().await;
    back.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_urls_that_the_contract_does_not_allow_keep_the_lane_off() {
    let rig = Rig::start().await;
    let second = second_site(&rig).await;
    rig.contract(RESEND, "p_fallback => false").await;
    rig.enqueue(RESEND, 3).await;
    let daemon = daemon(&rig, &second, "10m");
    let off = daemon.logged("lane.off", 1).await;
    assert!(off["reason"].as_str().unwrap().contains("the contract says fallback = false"), "{off}");
    rig.contract(RESEND, "p_fallback => true").await;
    rig.settled().await;
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, 3);
    daemon.stop().await;
}
