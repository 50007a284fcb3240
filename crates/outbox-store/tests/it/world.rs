//! A fresh database with one rail, and workers that claim and complete on it as the dispatcher's login.

use outbox_core::{AttemptNo, LeaseToken, Millis, OutboxId, Outcome, RailName, WorkerId};
use outbox_store::{
    ClaimBatch, ClaimCursor, ClaimRequest, ClaimedPayment, Completion, CompletionVerdict, ConnectSettings, Enqueued,
    HeldLease, Hint, Memory, NewPayment, Password, Session, StoreError, Tls, claim, complete, enqueue_batch,
};
use outbox_testkit::TestDb;
use sqlx::postgres::{PgConnection, PgRow};
use std::sync::Arc;
use uuid::Uuid;

use crate::sql::{fetch, run};

/// The rail of every test that needs but one.
pub(crate) const RAIL: &str = "wire";

/// A migrated database, its superuser's session, and the rail `wire` with a `resend` contract.
pub(crate) struct World {
    pub(crate) db: TestDb,
    pub(crate) dba: PgConnection,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(TestDb::create().await.unwrap()).await
    }

    pub(crate) async fn on(db: TestDb) -> Self {
        let mut dba = db.connect_as("postgres").await.unwrap();
        run(&mut dba, "select outbox.set_payment_rail('wire', 'resend', p_idempotency_window_ms => 86400000)").await;
        Self { db, dba }
    }

    /// Settings for `login`, with limits that a busy test machine does not reach.
    pub(crate) fn settings(&self, login: &str) -> Arc<ConnectSettings> {
        let address = self.db.address();
        let database = self.db.name();
        let (host, port) = (address.host(), address.port());
        let mut settings = ConnectSettings::new(host, port, database, login, Password::Ambient, &Tls::Disabled);
        settings.connect_timeout = Millis(30_000);
        settings.call_timeout = Millis(60_000);
        settings.statement_timeout = Millis(60_000);
        Arc::new(settings)
    }

    pub(crate) fn session(&self, login: &str) -> Session {
        Session::new(self.settings(login))
    }

    pub(crate) fn worker(&self, name: &str) -> Worker {
        Worker { session: self.session("t_dispatcher"), id: WorkerId::new(name, Uuid::new_v4()).unwrap() }
    }

    /// Enqueues `count` payments on the rail `wire`, named `prefix-1` and so on.
    pub(crate) async fn enqueue(&self, prefix: &str, count: usize) -> Vec<OutboxId> {
        let payments: Vec<NewPayment> = (1..=count).map(|n| payment(&format!("{prefix}-{n}"))).collect();
        let mut session = self.session("t_ingest");
        let done = enqueue_batch(&mut session, &payments, Hint::Wake).await.unwrap();
        done.into_iter().map(|Enqueued { outbox_id, created }| (created, outbox_id).1).collect()
    }

    /// Changes the rail's contract: `column = value, …`.
    pub(crate) async fn contract(&mut self, assignments: &str) {
        run(&mut self.dba, &format!("update outbox.payment_rails set {assignments} where rail = 'wire'")).await;
    }

    /// The payment's row in the queue.
    pub(crate) async fn pending(&mut self, id: OutboxId) -> Option<PgRow> {
        fetch(&mut self.dba, &format!("select * from outbox.payment_outbox_pending where outbox_id = '{id}'"))
            .await
            .pop()
    }

    /// Changes the payment's row in the queue, as nobody but a superuser can.
    pub(crate) async fn tamper(&mut self, id: OutboxId, assignments: &str) {
        let text = format!("update outbox.payment_outbox_pending set {assignments} where outbox_id = '{id}'");
        run(&mut self.dba, &text).await;
    }

    /// Lets the payment's lease run out.
    pub(crate) async fn lose_lease(&mut self, id: OutboxId) {
        self.tamper(id, "lease_expires_at = clock_timestamp() - interval '1 microsecond'").await;
    }

    /// The payment's attempts as `number state outcome`.
    pub(crate) async fn attempts(&mut self, id: OutboxId) -> Vec<String> {
        let text = format!(
            "select concat_ws(' ', attempt_no, state, outcome) from outbox.payment_outbox_attempts \
             where outbox_id = '{id}' order by attempt_no"
        );
        crate::sql::column(&mut self.dba, &text).await
    }
}

