//! The database under the sequences: real logins, one rail for each sequence, and names for what it made up itself. Time passes by
//! moving every stored time of the sequence back; the guards of history are off here for that, since each row is compared anyway.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use outbox_testkit::{TestDb, wait_until};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::asking::Login;
use super::lines::{SPANS, in_order, plain, question};
use super::model::{SPAN_MS, State};
use super::tally::Tally;
use super::transition::{LeaseName, Op, Pay, Request, Transition};
use crate::conservation::assert_conserved;
use crate::sql::{run, scalar};

/// A token that nobody was granted.
pub(super) const FORGED: &str = "00000000-0000-4000-8000-00000000f0f0";
/// Longer than a call may take that waits for a transaction which is about to end.
const LIMIT: Duration = Duration::from_secs(60);
/// A call that waits though it should not is told so after this time. Whoever holds a lock then is idle, and ends nothing meanwhile.
const LOCK_TIMEOUT: &str = "set lock_timeout = '300ms'";

/// What may be written anew while time passes.
const UNGUARDED: [&str; 4] =
    ["payment_outbox_instructions", "payment_outbox_attempts", "payment_outbox_late_outcomes", "operator_actions"];

/// One database for many sequences.
pub(super) struct Bench {
    runtime: Rc<Runtime>,
    db: TestDb,
    dba: PgConnection,
    /// By login, and whether the session holds the open transaction of an overlap.
    sessions: BTreeMap<(Login, bool), PgConnection>,
    sequences: u64,
    /// A sequence ended in the midst of an overlap.
    is_torn: bool,
    tally: Tally,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

/// Makes the database of this thread's sequences, runs them, and asks at the end whether it is whole.
pub(super) fn with_bench(sequences: impl FnOnce()) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (db, dba) = runtime.block_on(async {
        let db = TestDb::create().await.unwrap();
        let mut dba = db.connect_as("postgres").await.unwrap();
        let both = "do $$ begin create role t_both login in role outbox_operator, outbox_approver; \
                    exception when duplicate_object or unique_violation then null; end $$";
        run(&mut dba, both).await;
        run(&mut dba, SPANS).await;
        for table in UNGUARDED {
            run(&mut dba, &format!("alter table outbox.{table} disable trigger user")).await;
        }
        (db, dba)
    });
    let bench = Bench {
        runtime: Rc::new(runtime),
        db,
        dba,
        sessions: BTreeMap::new(),
        sequences: 0,
        is_torn: true,
        tally: Tally::default(),
    };
    BENCH.with_borrow_mut(|place| *place = Some(bench));
    sequences();
    let bench = BENCH.with_borrow_mut(Option::take);
    let Bench { runtime, mut dba, db, sessions, tally, .. } = bench.expect("it was put there");
    runtime.block_on(assert_conserved(&mut dba));
    drop((sessions, dba, db));
    tally
}

fn on_bench<T>(act: impl AsyncFnOnce(&mut Bench) -> T) -> T {
    BENCH.with_borrow_mut(|place| {
        let bench = place.as_mut().expect("sequences run inside of with_bench");
        let runtime = Rc::clone(&bench.runtime);
        runtime.block_on(act(bench))
    })
}

/// The rows of one or more statements as text, or the SQLSTATE of a refusal.
async fn ask(session: &mut PgConnection, text: &str) -> Result<Vec<String>, String> {
    match sqlx::raw_sql(AssertSqlSafe(text.to_owned())).fetch_all(&mut *session).await {
        Ok(rows) => Ok(rows.iter().map(|row| row.get::<Option<String>, _>(0).unwrap_or_default()).collect()),
        Err(error) => {
            // The refusal is told before its locks are given back: another session must not be quicker.
            let _ = session.ping().await;
            let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
            Err(code.filter(|code| code.starts_with("OB")).unwrap_or_else(|| format!("{error}, of {text}")))
        }
    }
}

/// The clock when the sequence began, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start(i64);

