//! The five bad days of docs/RUNBOOK.md, tried: the commands that stand there are run as they stand there, and the
//! payments are in the states that it says.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use outbox_testkit::{TestDb, wait_until};
use rail_sim::{Fault, Point, Profile, Sim};
use sqlx::Row as _;

use crate::commands_binary::{Ended, OUTBOXD, end};
use crate::rig::{HOLD, LIMIT, RESEND, Rig};

const RUNBOOK: &str = include_str!("../../../../docs/RUNBOOK.md");

/// The commands of one day, in order.
pub(crate) struct Day {
    commands: Vec<String>,
    next: usize,
}

impl Day {
    pub(crate) fn number(number: usize) -> Self {
        let (_, rest) = RUNBOOK.split_once(&format!("\n## {number}. ")).unwrap();
        let section = rest.split("\n## ").next().unwrap();
        let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
        let commands = blocks.flat_map(str::lines).map(str::to_owned).collect();
        Self { commands, next: 0 }
    }

    /// Runs the next command, which must end as the runbook says. `named`: what stands in it, and what it is here.
    pub(crate) fn types(&mut self, db: &TestDb, dir: &std::path::Path, named: &[(&str, &str)]) -> Ended {
        let line = &self.commands[self.next];
        self.next += 1;
        let (typed, exits) = line.split_once("   # exits with ").unwrap_or((line, "0"));
        let (typed, file) = typed.split_once(" > ").map_or((typed, None), |(typed, file)| (typed, Some(file)));
        let login = match typed.strip_prefix("PGUSER=ops_anna outboxd ") {
            Some(_) => "t_operator",
            None => "t_approver",
        };
        let (_, words) = typed.split_once(" outboxd ").unwrap();
        let mut arguments: Vec<String> = Vec::new();
        for (place, part) in words.split('"').enumerate() {
            match place % 2 {
                0 => arguments.extend(part.split_whitespace().map(str::to_owned)),
                _ => arguments.push(part.to_owned()),
            }
        }
        let here = |word: String| match named.iter().find(|(name, _)| *name == word) {
            // Several in the place of one.
            Some((_, here)) => here.split_whitespace().map(str::to_owned).collect(),
            None => vec![word],
        };
        let arguments: Vec<String> = arguments.into_iter().flat_map(here).collect();
        let mut command = Command::new(OUTBOXD);
        command.args(&arguments).env_clear().env("DATABASE_URL", db.url(login)).current_dir(dir);
        let ended = end(&mut command, b"");
        assert_eq!(ended.code.map(|code| code.to_string()).as_deref(), Some(exits), "{line}\n{ended:?}");
        if let Some(file) = file {
            std::fs::write(dir.join(file), &ended.out).unwrap();
        }
        ended
    }

    pub(crate) fn is_over(&self) {
        assert_eq!(self.next, self.commands.len(), "not tried: {:?}", &self.commands[self.next..]);
    }
}

/// The rail of the runbook that may be asked again is the rig's `resend`, the one that may not is `hold`.
const RAILS: [(&str, &str); 2] = [("sepa", RESEND), ("wires", HOLD)];
impl Rig {
    fn types(&self, day: &mut Day, named: &[(&str, &str)]) -> Ended {
        // The period of a statement ends now, and what was sent just before is in it.
        let now = time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap();
        let until = format!("{now} --slack 0s");
        let period = [("2026-01-31T00:00:00Z", "2020-01-01T00:00:00Z"), ("2026-02-01T00:00:00Z", until.as_str())];
        day.types(&self.db, self.dir.path(), &[&RAILS[..], &period[..], named].concat())
    }

    async fn last_action(&self) -> String {
        self.value("select action_id::text from outbox.operator_actions order by proposed_at desc limit 1").await
    }

    /// The second person approves what was proposed last.
    async fn approves(&self, day: &mut Day) -> Ended {
        let action = self.last_action().await;
        self.types(day, &[("ACTION", &action)])
    }

    /// What the rail has executed, as its statement.
    fn statement(&self, sim: &Sim, file: &str, without: usize) {
        let lines = sim.effects().unwrap().into_iter().skip(without);
        let lines: Vec<String> = lines.map(|effect| format!("{},{},100,EUR\n", effect.key, effect.reference)).collect();
        let text = format!("wire_key,rail_reference,amount_minor,currency\n{}", lines.concat());
        std::fs::write(self.dir.path().join(file), text).unwrap();
    }

    /// Enqueues payments of 1.00 EUR.
    async fn enqueue_money(&self, rail: &str, series: &str, count: usize, not_after: &str) {
        let sql = format!(
            "select count(outbox_id) from generate_series(1, {count}) as n, lateral outbox.enqueue_payment_outbox_text('p', \
             '{series}' || n, '{series}' || n, '{rail}', 'x', 'text/plain', 100, 'EUR', null, {not_after})"
        );
        self.run(&sql).await;
    }