/// A payment on the rail `wire`.
pub(crate) fn payment(instruction_id: &str) -> NewPayment {
    NewPayment {
        participant_id: "acme".to_owned(),
        instruction_id: instruction_id.to_owned(),
        idempotency_key: format!("key-{instruction_id}"),
        rail: RailName::new(RAIL).unwrap(),
        payload: format!("<pay id=\"{instruction_id}\"/>").into_bytes(),
        content_type: "application/xml".to_owned(),
        amount_minor: Some(1_250),
        currency: Some("EUR".to_owned()),
        not_before: None,
        not_after: None,
        ordering_key: None,
        traceparent: None,
        attestation_id: None,
    }
}

/// A dispatcher's side: one session and one worker id.
pub(crate) struct Worker {
    pub(crate) session: Session,
    pub(crate) id: WorkerId,
}

impl Worker {
    pub(crate) fn request(&self, limit: u32) -> ClaimRequest {
        ClaimRequest {
            rail: RailName::new(RAIL).unwrap(),
            worker_id: self.id.clone(),
            limit,
            min_lease: Millis(1_000),
            in_flight: 0,
            after: None,
            environment: None,
            endpoint: None,
            seen: Memory::default(),
            policy_version: None,
        }
    }

    /// Claims from the beginning into an empty lane.
    pub(crate) async fn claim(&mut self, limit: u32) -> ClaimBatch {
        self.claim_after(limit, None).await
    }

    pub(crate) async fn claim_after(&mut self, limit: u32, after: Option<ClaimCursor>) -> ClaimBatch {
        let request = ClaimRequest { after, ..self.request(limit) };
        claim(&mut self.session, &request).await.unwrap()
    }

    /// Claims the only due payment.
    pub(crate) async fn claim_one(&mut self) -> ClaimedPayment {
        let mut batch = self.claim(10).await;
        assert_eq!(batch.leased.len(), 1, "{batch:?}");
        batch.leased.remove(0)
    }

    pub(crate) async fn complete(&mut self, completions: &[Completion]) -> Vec<CompletionVerdict> {
        self.try_complete(completions).await.unwrap()
    }

    pub(crate) async fn try_complete(
        &mut self,
        completions: &[Completion],
    ) -> Result<Vec<CompletionVerdict>, StoreError> {
        complete(&mut self.session, &self.id, &completions.iter().collect::<Vec<_>>()).await
    }

    pub(crate) async fn complete_one(&mut self, lease: HeldLease, outcome: Outcome) -> CompletionVerdict {
        self.complete(&[completion(lease, outcome)]).await.remove(0)
    }
}

/// The lease of a claimed payment.
pub(crate) fn lease(claimed: &ClaimedPayment) -> HeldLease {
    HeldLease { outbox_id: claimed.outbox_id, attempt_no: claimed.attempt_no, lease_token: claimed.lease_token }
}

/// A lease that nobody was granted.
pub(crate) fn forged_lease(outbox_id: OutboxId, attempt_no: i32) -> HeldLease {
    HeldLease { outbox_id, attempt_no: AttemptNo(attempt_no), lease_token: LeaseToken(Uuid::new_v4()) }
}

/// A completion; an accepted one carries a reference.
pub(crate) fn completion(lease: HeldLease, outcome: Outcome) -> Completion {
    Completion {
        lease,
        outcome,
        delay: Millis(0),
        first_byte_at: None,
        last_byte_at: None,
        endpoint: Some("https://rail.example/payments".to_owned()),
        request_sha256: Some([7; 32]),
        response_sha256: None,
        rail_reference: (outcome == Outcome::Accepted).then(|| format!("ref-{}", lease.outbox_id)),
        rail_code: None,
        error_class: None,
        error_detail: None,
    }
}
