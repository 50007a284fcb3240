//! What a daemon costs that has nothing to do: memory, and claims a second once its polls have decayed.
//! Counted by the server, over a time that its own log shows.

use std::fs;

use outbox_testkit::{PgServer, PgVersion, ServerSettings, wait_until};

use crate::rig::{LIMIT, RAILS, Rig};

/// Polls decay to the longest wait within the first two seconds or so.
const BEATS_UNTIL_IDLE: usize = 5;
/// Over how many heartbeats, a second apart, claims are counted.
const BEATS_COUNTED: usize = 8;

/// When each execution of `function` ended, in seconds, as the server logged it.
fn executions(server: &PgServer, function: &str) -> Vec<f64> {
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains(" execute ") && line.contains(function));
    lines.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_daemon_claims_at_most_twice_a_second_and_lane_and_keeps_less_than_12_mib_of_its_own() {
    let configuration = vec!["log_min_duration_statement = 0".to_owned(), "log_line_prefix = '%n '".to_owned()];
    let settings = ServerSettings { configuration, ..ServerSettings::default() };
    let rig = Rig::start_on(PgServer::start_with(PgVersion::from_environment().unwrap(), &settings).unwrap()).await;
    let server = rig.server.as_ref().unwrap();
    // It was busy before it was idle.
    for rail in RAILS {
        rig.enqueue(rail, 200).await;
    }
    let daemon = rig.daemon_with("a", rig.proxy.address(), &["dispatcher.poll_max=1s"]);
    rig.settled().await;
    let idle_from = executions(server, "dispatcher_heartbeat").len() + BEATS_UNTIL_IDLE;
    let idle_to = idle_from + BEATS_COUNTED;
    let waited = wait_until("heartbeats", LIMIT, async || executions(server, "dispatcher_heartbeat").len() > idle_to);
    waited.await.unwrap();
    let beats = executions(server, "dispatcher_heartbeat");
    let (from, to) = (beats[idle_from], beats[idle_to]);
    let claims = executions(server, "claim_outbox_batch").into_iter().filter(|at| (from..to).contains(at)).count();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.pid())).unwrap();
    // What it allocated. The pages of the program itself are those of a build for tests, which nobody runs.
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let own_kib: u64 = own.trim().trim_end_matches(" kB").parse().unwrap();
    let rate = f64::from(u32::try_from(claims).unwrap()) / (to - from) / f64::from(u32::try_from(RAILS.len()).unwrap());
    assert!(claims > 0 && rate <= 2.0, "{rate:.2} claims a second and lane");
    assert!(own_kib < 12 * 1024, "{own_kib} KiB of its own");
    rig.all_dispatched().await;
    daemon.stop().await;
}