    async fn disposition(&self, rail: &str) -> Vec<String> {
        let sql = format!(
            "select concat_ws(' ', disposition, hold_reason, count(*)) from outbox.payment_outbox_pending where rail = '{rail}' \
             group by disposition, hold_reason order by 1"
        );
        self.rows(&sql).await.iter().map(|row| row.get(0)).collect()
    }
}

/// Payments due on the rail that is down, if the environment does not say: `OUTBOXD_TEST_BACKLOG`.
fn backlog() -> usize {
    std::env::var("OUTBOXD_TEST_BACKLOG").map_or(400, |text| text.parse().expect("OUTBOXD_TEST_BACKLOG is a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn day_1_a_rail_that_was_down_gets_everything_once_and_what_missed_its_time_waits_for_two_people() {
    let rig = Rig::start().await;
    let (mut day, due) = (Day::number(1), backlog());
    rig.resend.set_down(true).await.unwrap();
    for from in (0..due).step_by(1_000) {
        rig.enqueue(RESEND, 1_000.min(due - from)).await;
    }
    rig.enqueue_money(RESEND, "late-", 5, "clock_timestamp() + interval '2 s'").await;
    rig.enqueue_money(HOLD, "other-", 20, "null").await;
    let daemon = rig.daemon("a");
    daemon.logged("breaker.opened", 3).await;
    rig.until("the other rail", "select not exists (select from outbox.payment_outbox_pending where rail = 'hold')")
        .await;
    let seen = rig.types(&mut day, &[]);
    assert!(seen.out.lines().any(|line| line.trim().starts_with(RESEND)), "{seen:?}");
    rig.types(&mut day, &[]);
    rig.types(&mut day, &[]);
    assert_eq!(rig.resend.stats().requests, 0);
    let used = "select count(*) from outbox.payment_outbox_pending where send_count > 0 or first_sent_at is not null and lease_token is null";
    assert_eq!(rig.value::<i64>(used).await, 0, "a rail that is down uses up payments");
    rig.until("missed times", "select clock_timestamp() > max(not_after) from outbox.payment_outbox_pending").await;
    rig.resend.set_down(false).await.unwrap();
    let left = "select count(*) = 5 from outbox.payment_outbox_pending where rail = 'resend'";
    let limit = Duration::from_secs(60 + due as u64 / 100);
    wait_until("the end of the backlog", limit, async || rig.value::<bool>(left).await).await.unwrap();
    assert_eq!(rig.disposition(RESEND).await, ["HELD MISSED_WINDOW 5"]);
    let listed = rig.types(&mut day, &[]);
    assert_eq!(listed.out.matches("MISSED_WINDOW").count(), 5, "{listed:?}");
    rig.types(&mut day, &[]);
    rig.approves(&mut day).await;
    day.is_over();
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(rig.count(RESEND, "DISPATCHED").await, due as i64 + 5);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn day_2_what_a_dead_host_left_in_doubt_is_resolved_by_the_rails_books_and_sent_once() {
    let rig = Rig::start().await;
    let mut day = Day::number(2);
    let mut host = rig.daemon("host");
    rig.hold.set_profile(Profile::new([(Fault::ErrorBefore, 1000)])).unwrap();
    rig.enqueue_money(HOLD, "failed-", 2, "null").await;
    rig.until(
        "two answers that say nothing",
        "select count(*) = 2 from outbox.payment_outbox_pending where disposition = 'HELD'",
    )
    .await;
    rig.hold.set_profile(Profile::default()).unwrap();
    rig.hold.park(Point::AfterExecution);
    rig.enqueue_money(HOLD, "lost-", 6, "null").await;
    tokio::time::timeout(LIMIT, rig.hold.wait_for_parked(Point::AfterExecution, 6)).await.unwrap();
    host.kill();
    rig.hold.release();
    let other = rig.daemon("other");
    rig.settled().await;
    assert_eq!(rig.disposition(HOLD).await, ["HELD UNKNOWN 8"]);
    let listed = rig.types(&mut day, &[]);
    assert_eq!(listed.out.matches("UNKNOWN").count(), 8, "{listed:?}");
    rig.statement(&rig.hold, "wires.csv", 0);
    rig.types(&mut day, &[]);
    rig.approves(&mut day).await;
    assert_eq!(
        (rig.count(HOLD, "DISPATCHED").await, rig.disposition(HOLD).await),
        (6, vec!["HELD UNKNOWN 2".to_owned()])
    );
    rig.until("the quarantine", "select clock_timestamp() > max(quarantine_until) from outbox.payment_outbox_pending")
        .await;
    rig.types(&mut day, &[]);
    rig.approves(&mut day).await;
    day.is_over();
    rig.settled().await;
    rig.all_dispatched().await;
    assert_eq!(rig.hold.effects().unwrap().len(), 8);
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn day_3_what_is_left_of_a_wrong_batch_is_held_and_what_has_left_is_named() {
    let rig = Rig::start().await;
    let mut day = Day::number(3);
    // More than the database is asked for at once.
    let (count, on_the_wire) = ("1240", 4);
    rig.enqueue_money(HOLD, "wrong-", 1_240, "null").await;
    let person = |login: &str, words: &[&str]| {
        let mut command = Command::new(OUTBOXD);
        command.args(words).env_clear().env("DATABASE_URL", rig.db.url(login));
        let ended = end(&mut command, b"");
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    person("t_operator", &["hold", "--rail", HOLD, "--reason", "to be checked", "--confirm", count]);
    person("t_operator", &["release", "--rail", HOLD, "--state", "held", "--reason", "checked", "--confirm", count]);
    let released = rig.last_action().await;
    person("t_approver", &["approve", &released, "--reason", "agreed", "--confirm", count]);
    // Forty are due later than the others, so that four of them are on the wire when the rail is stopped.
    rig.run(
        "update outbox.payment_outbox_pending set next_attempt_at = '2999-01-01' where outbox_id in \
         (select outbox_id from outbox.payment_outbox_pending order by outbox_id desc limit 40)",
    )
    .await;
    let daemon = rig.daemon_with("a", rig.db.address(), &["rails.hold.concurrency=4"]);
    rig.until("what left before", "select count(*) = 40 from outbox.payment_outbox_pending").await;
    rig.hold.park(Point::BeforeExecution);
    rig.run("update outbox.payment_outbox_pending set next_attempt_at = now()").await;
    tokio::time::timeout(LIMIT, rig.hold.wait_for_parked(Point::BeforeExecution, on_the_wire)).await.unwrap();
    let named = [("ACTION", released.as_str()), ("40", count)];
    rig.types(&mut day, &named);
    rig.hold.release();
    rig.until("what was on the wire", "select count(*) = 36 from outbox.payment_outbox_pending").await;
    rig.types(&mut day, &named);
    assert_eq!(rig.disposition(HOLD).await, ["HELD REQUESTED 36"]);
    rig.types(&mut day, &named);
    rig.types(&mut day, &named);
    let recall = std::fs::read_to_string(rig.dir.path().join("recall.csv")).unwrap();
    let mut lines = recall.lines();
    let keys = lines.next().unwrap().split(',').position(|name| name == "wire_key").unwrap();
    let recalled: BTreeSet<&str> = lines.map(|line| line.split(',').nth(keys).unwrap()).collect();
    let executed = rig.hold.effects().unwrap();
    assert_eq!(recalled, executed.iter().map(|effect| effect.key.as_str()).collect());
    assert_eq!(recalled.len(), 1_204);
    rig.types(&mut day, &named);
    day.is_over();
    // The rail goes on with others, and with nothing of the batch.
    rig.enqueue_money(HOLD, "right-", 3, "null").await;
    rig.settled().await;
    rig.conserved().await;
    assert_eq!((rig.count(HOLD, "DISPATCHED").await, rig.count(HOLD, "CANCELLED").await), (1_207, 36));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn day_4_what_the_rail_denies_is_paid_anew_by_two_people_and_the_breaks_are_closed() {
    let rig = Rig::start().await;
    let mut day = Day::number(4);
    rig.enqueue_money(RESEND, "i", 30, "null").await;
    let daemon = rig.daemon("a");
    rig.settled().await;
    rig.statement(&rig.resend, "sepa.csv", 12);
    let found = rig.types(&mut day, &[]);
    assert_eq!(found.out.matches("MISSING_AT_RAIL").count(), 12, "{found:?}");
    rig.types(&mut day, &[]);
    rig.types(&mut day, &[]);
    rig.approves(&mut day).await;
    rig.settled().await;
    let anew = "select count(*) from outbox.payment_outbox_identities where generation = 1";
    assert_eq!((rig.value::<i64>(anew).await, rig.resend.effects().unwrap().len()), (12, 42));
    let breaks: String = rig.value("select string_agg(break_id::text, ' ') from outbox.reconcile_breaks").await;
    let action = rig.last_action().await;
    rig.types(&mut day, &[("ACTION", &action), ("BREAKS", &breaks)]);
    day.is_over();
    rig.all_dispatched().await;
    daemon.stop().await;
}
