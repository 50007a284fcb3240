//! A database with the real schema, two rails that are files, a checker beside them, and the superuser's hand that
//! writes what no function would. It asserts nothing itself.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use outbox_checker::{Checker, Report, Settings, parse_rail};
use outbox_testkit::TestDb;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, postgres::PgConnection};

/// The rail that knows its keys, and the one that does not.
pub(crate) const RESEND: &str = "sepa";
pub(crate) const HOLD: &str = "legacy";

/// The hash of every payload here.
const SHA: &str = "ab";

/// What the checker said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Said {
    /// The checks that found something, sorted, each once.
    pub(crate) fn checks(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let named = text.lines().filter_map(|line| line.strip_prefix("FINDING ")?.split_once(':'));
        let mut checks: Vec<String> = named.map(|(check, _)| check.to_owned()).collect();
        checks.sort();
        checks.dedup();
        checks
    }
}

pub(crate) struct Rig {
    pub(crate) db: TestDb,
    pub(crate) sql: PgConnection,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) checker: Checker,
    pub(crate) said: Said,
    requests: u64,
    effects: HashMap<String, u64>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let db = TestDb::create().await.unwrap();
        let mut sql = db.connect_as("postgres").await.unwrap();
        for (rail, on_unknown) in [(RESEND, "resend"), (HOLD, "hold")] {
            let text = format!(
                "insert into outbox.payment_rails (rail, on_unknown, idempotency_window_ms, changed_at, changed_by)
                 values ('{rail}', '{on_unknown}', 86400000, clock_timestamp(), 'test')"
            );
            run(&mut sql, &text).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let said = Said::default();
        let checker = Checker::new(settings(&db, &dir), Box::new(said.clone())).unwrap();
        Self { db, sql, dir, checker, said, requests: 0, effects: HashMap::new() }
    }

    pub(crate) async fn run(&mut self, text: &str) {
        run(&mut self.sql, text).await;
    }

    /// Runs statements that history refuses, with its triggers off.
    pub(crate) async fn rewrite(&mut self, table: &str, text: &str) {
        let tables = format!(
            "select coalesce(t.relid, 'outbox.{table}'::regclass)::text from (select 1) as one
               left join pg_partition_tree('outbox.{table}') as t on true"
        );
        let tables = sqlx::query(AssertSqlSafe(tables)).fetch_all(&mut self.sql).await.unwrap();
        let names: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
        let mut all = "begin;".to_owned();
        for word in ["disable", "enable always"] {
            for name in &names {
                for trigger in ["history_is_never_changed", "history_is_never_truncated"] {
                    write!(all, "alter table {name} {word} trigger {trigger};").unwrap();
                }
            }
            if word == "disable" {
                write!(all, "{text};").unwrap();
            }
        }
        run(&mut self.sql, &(all + "commit")).await;
    }

    /// A payment that was recorded a minute ago and is due.
    pub(crate) async fn enqueue(&mut self, rail: &str) -> String {
        let text = format!(
            "with new as (select outbox.new_outbox_id() as id, clock_timestamp() - interval '1 minute' as at),
                  identity as (insert into outbox.payment_outbox_identities
                      select 'acme', n.id::text, 0, n.id::text, n.id, sha256('x') from new n),
                  instruction as (insert into outbox.payment_outbox_instructions (outbox_id, participant_id, instruction_id,
                          rail, payload, content_type, payload_sha256, enqueued_by, created_at)
                      select n.id, 'acme', n.id::text, '{rail}', 'x', 'text/plain', decode(repeat('{SHA}', 32), 'hex'), 'test', n.at from new n),
                  due as (insert into outbox.payment_outbox_pending (outbox_id, rail, participant_id, next_attempt_at, created_at)
                      select n.id, '{rail}', 'acme', n.at, n.at from new n)
             select id::text from new"
        );
        sqlx::query(AssertSqlSafe(text)).fetch_one(&mut self.sql).await.unwrap().get(0)
    }

    /// So many payments of a rail that is not judged, ended: more than a pass reads again in turn.
    pub(crate) async fn others(&mut self, count: usize) {
        let text = format!(
            "with new as materialized (select outbox.new_outbox_id() as id from generate_series(1, {count})),
                  identity as (insert into outbox.payment_outbox_identities
                      select 'acme', n.id::text, 0, n.id::text, n.id, sha256('x') from new n),
                  instruction as (insert into outbox.payment_outbox_instructions (outbox_id, participant_id, instruction_id,
                          rail, payload, content_type, payload_sha256, enqueued_by, created_at)
                      select n.id, 'acme', n.id::text, 'other', 'x', 'text/plain', sha256('x'), 'test', clock_timestamp() from new n)
             insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token,
                     claimed_at, completed_at, rail_reference)
             select n.id, 1, 'other', 'SUBMIT', 'DISPATCHED', 'ACCEPTED', 'd1/x', gen_random_uuid(), clock_timestamp(),
                    clock_timestamp(), 'R' from new n"
        );
        self.run(&text).await;
    }

    /// An attempt that began `ago_ms` ago and took `took_ms`, with the next number. The pending row counts it.
    pub(crate) async fn attempt(&mut self, id: &str, state: &str, outcome: &str, ago_ms: i64, took_ms: i64) {
        let reference = if state == "DISPATCHED" { format!("'R-{id}'") } else { "null".to_owned() };
        let outcome = if outcome.is_empty() { "null".to_owned() } else { format!("'{outcome}'") };
        let text = format!(
            "with said as (select clock_timestamp() - {ago_ms} * interval '1 ms' as claimed)
             insert into outbox.payment_outbox_attempts (outbox_id, attempt_no, rail, kind, state, outcome, worker_id, lease_token,
                     claimed_at, first_byte_at, completed_at, rail_reference)
             select '{id}', 1 + (select count(*) from outbox.payment_outbox_attempts where outbox_id = '{id}'),
                    (select rail from outbox.payment_outbox_instructions where outbox_id = '{id}'), 'SUBMIT', '{state}', {outcome},
                    'd1/x', gen_random_uuid(), s.claimed, s.claimed, s.claimed + {took_ms} * interval '1 ms', {reference}
               from said s;
             update outbox.payment_outbox_pending p set attempt_count = attempt_count + 1, first_sent_at = coalesce(first_sent_at, created_at),
                    in_doubt_since = case when '{state}' in ('IN_DOUBT', 'LEASE_EXPIRED') then created_at else in_doubt_since end
              where outbox_id = '{id}'"
        );
        self.run(&text).await;
    }

    /// The payment leaves the queue.
    pub(crate) async fn end(&mut self, id: &str) {
        self.run(&format!("delete from outbox.payment_outbox_pending where outbox_id = '{id}'")).await;
    }

    pub(crate) async fn hold(&mut self, id: &str, reason: &str) {
        let set = format!("disposition = 'HELD', hold_reason = '{reason}'");
        self.run(&format!("update outbox.payment_outbox_pending set {set} where outbox_id = '{id}'")).await;
    }

    /// A payment in perfect order: sent once, executed, told, dispatched.
    pub(crate) async fn dispatch(&mut self, rail: &str) -> String {
        let id = self.enqueue(rail).await;
        self.executed(rail, &id);
        self.answer(rail, &id, r#""delivery":"whole","status":201,"reference":"R","executed":true,"unknown":false"#);
        self.attempt(&id, "DISPATCHED", "ACCEPTED", 30_000, 500).await;
        self.end(&id).await;
        id
    }

    /// An effect in the rail's ledger, with the reference `R-` and the key.
    pub(crate) fn executed(&mut self, rail: &str, key: &str) {
        let seq = self.effects.entry(rail.to_owned()).or_insert(0);
        *seq += 1;
        let (request, at_us, sha) = (self.requests + 1, now_us(), SHA.repeat(32));
        let line = format!(
            r#"{{"seq":{seq},"at_us":{at_us},"request":{request},"key":"{key}","body_sha256":"{sha}","body_bytes":1,"reference":"R-{key}"}}"#
        );
        self.append(&format!("{rail}.ledger"), &line);
    }

    /// A line in the rail's log of answers, of a request of its own.
    pub(crate) fn answer(&mut self, rail: &str, key: &str, fields: &str) {
        self.requests += 1;
        let (request, at_us) = (self.requests, now_us() - 29_900_000);
        let line = format!(
            r#"{{"request":{request},"at_us":{at_us},"key":"{key}","fault":"none","code":null,"replayed":false,{fields}}}"#
        );
        self.append(&format!("{rail}.answers"), &line);
    }

    pub(crate) fn refuse(&mut self, rail: &str, key: &str) {
        self.answer(rail, key, r#""delivery":"whole","status":422,"reference":null,"executed":false,"unknown":false"#);
    }

    pub(crate) fn append(&self, file: &str, line: &str) {
        let file = OpenOptions::new().create(true).append(true).open(self.dir.path().join(file));
        writeln!(file.unwrap(), "{line}").unwrap();
    }

    pub(crate) async fn pass(&mut self) {
        self.checker.pass().await.unwrap();
    }

    pub(crate) async fn finish(&mut self) -> Report {
        self.checker.finish().await.unwrap()
    }

    /// What another checker finds, which sees all this for the first time.
    pub(crate) async fn seen_afresh(&mut self) -> (Report, Vec<String>) {
        let said = Said::default();
        let mut checker = Checker::new(settings(&self.db, &self.dir), Box::new(said.clone())).unwrap();
        let report = checker.finish().await.unwrap();
        (report, said.checks())
    }
}

fn settings(db: &TestDb, dir: &tempfile::TempDir) -> Settings {
    let rail = |name: &str, contract: &str, keys: &str| {
        let dir = dir.path().display();
        let text =
            format!("{name},contract={contract},keys={keys},ledger={dir}/{name}.ledger,answers={dir}/{name}.answers");
        parse_rail(&text).unwrap()
    };
    Settings {
        database: db.url("postgres"),
        rails: vec![rail(RESEND, "resend", "idempotent"), rail(HOLD, "hold", "every")],
        faults: dir.path().join("faults"),
        recovery_max_ms: None,
    }
}

async fn run(sql: &mut PgConnection, text: &str) {
    let done = sql.execute(sqlx::raw_sql(AssertSqlSafe(text.to_owned()))).await;
    assert!(done.is_ok(), "{text}: {done:?}");
}

pub(crate) fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}