impl Start {
    /// A time so many spans from then, as SQL.
    pub(super) fn at(self, spans: Option<i64>) -> String {
        let Some(spans) = spans else { return "null".to_owned() };
        let micros = self.0 + spans * i64::try_from(SPAN_MS).unwrap_or(i64::MAX) * 1_000;
        format!("timestamptz 'epoch' + {micros} * interval '1 microsecond'")
    }

    /// The smallest UUIDv7 of a time so many spans from then.
    pub(super) fn id_floor(self, spans: i64) -> Uuid {
        let millis = self.0 / 1_000 + spans * i64::try_from(SPAN_MS).unwrap_or(i64::MAX);
        Uuid::from_u128(u128::from(millis.unsigned_abs()) << 80)
    }
}

/// A proposal as its maker saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) hash: String,
    pub(super) count: String,
    pub(super) amounts: String,
}

/// One sequence: its rail, and what stands for what.
#[derive(Clone, Debug)]
pub(super) struct System {
    pub(super) rail: String,
    pub(super) start: Start,
    pub(super) ids: BTreeMap<Pay, String>,
    pub(super) tokens: BTreeMap<LeaseName, String>,
    pub(super) actions: BTreeMap<u8, Seen>,
    pub(super) requests: BTreeMap<u8, (Request, [String; 2])>,
    /// Microseconds, an id, the span in which that was, and how often it was noted.
    cursors: BTreeMap<u8, (String, String, i64, u32)>,
    pub(super) beats: [u32; 2],
    at: i64,
}

