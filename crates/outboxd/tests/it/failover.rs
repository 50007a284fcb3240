//! A database that has lost what it committed: a standby that is promoted, a backup that is restored, a copy beside
//! its original, a disk snapshot that is put back. Real servers, real daemons: nothing that may have been sent is
//! sent blindly, and nothing is sent at all before two people have said what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use outbox_testkit::{PgServer, PgVersion, ServerSettings, TestDb, wait_until};
use serde_json::Value;

use crate::rig::{CONTRACT, Daemon, HOLD, LIMIT, RAILS, RESEND, Rig};
use crate::runbook::Day;

/// Payments of each rail.
const EACH: usize = 600;

fn version() -> PgVersion {
    PgVersion::from_environment().unwrap()
}

async fn rig_on(configuration: &[String]) -> Rig {
    let settings = ServerSettings { configuration: configuration.to_vec(), ..ServerSettings::default() };
    Rig::start_on(PgServer::start_with(version(), &settings).unwrap()).await
}

impl Rig {
    /// A copy of the rig's server as it is now, started as `settings` say.
    fn copy_of_the_server(&mut self, settings: &ServerSettings) -> PgServer {
        self.server.as_mut().unwrap().copy(version(), settings).unwrap()
    }

    /// From here on the tests' own questions go to the database on `server`, which takes the place of the first.
    fn moves_to(&mut self, server: PgServer) {
        self.db = TestDb::at(server.address(), self.db.name());
        self.server = Some(server);
    }

    /// A daemon on the database where the rig is now, with the memory of the one that was called `memory_of`.
    fn daemon_here(&self, name: &str, memory_of: &str, environment: &str) -> Daemon {
        let settings = [format!("dispatcher.environment={environment}"), format!("dispatcher.name={memory_of}")];
        self.daemon_with(name, self.db.address(), &settings)
    }

    fn requests(&self) -> u64 {
        RAILS.iter().map(|rail| self.sim(rail).stats().requests).sum()
    }

