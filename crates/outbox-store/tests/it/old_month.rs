//! A world whose payments were enqueued and ended in the month before this one, and the steps that detach it.

use std::time::Duration;

use outbox_core::{Millis, OutboxId, Outcome};
use outbox_store::{
    AuditScope, ConnectSettings, Detaching, MonthToDetach, PartitionStep, StoreError, audit, read_partitions,
};
use outbox_testkit::workspace_root;
use serde_json::Value;
use time::Date;

use crate::sql::{run, scalar};
use crate::world::{World, completion, lease};

/// A day in milliseconds.
pub(crate) const DAY: i64 = 86_400_000;

/// Ids of the fourth day of last month: what is enqueued from now on is of that month.
const LAST_MONTH: &str = "create or replace function outbox.outbox_id_at(p_tick bigint) returns uuid language sql volatile as $$
    select (left(outbox.outbox_id_floor(date_trunc('month', clock_timestamp(), 'UTC') - interval '1 month' + interval '3 days')::text, 18)
            || right(gen_random_uuid()::text, 18))::uuid $$";

/// What the old month is called.
pub(crate) struct OldMonth {
    pub(crate) world: World,
    pub(crate) month: Date,
    /// `payment_outbox_instructions_y2026m01` and the like, in the order in which they go.
    pub(crate) tables: [String; 2],
}

impl OldMonth {
    /// With `count` dispatched payments that ended long ago; what is enqueued afterwards is of now.
    pub(crate) async fn with(count: usize) -> (Self, Vec<OutboxId>) {
        let mut old = Self::empty().await;
        let ids = old.enqueue("old", count).await;
        old.dispatch().await;
        old.age(100).await;
        (old, ids)
    }

    pub(crate) async fn empty() -> Self {
        let mut world = World::new().await;
        let first =
            "select ((date_trunc('month', clock_timestamp(), 'UTC') - interval '1 month') at time zone 'UTC')::date";
        let month: Date = scalar(&mut world.dba, first).await;
        let suffix = format!("_y{:04}m{:02}", month.year(), u8::from(month.month()));
        let tables = ["instructions", "attempts"].map(|what| format!("payment_outbox_{what}{suffix}"));
        Self { world, month, tables }
    }

    /// Enqueues payments of the old month.
    pub(crate) async fn enqueue(&mut self, prefix: &str, count: usize) -> Vec<OutboxId> {
        self.back_in_time().await;
        let ids = self.world.enqueue(prefix, count).await;
        self.back_to_now().await;
        ids
    }

    pub(crate) async fn back_in_time(&mut self) {
        run(&mut self.world.dba, LAST_MONTH).await;
    }

    pub(crate) async fn back_to_now(&mut self) {
        let now = std::fs::read_to_string(workspace_root().join("migrations/functions/outbox_id_at.sql")).unwrap();
        run(&mut self.world.dba, &now).await;
    }

    /// Dispatches all that is due.
    pub(crate) async fn dispatch(&mut self) {
        let mut worker = self.world.worker("w");
        loop {
            let leased = worker.claim(500).await.leased;
            if leased.is_empty() {
                return;
            }
            let done: Vec<_> = leased.iter().map(|claimed| completion(lease(claimed), Outcome::Accepted)).collect();
            worker.complete(&done).await;
        }
    }

    /// Puts all that has ended, and was learned late, so many days back.
    pub(crate) async fn age(&mut self, days: i32) {
        for (table, column) in
            [("payment_outbox_attempts", "completed_at"), ("payment_outbox_late_outcomes", "recorded_at")]
        {
            self.by_force(table, &format!("update outbox.{table} set {column} = {column} - interval '{days} days'"))
                .await;
        }
    }

    /// What nobody but a superuser can do to a history table.
    pub(crate) async fn by_force(&mut self, table: &str, statement: &str) {
        let trigger = "trigger history_is_never_changed";
        let text = format!(
            "alter table outbox.{table} disable {trigger}; {statement}; alter table outbox.{table} enable always {trigger}"
        );
        run(&mut self.world.dba, &text).await;
    }

    pub(crate) fn settings(&self, lock_timeout: u64) -> ConnectSettings {
        let mut settings = ConnectSettings::clone(&self.world.settings("t_migrator"));
        settings.lock_timeout = Millis(lock_timeout);
        settings
    }

    pub(crate) async fn detaching(&self, min_age_ms: i64) -> Detaching {
        let month = MonthToDetach { holds: "PAYMENTS".to_owned(), month: self.month, min_age_ms };
        Detaching::begin(&self.settings(20_000), Duration::from_secs(20), month).await.unwrap()
    }

    /// Takes at most `steps` steps, an audit where one is due among them; what was refused, if something was.
    pub(crate) async fn steps(&mut self, steps: usize) -> Result<Vec<String>, StoreError> {
        let mut detaching = self.detaching(30 * DAY).await;
        for _ in 0..steps {
            let refused = match detaching.next().await? {
                PartitionStep::Done(_) => break,
                PartitionStep::Refused(why) => why,
                PartitionStep::Audit => {
                    assert_eq!(self.breaches(AuditScope::Full).await, Vec::<String>::new());
                    Vec::new()
                }
                step => detaching.take(&step).await?,
            };
            if !refused.is_empty() {
                return Ok(refused);
            }
        }
        detaching.end().await;
        Ok(Vec::new())
    }

    pub(crate) async fn detach(&mut self) {
        assert_eq!(self.steps(20).await.unwrap(), Vec::<String>::new());
        assert_eq!(self.states().await, ["DETACHED", "DETACHED"]);
    }

    /// Where the tables of the month's payments are on their way out.
    pub(crate) async fn states(&mut self) -> Vec<String> {
        self.states_of("PAYMENTS").await
    }

    /// The same of tables that hold something else.
    pub(crate) async fn states_of(&mut self, holds: &str) -> Vec<String> {
        let all = read_partitions(&mut self.world.session("t_monitor")).await.unwrap();
        let of_month = all.into_iter().filter(|row| row.month == self.month && row.holds == holds);
        of_month.map(|row| row.state).collect()
    }

    pub(crate) async fn audited(&mut self, scope: AuditScope) -> Value {
        let report = audit(&mut self.world.session("t_auditor"), scope, 100).await.unwrap();
        serde_json::from_str(&report).unwrap()
    }

    /// The breaches that an audit finds, as `KIND outbox_id`.
    pub(crate) async fn breaches(&mut self, scope: AuditScope) -> Vec<String> {
        let report = self.audited(scope).await;
        let all = report["findings"].as_array().unwrap().iter().filter(|one| one["is_breach"] == true);
        let word = |one: &Value, name: &str| one[name].as_str().unwrap_or("-").to_owned();
        let shown: Vec<String> = all.map(|one| format!("{} {}", word(one, "kind"), word(one, "outbox_id"))).collect();
        assert_eq!(report["breaches"], shown.len(), "{report}");
        shown
    }
}