impl System {
    pub(super) fn begin(model: &State) -> Self {
        let contract = model.contract.clone();
        on_bench(async |bench| {
            if bench.is_torn {
                bench.open_sessions().await;
            }
            bench.sequences += 1;
            let rail = format!("r{}", bench.sequences);
            let clean = "delete from outbox.outbox_pauses; delete from outbox.outbox_dispatchers; \
                         delete from outbox.outbox_dispatcher_memories; delete from outbox.payment_rails; \
                         delete from outbox.payment_outbox_unparking";
            run(&mut bench.dba, clean).await;
            let set = format!(
                "select outbox.set_payment_rail('{rail}', '{}', {}, {}, {}, true, {}, {}, p_lease_duration_ms => {}, \
                 p_not_found_is_final => {}, p_max_inquiries => {})::text",
                contract.on_unknown.name(),
                contract.idempotency_window.map_or(0, |window| window.0),
                contract.rail_timeout.0,
                contract.processing_bound.0,
                contract.max_sends,
                contract.max_crashes,
                contract.lease_duration.0,
                contract.not_found_is_final,
                contract.max_inquiries
            );
            let maker = bench.sessions.get_mut(&(Login::Maker, false)).expect("all logins have one");
            assert_eq!(ask(maker, &set).await, Ok(vec!["true".to_owned()]));
            let start =
                scalar(&mut bench.dba, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint").await;
            Self {
                rail,
                start: Start(start),
                ids: BTreeMap::new(),
                tokens: BTreeMap::new(),
                actions: BTreeMap::new(),
                requests: BTreeMap::new(),
                cursors: BTreeMap::new(),
                beats: [0, 0],
                at: 0,
            }
        })
    }

    /// Takes a step and compares what was said with `model`, which has taken it.
    pub(super) fn step(mut self, model: &State, transition: &Transition) -> Self {
        match transition {
            Transition::Call(op) => {
                let told = on_bench(async |bench| self.call(bench, op).await);
                assert_eq!([told], model.told[..], "{op:?}");
            }
            Transition::Pass(spans) => self.pass(*spans),
            Transition::Overlap { first, second, commits } => self.overlap(model, first, second, *commits),
        }
        self.settle_order(model);
        let has_waited = model.meanwhile.is_none();
        on_bench(async |bench| bench.tally.note(transition, &model.told, has_waited));
        self
    }

    async fn call(&mut self, bench: &mut Bench, op: &Op) -> String {
        let text = self.statement(op);
        let session = bench.sessions.get_mut(&(Login::of(op), false)).expect("all logins have one");
        let told = ask(session, &text).await;
        self.understand(op, told)
    }

    fn overlap(&mut self, model: &State, first: &Op, second: &[Op], commits: bool) {
        on_bench(async |bench| {
            bench.is_torn = true;
            let before = self.clone();
            let text = format!("begin; {}", self.statement(first));
            let key = (Login::of(first), true);
            let mut holder = bench.sessions.remove(&key).expect("all logins have one");
            let told = ask(&mut holder, &text).await;
            let mut told = vec![self.understand(first, told)];
            let end = if commits { "commit" } else { "rollback" };
            let mut open = self.clone();
            if !commits {
                *self = before.clone();
            }
            if let Some(meanwhile) = &model.meanwhile {
                // Names of what is not committed are known to nobody, and nothing of it is seen.
                let mut others = before.clone();
                for op in second {
                    told.push(others.call(bench, op).await);
                }
                assert_eq!(told, model.told, "{first:?} stays open during {second:?}");
                assert_eq!(others.lines(bench).await, *meanwhile, "seen while {first:?} was open, after {second:?}");
                run(&mut holder, end).await;
                if commits {
                    open.take_in(&before, others);
                    *self = open;
                } else {
                    *self = others;
                }
            } else {
                let said = self.call_that_waits(bench, &second[0], &mut holder, end).await;
                told.push(said);
                assert_eq!(told, model.told, "{second:?} waits for {first:?}, which ends in {end}");
                self.settle_note(bench, model).await;
            }
            bench.sessions.insert(key, holder);
            bench.is_torn = false;
        });
    }

    /// Makes a call that has to wait for the transaction of `holder`, and ends that when it waits.
    async fn call_that_waits(&mut self, bench: &mut Bench, op: &Op, holder: &mut PgConnection, end: &str) -> String {
        let text = self.statement(op);
        let key = (Login::of(op), false);
        let mut session = bench.sessions.remove(&key).expect("all logins have one");
        run(&mut session, "set lock_timeout = 0").await;
        let pid: i32 = scalar(&mut session, "select pg_backend_pid()").await;
        let blocked = format!("select cardinality(pg_blocking_pids({pid})) > 0");
        let has_ended = Cell::new(false);
        let asking = async {
            let told = ask(&mut session, &text).await;
            has_ended.set(true);
            told
        };
        let waiting = async {
            let looks = async || has_ended.get() || scalar(&mut bench.dba, &blocked).await;
            let looked = wait_until("a call that has to wait", LIMIT, looks).await;
            let waits = looked.is_ok() && !has_ended.get();
            run(holder, end).await;
            waits
        };
        let (told, waits) = tokio::join!(asking, waiting);
        assert!(waits, "{op:?} did not wait: {told:?}");
        run(&mut session, LOCK_TIMEOUT).await;
        bench.sessions.insert(key, session);
        self.understand(op, told)
    }

    /// Whoever wakes at the end of another's transaction may be quicker than the server is with giving back the last of that
    /// one's locks: it finds the ordering key taken, and leaves a note. What that asks for is done here. A note that has
    /// another reason is in the model.
    async fn settle_note(&self, bench: &mut Bench, model: &State) {
        let is_noted = |lines: &[String]| lines.iter().any(|line| line.starts_with("owed "));
        if model.owed.is_empty() && is_noted(&self.lines(bench).await) {
            let unpark = format!("select count(*)::text from outbox.unpark_outbox_rows('{}', 10)", self.rail);
            ask(&mut bench.dba, &unpark).await.unwrap();
        }
    }

    /// Adds what another session came to know.
    fn take_in(&mut self, before: &Self, others: Self) {
        let is_new = |slot: &u8| {
            let pay = super::recording::first(*slot);
            others.ids.contains_key(&pay) && !before.ids.contains_key(&pay)
        };
        self.requests.extend(others.requests.into_iter().filter(|(slot, _)| is_new(slot)));
        self.ids.extend(others.ids);
        self.tokens.extend(others.tokens);
        self.actions.extend(others.actions);
        for (worker, cursor) in others.cursors {
            if before.cursors.get(&worker) != Some(&cursor) {
                self.cursors.insert(worker, cursor);
            }
        }
        self.beats = [0, 1].map(|n| self.beats[n].max(others.beats[n]));
    }

    /// The cursor of a worker's last claim, as SQL.
    pub(super) fn cursor(&self, worker: u8) -> String {
        let Some((micros, id, at, _)) = self.cursors.get(&worker) else { return "null, null".to_owned() };
        let passed = (self.at - at) * i64::try_from(SPAN_MS).unwrap_or(i64::MAX) * 1_000;
        format!("timestamptz 'epoch' + ({micros} - {passed}) * interval '1 microsecond', '{id}'")
    }

    /// Learns the names of what the answer brings, and puts the answer in those names.
    fn understand(&mut self, op: &Op, told: Result<Vec<String>, String>) -> String {
        let lines = match told {
            Ok(lines) => lines,
            Err(code) => return code,
        };
        let mut answer = Vec::new();
        for (place, line) in lines.iter().enumerate() {
            let mut parts = line.split('~');
            let shown = parts.next().unwrap_or_default();
            let hidden: Vec<&str> = parts.collect();
            self.learn(op, place, shown, &hidden);
            answer.push(plain(shown));
        }
        let mut answer: Vec<String> = answer.iter().map(|line| self.named(line)).collect();
        if !matches!(op, Op::Renew { .. } | Op::Complete { .. } | Op::Release { .. }) {
            answer.sort();
        }
        answer.join("; ")
    }

    fn learn(&mut self, op: &Op, place: usize, shown: &str, hidden: &[&str]) {
        let words: Vec<&str> = shown.split(' ').collect();
        match op {
            Op::Enqueue { items, .. } => {
                let pay = super::recording::first(items[place].slot);
                self.ids.entry(pay).or_insert_with(|| words[0].to_owned());
            }
            Op::Claim { worker, .. } if words[0] == "SUMMARY" => {
                if let [micros, id] = hidden
                    && !id.is_empty()
                {
                    let micros = micros.split('.').next().unwrap_or_default().to_owned();
                    let noted = self.cursors.get(worker).map_or(0, |(.., noted)| *noted);
                    self.cursors.insert(*worker, (micros, (*id).to_owned(), self.at, noted + 1));
                }
            }
            Op::Claim { .. } if words[0] != "HELD" => {
                let pay_and_number = self.named(words[1]);
                let known =
                    self.ids.keys().find_map(|pay| Some((*pay, pay_and_number.strip_prefix(&format!("{pay}#"))?)));
                if let Some((pay, number)) = known {
                    let name = LeaseName { pay, attempt_no: number.parse().unwrap() };
                    self.tokens.insert(name, words[2].to_owned());
                }
            }
            Op::Heartbeat { worker, .. } if words[0] == "beat" => self.beats[usize::from(*worker)] += 1,
            Op::Propose { action, .. } => {
                if let [id, hash, count, amounts] =
                    hidden.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().as_slice()
                {
                    let (id, hash, count, amounts) = (id.clone(), hash.clone(), count.clone(), amounts.clone());
                    self.actions.insert(*action, Seen { id, hash, count, amounts });
                }
            }
            Op::Apply { .. } if words.len() == 3 && words[1] == "APPLIED" => {
                let old = self.ids.iter().find(|(_, id)| *id == words[0]).map(|(pay, _)| *pay);
                if let Some(old) = old {
                    self.ids.insert(Pay { generation: old.generation + 1, ..old }, words[2].to_owned());
                }
            }
            _ => {}
        }
    }

    /// A line with names in the place of ids and tokens.
    fn named(&self, line: &str) -> String {
        let ids = self.ids.iter().map(|(pay, id)| (id.as_str(), pay.to_string()));
        let tokens = self.tokens.iter().map(|(name, token)| (token.as_str(), format!("t:{name}")));
        let actions = self.actions.iter().map(|(name, seen)| (seen.id.as_str(), format!("a{name}")));
        let all = ids.chain(tokens).chain(actions).chain([(FORGED, "t:forged".to_owned())]);
        all.fold(line.to_owned(), |line, (id, name)| line.replace(id, &name))
    }

    async fn lines(&self, bench: &mut Bench) -> Vec<String> {
        let actions: Vec<String> = self.actions.values().map(|seen| format!("'{}'", seen.id)).collect();
        let rows = ask(&mut bench.dba, &question(&self.rail, self.start, &actions)).await.unwrap();
        let mut lines: Vec<String> = rows.iter().map(|row| in_order(&self.named(row))).collect();
        lines.sort();
        lines
    }

    pub(super) fn compare(&self, model: &State) {
        let lines = on_bench(async |bench| self.lines(bench).await);
        assert_eq!(lines, model.lines(), "the database, and what it has to hold");
    }

    /// Moves every stored time back.
    fn pass(&mut self, spans: i64) {
        self.at += spans;
        let back = |columns: &[&str]| {
            let moved = columns.iter().map(|column| format!("{column} = {column} - {spans} * interval '300 s'"));
            moved.collect::<Vec<_>>().join(", ")
        };
        let quoted = |ids: Vec<&String>| {
            let ids: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
            if ids.is_empty() { "null".to_owned() } else { ids.join(", ") }
        };
        let rail = &self.rail;
        let ids = quoted(self.ids.values().collect());
        let actions = quoted(self.actions.values().map(|seen| &seen.id).collect());
        let pending = [
            "first_sent_at",
            "in_doubt_since",
            "quarantine_until",
            "next_attempt_at",
            "not_after",
            "created_at",
            "claimed_at",
            "lease_expires_at",
        ];
        let text = format!(
            "update outbox.payment_outbox_pending set {} where rail = '{rail}'; \
             update outbox.payment_outbox_attempts set {} where outbox_id in ({ids}); \
             update outbox.payment_outbox_late_outcomes set {} where outbox_id in ({ids}); \
             update outbox.payment_outbox_instructions set {} where outbox_id in ({ids}); \
             update outbox.operator_actions set {} where action_id in ({actions}); \
             update outbox.outbox_dispatchers set {}",
            back(&pending),
            back(&["claimed_at", "completed_at"]),
            back(&["recorded_at"]),
            back(&["not_before", "not_after", "created_at"]),
            back(&["proposed_at"]),
            back(&["heartbeat_at"]),
        );
        on_bench(async |bench| run(&mut bench.dba, &text).await);
    }

    /// Lets the moment be over for which a payment was put off, and gives those one time that were brought back in no order.
    fn settle_order(&self, model: &State) {
        let list = |pays: &std::collections::BTreeSet<Pay>| {
            pays.iter().map(|pay| format!("'{}'", self.ids[pay])).collect::<Vec<_>>().join(", ")
        };
        let mut text = String::new();
        if !model.put_off.is_empty() {
            let of = list(&model.put_off);
            text.push_str(
                "update outbox.payment_outbox_pending set next_attempt_at = next_attempt_at - interval '100 ms' ",
            );
            text.push_str(&format!("where outbox_id in ({of});"));
        }
        if model.together.len() > 1 {
            let of = list(&model.together);
            text.push_str(&format!(
                "update outbox.payment_outbox_pending set next_attempt_at = \
                 (select max(next_attempt_at) from outbox.payment_outbox_pending where outbox_id in ({of})) where outbox_id in ({of});"
            ));
        }
        if !text.is_empty() {
            on_bench(async |bench| run(&mut bench.dba, &text).await);
        }
    }
}

impl Bench {
    async fn open_sessions(&mut self) {
        self.sessions.clear();
        for login in Login::ALL {
            for holds in [false, true] {
                let mut session = self.db.connect_as(login.name()).await.unwrap();
                run(&mut session, LOCK_TIMEOUT).await;
                self.sessions.insert((login, holds), session);
            }
        }
        self.is_torn = false;
    }
}

/// The id in text is that of a `Uuid`: a name that is no id would be found in other words.
#[test]
fn forged_token_is_an_id() {
    assert!(FORGED.parse::<Uuid>().is_ok());
}