    /// Two people say that commits after `lost_from` may be missing; returns how many payments are doubtful.
    fn acknowledge(&self, lost_from: &str) -> i64 {
        let mut day = Day::number(5);
        let proposed = day.types(&self.db, self.dir.path(), &[("2026-01-31T08:00:00Z", lost_from)]).out;
        let action = proposed.split_whitespace().find(|word| word.len() == 36).unwrap();
        let said = day.types(&self.db, self.dir.path(), &[("ACTION", action)]).out;
        day.is_over();
        // "the epoch is on record; 7 payments are doubtful, …"
        said.split("; ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    /// The daemon claims nothing, is not ready and says why; the rails hear nothing of it.
    async fn refuses(&self, daemon: &Daemon, reason: &str) {
        self.refuses_again(daemon, reason).await;
        daemon.becomes_ready(false).await;
        assert_eq!(daemon.events("send.started"), Vec::<Value>::new());
    }

    /// The next claims are refused as well.
    async fn refuses_again(&self, daemon: &Daemon, reason: &str) {
        let (before, failed) = (self.requests(), daemon.events("claim.failed").len());
        let refused = async || daemon.events("claim.failed").len() >= failed + 4 || self.requests() > before;
        wait_until("refused claims of both lanes", LIMIT, refused).await.unwrap();
        assert_eq!(self.requests(), before, "sent from a database that may have forgotten");
        let refusals = &daemon.events("claim.failed")[failed..];
        assert!(refusals.iter().all(|event| event["error"].as_str().unwrap().contains(reason)), "{refusals:?}");
        self.nothing_was_paid_twice();
    }

    /// How many bytes of log the dispatcher of this name has seen, by its state file.
    fn seen_by(&self, name: &str) -> i64 {
        let file = std::fs::read(self.dir.path().join(format!("{name}.high-water.json")));
        file.map_or(0, |text| serde_json::from_slice::<Value>(&text).unwrap()["log_position"].as_i64().unwrap())
    }

    /// Waits until a claim is refused for that reason, or something is sent.
    async fn until_it_says(&self, daemon: &Daemon, reason: &str) {
        let (before, failed) = (self.requests(), daemon.events("claim.failed").len());
        let says = |event: &Value| event["error"].as_str().unwrap().contains(reason);
        let heard = async || daemon.events("claim.failed")[failed..].iter().any(says) || self.requests() > before;
        wait_until(reason, LIMIT, heard).await.unwrap();
    }

    async fn log_position(&self) -> i64 {
        self.value("select (pg_current_wal_flush_lsn() - '0/0')::bigint").await
    }

    /// Others write to the database, until its log is longer than it ever was for the dispatcher of this name.
    async fn log_grows_past(&self, name: &str) {
        self.run("create table if not exists public.others (bytes text)").await;
        while self.log_position().await <= self.seen_by(name) {
            self.run("insert into public.others select repeat(md5(n::text), 30) from generate_series(1, 5000) as n")
                .await;
        }
    }

    /// The keys that the rail executed and the database does not know as dispatched.
    async fn forgotten(&self, rail: &str) -> BTreeSet<String> {
        let known = format!(
            "select outbox_id::text from outbox.payment_outbox_attempts where rail = '{rail}' and state = 'DISPATCHED'"
        );
        let known = self.texts(&known).await;
        let executed: BTreeSet<String> = self.sim(rail).effects().unwrap().into_iter().map(|one| one.key).collect();
        executed.difference(&known).cloned().collect()
    }

    /// Whatever the database forgot: no payment was executed twice, and the rail that executes every request was asked
    /// for none of them twice.
    fn nothing_was_paid_twice(&self) {
        for rail in RAILS {
            let mut effects: BTreeMap<String, usize> = BTreeMap::new();
            for effect in self.sim(rail).effects().unwrap() {
                *effects.entry(effect.key).or_default() += 1;
            }
            let twice: Vec<_> = effects.iter().filter(|(_, count)| **count > 1).collect();
            assert!(twice.is_empty(), "{rail}: {twice:?}");
        }
    }

    async fn now(&self) -> String {
        self.value("select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").await
    }

    async fn enqueue_each(&self, count: usize) {
        for rail in RAILS {
            self.enqueue(rail, count).await;
        }
    }

    /// After the acknowledgement everything ends, or waits for a person with a reason.
    async fn goes_on(&self, daemon: &Daemon) {
        self.settled().await;
        daemon.becomes_ready(true).await;
        self.nothing_was_paid_twice();
        assert_eq!(self.held(RESEND).await, Vec::<String>::new());
        let held = self.held(HOLD).await;
        assert!(held.iter().all(|reason| reason.starts_with("UNKNOWN ")), "{held:?}");
        assert!(!held.is_empty(), "nothing was doubtful: the test shows nothing");
    }
}

/// Payments on both rails, half of them under way by a daemon with `settings`, when the standby loses three seconds and
/// becomes the primary, where the rig is afterwards. Returns from when on commits may be missing.
async fn promotion_that_loses_three_seconds(rig: &mut Rig, settings: &[&str]) -> String {
    let connection =
        format!("primary_conninfo = 'host={} port={} user=postgres'", rig.db.address().host(), rig.db.address().port());
    rig.enqueue_each(EACH).await;
    let standby = ServerSettings {
        configuration: vec![connection],
        signal_file: Some("standby.signal"),
        ..ServerSettings::default()
    };
    let standby = rig.copy_of_the_server(&standby);
    rig.until("replication", "select count(*) = 1 from pg_stat_replication where state = 'streaming'").await;
    // Slow rails, so that seconds are lost in the middle of the work.
    let slow = [&["rails.resend.concurrency=2", "rails.hold.concurrency=2"], settings].concat();
    for rail in RAILS {
        rig.sim(rail).set_profile(rail_sim::Profile::new([(rail_sim::Fault::Slow, 1000)])).unwrap();
    }
    let mut daemon = rig.daemon_with("a", rig.db.address(), &slow);
    daemon.logged("complete.applied", 20).await;
    rig.until(
        "a standby that is level",
        "select replay_lsn >= (select pg_current_wal_flush_lsn() - 1000000) from pg_stat_replication",
    )
    .await;
    // From here on nothing reaches the standby, and the primary knows nothing of it.
    let sender: i32 = rig.value("select pid from pg_stat_replication").await;
    assert!(Command::new("kill").args(["-STOP", &sender.to_string()]).status().unwrap().success());
    let lost_from = rig.now().await;
    rig.until("three seconds", &format!("select clock_timestamp() > timestamptz '{lost_from}' + interval '3 s'")).await;
    let sent = rig.requests();
    rig.server.as_mut().unwrap().stop_immediate().unwrap();
    daemon.kill();
    drop(daemon);
    rig.moves_to(standby);
    rig.run("select pg_promote(true, 60)").await;
    for rail in RAILS {
        let forgotten = rig.forgotten(rail).await.len();
        assert!(forgotten > 5, "{rail}: {forgotten} of {sent} sent are not known as dispatched: nothing was lost");
        rig.sim(rail).set_profile(rail_sim::Profile::default()).unwrap();
    }
    lost_from
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_that_lost_three_seconds_is_not_dispatched_before_two_people_said_so() {
    let mut rig = rig_on(&[]).await;
    let production = ["dispatcher.environment=production"];
    let lost_from = promotion_that_loses_three_seconds(&mut rig, &production).await;
    let heir = rig.daemon_with("heir", rig.db.address(), &production);
    rig.refuses(&heir, "what was sent may be missing here").await;
    assert!(rig.acknowledge(&lost_from) > 0);
    rig.goes_on(&heir).await;
    // Every payment that the rail executed and the database forgot is held, or dispatched with the same reference.
    let executed: Vec<String> = rig.hold.effects().unwrap().into_iter().map(|effect| effect.key).collect();
    let lost: i64 = rig
        .value(&format!(
            "select count(*) from unnest(array['{}']::uuid[]) as k (id) where not exists (select from \
             outbox.payment_outbox_pending p where p.outbox_id = k.id and p.disposition = 'HELD') and not exists (select from \
             outbox.payment_outbox_attempts a where a.outbox_id = k.id and a.state = 'DISPATCHED')",
            executed.join("','")
        ))
        .await;
    assert_eq!(lost, 0, "executed, and neither dispatched nor held");
    heir.stop().await;
}

/// The rail that executes every request answers inquiries: what the promotion lost is asked about, and sent only where
/// the rail does not know it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rail_that_answers_inquiries_is_asked_about_what_a_promotion_lost_and_nothing_is_held() {
    let mut rig = rig_on(&[]).await;
    rig.contract(HOLD, &format!("'inquire', p_not_found_is_final => true, {CONTRACT}")).await;
    let settings = [
        "dispatcher.environment=production",
        "rails.hold.inquiry.path=/payments/{key}",
        "rails.hold.inquiry.code_json_pointer=/status",
        "rails.hold.inquiry.codes=[{status=200,code=\"ACCEPTED\",means=\"accepted\"}]",
    ];
    let lost_from = promotion_that_loses_three_seconds(&mut rig, &settings).await;
    let forgotten = rig.forgotten(HOLD).await;
    let heir = rig.daemon_with("heir", rig.db.address(), &settings);
    rig.refuses(&heir, "what was sent may be missing here").await;
    let doubtful = rig.acknowledge(&lost_from);
    rig.settled().await;
    rig.nothing_was_paid_twice();
    for rail in RAILS {
        assert_eq!(rig.held(rail).await, Vec::<String>::new(), "{rail}");
        assert_eq!(rig.count(rail, "DISPATCHED").await, i64::try_from(EACH).unwrap(), "{rail}");
        assert_eq!(rig.sim(rail).effects().unwrap().len(), EACH, "{rail}");
    }
    assert!(doubtful > 0);
    // Those that were executed and forgotten ended by what the rail said when it was asked.
    let asked =
        "select outbox_id::text from outbox.payment_outbox_attempts where kind = 'INQUIRE' and state = 'DISPATCHED'";
    let asked = rig.texts(asked).await;
    assert!(forgotten.is_subset(&asked), "{:?}", forgotten.difference(&asked).collect::<Vec<_>>());
    heir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_restored_to_an_earlier_point_is_not_dispatched_before_two_people_said_so() {
    let archive = tempfile::tempdir().unwrap();
    let open = PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(archive.path(), open).unwrap();
    let archive = archive.path().display().to_string();
    let archiving = ["archive_mode = on".to_owned(), format!("archive_command = 'cp %p {archive}/%f'")];
    let mut rig = rig_on(&archiving).await;
    rig.enqueue_each(EACH).await;
    let daemon = rig.daemon_with("a", rig.db.address(), &["dispatcher.environment=production"]);
    rig.until("a first part", "select count(*) > 100 from outbox.payment_outbox_attempts").await;
    daemon.stop().await;
    // The base backup: to be rolled forward to a point after it, which is before the end.
    let recovery = ServerSettings {
        configuration: vec![
            format!("restore_command = 'cp {archive}/%f %p'"),
            "recovery_target_name = 'before_the_end'".to_owned(),
            "recovery_target_action = 'pause'".to_owned(),
        ],
        signal_file: Some("standby.signal"),
        ..ServerSettings::default()
    };
    let backup = rig.copy_of_the_server(&recovery);
    rig.run("select pg_create_restore_point('before_the_end')").await;
    let lost_from = rig.now().await;
    let before: i64 = rig.value("select count(*) from outbox.payment_outbox_attempts where state = 'DISPATCHED'").await;
    let daemon = rig.daemon_here("b", "a", "production");
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
    rig.run("select pg_switch_wal()").await;
    rig.until(
        "the log in the archive",
        "select last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 16777216) from pg_stat_archiver",
    )
    .await;
    rig.server.as_mut().unwrap().stop_fast().unwrap();
    rig.moves_to(backup);
    rig.until("the restore point", "select pg_get_wal_replay_pause_state() = 'paused'").await;
    rig.run("select pg_promote(true, 60)").await;
    let restored: i64 =
        rig.value("select count(*) from outbox.payment_outbox_attempts where state = 'DISPATCHED'").await;
    assert_eq!(restored, before, "it is not the database of the restore point");
    let heir = rig.daemon_here("heir", "heir", "production");
    rig.refuses(&heir, "what was sent may be missing here").await;
    assert!(rig.acknowledge(&lost_from) > 0);
    rig.goes_on(&heir).await;
    heir.stop().await;
}

/// The rig with some payments sent, and a copy of its server from then; what came after is only on the original.
async fn original_and_copy() -> (Rig, PgServer, String) {
    let mut rig = rig_on(&[]).await;
    rig.enqueue_each(EACH).await;
    let daemon = rig.daemon_with("a", rig.db.address(), &["dispatcher.environment=production"]);
    rig.until("a first part", "select count(*) > 100 from outbox.payment_outbox_attempts").await;
    daemon.stop().await;
    let copy = rig.copy_of_the_server(&ServerSettings::default());
    let lost_from = rig.now().await;
    let daemon = rig.daemon_here("b", "a", "production");
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
    (rig, copy, lost_from)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_beside_its_original_is_dispatched_neither_for_another_environment_nor_by_who_knows_the_original() {
    let (mut rig, copy, _) = original_and_copy().await;
    let original = std::mem::replace(&mut rig.db, TestDb::at(copy.address(), "postgres"));
    rig.db = TestDb::at(copy.address(), original.name());
    let tester = rig.daemon_here("tester", "tester", "test");
    rig.refuses(&tester, "of the environment 'production', the dispatcher of 'test'").await;
    tester.stop().await;
    let same = rig.daemon_here("same", "a", "production");
    rig.refuses(&same, "the database is older than it was").await;
    same.stop().await;
    // The original is none the worse.
    rig.db = original;
    rig.enqueue(RESEND, 3).await;
    let daemon = rig.daemon_here("next", "a", "production");
    rig.settled().await;
    rig.all_dispatched().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_snapshot_that_is_put_back_is_noticed_by_a_dispatcher_that_was_down_meanwhile() {
    let (mut rig, copy, lost_from) = original_and_copy().await;
    // The copy takes the place of the original: identifier and timeline are the same, and its clock goes on.
    rig.server.as_mut().unwrap().stop_fast().unwrap();
    rig.moves_to(copy);
    let daemon = rig.daemon_here("next", "a", "production");
    rig.refuses(&daemon, "the database is older than it was").await;
    assert!(daemon.ready().await.contains("claims of rail"), "{}", daemon.ready().await);
    assert!(rig.acknowledge(&lost_from) > 0);
    rig.goes_on(&daemon).await;
    daemon.stop().await;
    // And from then on it is the database, for whoever remembers the other as well.
    let again = rig.daemon_here("again", "a", "production");
    rig.enqueue(RESEND, 3).await;
    rig.settled().await;
    again.stop().await;
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, i64::try_from(EACH).unwrap() + 3);
}

const LACKS_HEARTBEATS: &str = "it has not the heartbeats that this dispatcher has seen";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_put_back_stays_refused_however_long_its_log_becomes() {
    let (mut rig, copy, lost_from) = original_and_copy().await;
    rig.server.as_mut().unwrap().stop_fast().unwrap();
    rig.moves_to(copy);
    let daemon = rig.daemon_here("next", "a", "production");
    rig.refuses(&daemon, "its log ends at").await;
    rig.log_grows_past("a").await;
    rig.until_it_says(&daemon, LACKS_HEARTBEATS).await;
    rig.refuses_again(&daemon, LACKS_HEARTBEATS).await;
    // Heartbeats, the last one too, do not give it back what it lacks.
    daemon.stop().await;
    let later = rig.daemon_here("later", "a", "production");
    rig.refuses(&later, LACKS_HEARTBEATS).await;
    assert!(rig.acknowledge(&lost_from) > 0);
    rig.goes_on(&later).await;
    later.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_was_down_while_the_log_caught_up_is_refused_at_its_start() {
    let (mut rig, copy, _) = original_and_copy().await;
    rig.server.as_mut().unwrap().stop_fast().unwrap();
    rig.moves_to(copy);
    rig.log_grows_past("a").await;
    let daemon = rig.daemon_here("next", "a", "production");
    rig.refuses(&daemon, LACKS_HEARTBEATS).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_since_the_last_heartbeat_is_refused_for_good_once_it_was_noticed() {
    let mut rig = rig_on(&[]).await;
    rig.enqueue_each(EACH).await;
    // One heartbeat, and no other.
    let rare = ["dispatcher.environment=production", "dispatcher.name=a", "dispatcher.heartbeat_interval=60s"];
    let pause = |on| format!("select outbox.set_outbox_pause(null, null, {on}, 'until there is a snapshot')");
    rig.run(&pause(true)).await;
    let mut daemon = rig.daemon_with("first", rig.db.address(), &rare);
    daemon.becomes_ready(true).await;
    let copy = rig.copy_of_the_server(&ServerSettings::default());
    rig.run(&pause(false)).await;
    rig.settled().await;
    let end = rig.log_position().await;
    wait_until("the state file", LIMIT, async || rig.seen_by("a") >= end).await.unwrap();
    daemon.kill();
    drop(daemon);
    rig.server.as_mut().unwrap().stop_fast().unwrap();
    rig.moves_to(copy);
    rig.run(&pause(false)).await;
    let heir = rig.daemon_with("heir", rig.db.address(), &rare);
    rig.refuses(&heir, "its log ends at").await;
    rig.log_grows_past("a").await;
    rig.until_it_says(&heir, LACKS_HEARTBEATS).await;
    rig.refuses_again(&heir, LACKS_HEARTBEATS).await;
    heir.stop().await;
    let later = rig.daemon_with("later", rig.db.address(), &rare);
    rig.refuses(&later, LACKS_HEARTBEATS).await;
    later.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_acknowledged_and_is_put_back_again_is_refused_again() {
    let (mut rig, copy, lost_from) = original_and_copy().await;
    rig.server.as_mut().unwrap().stop_fast().unwrap();
    rig.moves_to(copy);
    let daemon = rig.daemon_here("next", "a", "production");
    rig.refuses(&daemon, "the database is older than it was").await;
    assert!(rig.acknowledge(&lost_from) > 0);
    rig.goes_on(&daemon).await;
    daemon.stop().await;
    rig.enqueue_each(20).await;
    let copy = rig.copy_of_the_server(&ServerSettings::default());
    let daemon = rig.daemon_here("more", "a", "production");
    rig.settled().await;
    daemon.stop().await;
    rig.server.as_mut().unwrap().stop_fast().unwrap();
    rig.moves_to(copy);
    rig.log_grows_past("a").await;
    let daemon = rig.daemon_here("again", "a", "production");
    rig.refuses(&daemon, LACKS_HEARTBEATS).await;
    daemon.stop().await;
}
