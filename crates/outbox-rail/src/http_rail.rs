//! The HTTP rail: one POST a submission, one GET an inquiry, sent at most once. It puts the parts of this crate in order
//! and turns every ending into a report. No retries, redirects, proxies or compression.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::response::Parts;
use http::{HeaderName, HeaderValue, Response};
use hyper::body::Incoming;
use outbox_core::{AttemptKind, CodeTable, Millis, Outcome, Reply, Sending, classify, classify_inquiry};
use tokio::time::Instant;

use crate::answer::{self, Field, Read};
use crate::connect::connect;
use crate::credential::SecretHeaders;
use crate::deadline::by;
use crate::endpoint::{Endpoint, origin, without_query};
use crate::error::RailError;
use crate::fault::Fault;
use crate::gate::{Passed, Refusal};
use crate::pool::{Connection, Pool};
use crate::probe::{Probe, ProbeFault, probe};
use crate::rail::{Exchanging, Inquiry, MaySend, Rail, Submission};
use crate::report::WireReport;
use crate::request::{Prepared, Template, header_names};
use crate::settings::{AnswerField, HttpRailSettings};
use crate::tls::Tls;

/// No lease is longer, and a deadline further away could not be reckoned with.
const TIMEOUT_MAX: Millis = Millis(3_600_000);

/// A payment rail that is reached by HTTP.
pub struct HttpRail {
    origin: String,
    endpoint: Endpoint,
    template: Template,
    secrets: SecretHeaders,
    tls: Option<Tls>,
    pool: Pool,
    timeout: Duration,
    connect_timeout: Duration,
    response_body_max: usize,
    answers: Answers,
    inquiry_answers: Option<Answers>,
}

/// What an exchange is for.
#[derive(Clone, Copy)]
enum Purpose {
    Submit(Sending),
    Inquire,
}

impl Purpose {
    const fn kind(self) -> AttemptKind {
        match self {
            Self::Submit(_) => AttemptKind::Submit,
            Self::Inquire => AttemptKind::Inquire,
        }
    }
}

/// How the answers to one kind of attempt are read.
struct Answers {
    reference: Field,
    code: Field,
    codes: CodeTable,
}

impl Answers {
    fn new(reference: AnswerField, code: AnswerField, codes: CodeTable) -> Result<Self, RailError> {
        let reference = Field::parse(reference, "reference")?;
        if !reference.is_configured() {
            return Err(RailError::Setting {
                setting: "reference",
                reason: "is nowhere to be found, and without it no payment can be accepted",
            });
        }
        Ok(Self { reference, code: Field::parse(code, "code")?, codes })
    }
}

impl fmt::Debug for HttpRail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRail").field("endpoint", &self.endpoint.shown).finish_non_exhaustive()
    }
}

impl HttpRail {
    /// A rail with these settings; its credential files are read once here. Nothing is connected to
    /// before the first submission, which needs a tokio runtime with time and network.
    ///
    /// # Errors
    /// [`RailError`] if a setting or a credential file cannot be used.
    pub fn new(settings: HttpRailSettings) -> Result<Self, RailError> {
        check_limits(&settings)?;
        let endpoint = Endpoint::parse(&settings.url, settings.plain_http)?;
        let names = header_names(&settings)?;
        let template = Template::new(endpoint.uri.clone(), &settings, &names)?;
        let secret_names =
            names.into_iter().skip(1 + settings.headers.len() + usize::from(settings.possible_duplicate.is_some()));
        let secrets =
            SecretHeaders::load(secret_names.zip(settings.secret_headers).collect(), settings.world_readable)?;
        let load_tls = || Tls::load(settings.tls, &endpoint.host, settings.world_readable);
        let tls = endpoint.is_tls.then(load_tls).transpose()?;
        let inquiry = settings.inquiry;
        let inquiry_answers =
            inquiry.map(|asked| Answers::new(asked.reference, asked.code, asked.codes)).transpose()?;
        Ok(Self {
            origin: origin(&endpoint.uri),
            endpoint,
            template,
            secrets,
            tls,
            pool: Pool::new(settings.pool_idle_timeout.into()),
            timeout: settings.timeout.into(),
            connect_timeout: settings.connect_timeout.into(),
            response_body_max: settings.response_body_max,
            answers: Answers::new(settings.reference, settings.code, settings.codes)?,
            inquiry_answers,
        })
    }

    /// Connects as for a payment, up to TLS, and hangs up: not a byte of HTTP is sent.
    ///
    /// # Errors
    /// [`ProbeFault`].
    pub async fn probe(&self) -> Result<Probe, ProbeFault> {
        probe(&self.endpoint, self.tls.as_ref(), Instant::now() + self.connect_timeout).await
    }

    async fn submission(&self, submission: Submission, may_send: MaySend) -> WireReport {
        let sending = if submission.is_resend { Sending::Again } else { Sending::First };
        match self.template.prepare(&submission) {
            Ok(prepared) => self.exchange(Purpose::Submit(sending), prepared, may_send).await,
            Err(_) => with_fault(self.blank(), Fault::plain("content_type_invalid")),
        }
    }

    async fn inquiry(&self, inquiry: Inquiry, may_send: MaySend) -> WireReport {
        match self.template.prepare_inquiry(&inquiry) {
            Some(prepared) => self.exchange(Purpose::Inquire, prepared, may_send).await,
            None => with_fault(self.blank(), Fault::plain("not_configured")),
        }
    }

    fn answers_to(&self, purpose: Purpose) -> &Answers {
        match (purpose, &self.inquiry_answers) {
            (Purpose::Inquire, Some(answers)) => answers,
            (Purpose::Inquire, None) | (Purpose::Submit(_), _) => &self.answers,
        }
    }

    /// What `reply` to an exchange for `purpose` says of the payment.
    fn classify(&self, purpose: Purpose, reply: Reply<'_>) -> Outcome {
        let codes = &self.answers_to(purpose).codes;
        match purpose {
            Purpose::Submit(sending) => classify(reply, codes, sending),
            Purpose::Inquire => classify_inquiry(reply, codes),
        }
    }

    async fn exchange(&self, purpose: Purpose, prepared: Prepared, may_send: MaySend) -> WireReport {
        let until = Instant::now() + self.timeout;
        let mut report = self.blank();
        report.endpoint = without_query(&prepared.uri);
        report.request_sha256 = Some(prepared.sha256);
        let secrets = match self.secrets.current() {
            Ok(secrets) => secrets,
            Err(error) => return with_fault(report, Fault::detailed("credential", error)),
        };
        let mut connection = match self.connection(until).await {
            Ok(connection) => connection,
            Err(fault) => return with_fault(report, fault),
        };
        match self.send(&mut connection, prepared, secrets, may_send, until).await {
            Ok(response) => self.receive(purpose, report, connection, (response, until)).await,
            Err(fault) => self.broken_off(purpose, report, &connection, fault),
        }
    }

    async fn connection(&self, until: Instant) -> Result<Connection, Fault> {
        // A connection stands for the certificate it was opened with: one that was replaced, perhaps because it was
        // revoked, is not used again.
        let generation = self.tls.as_ref().map_or(0, Tls::generation);
        if let Some(connection) = self.pool.take(generation) {
            return Ok(connection);
        }
        let until = until.min(Instant::now() + self.connect_timeout);
        connect(&self.endpoint, self.tls.as_ref(), until).await.map(|connection| connection.of(generation))
    }

    async fn send(
        &self,
        connection: &mut Connection,
        prepared: Prepared,
        secrets: Vec<(HeaderName, HeaderValue)>,
        may_send: MaySend,
        until: Instant,
    ) -> Result<Response<Incoming>, Fault> {
        // A deadline that has passed is noticed only after the first attempt to write.
        if Instant::now() >= until {
            return Err(Fault::plain("timeout"));
        }
        let request = Template::request(prepared, secrets, connection.version());
        // Past the deadline nothing begins, but an answer to what has left may lie in the socket.
        let in_time = move || Instant::now() < until && may_send();
        match by(until, connection.send(request, Arc::new(in_time))).await {
            // An answer to a request that never left answers something else.
            Some(Ok(_)) if connection.gate().passed().bytes == 0 => Err(Fault::plain("unsolicited_answer")),
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(Fault::http(&error)),
            None => Err(Fault::plain("timeout")),
        }
    }

    /// The exchange ended without an answer; the gate knows whether anything had left.
    fn broken_off(&self, purpose: Purpose, report: WireReport, connection: &Connection, fault: Fault) -> WireReport {
        let passed = connection.gate().shut();
        let fault = match passed.refusal {
            Some(Refusal::NotPermitted) => Fault::plain("not_permitted"),
            Some(Refusal::Stale) => Fault::plain("connection_stale"),
            None => fault,
        };
        if passed.bytes == 0 {
            return with_fault(report, fault);
        }
        let outcome = self.classify(purpose, Reply::Interrupted);
        timed(with_fault(WireReport { outcome, ..report }, fault), passed)
    }

    async fn receive(
        &self,
        purpose: Purpose,
        report: WireReport,
        connection: Connection,
        (response, until): (Response<Incoming>, Instant),
    ) -> WireReport {
        let (head, body) = response.into_parts();
        let read = answer::read(body, self.response_body_max, until).await;
        let passed = connection.gate().passed();
        let report = self.judge(purpose, report, &head, &read, SystemTime::now());
        if read.fault.is_none() {
            self.pool.give_back(connection).await;
        }
        timed(report, passed)
    }

    /// Puts what an answer says into `report`.
    fn judge(&self, purpose: Purpose, report: WireReport, head: &Parts, read: &Read, now: SystemTime) -> WireReport {
        let status = head.status.as_u16();
        let Answers { reference, code, .. } = self.answers_to(purpose);
        let said = answer::understand(purpose.kind(), head, read, reference, code);
        let reply = Reply::Answered { status, code: said.code.as_deref(), body: said.body };
        let report = WireReport {
            outcome: self.classify(purpose, reply),
            retry_after: answer::retry_after(&head.headers, now),
            response_sha256: Some(answer::response_sha256(status, &read.bytes)),
            rail_reference: said.reference,
            rail_code: said.code,
            ..report
        };
        match said.fault {
            Some(fault) => with_fault(report, fault),
            None => report,
        }
    }

    /// What would be reported of an answer that came whole to a submission, or to an inquiry, at `now`: for whoever tries
    /// answers without a network. Nothing is sent.
    #[must_use]
    pub fn judge_answer(
        &self,
        kind: AttemptKind,
        is_resend: bool,
        answer: Response<Vec<u8>>,
        now: SystemTime,
    ) -> WireReport {
        let purpose = match (kind, is_resend) {
            (AttemptKind::Submit, false) => Purpose::Submit(Sending::First),
            (AttemptKind::Submit, true) => Purpose::Submit(Sending::Again),
            (AttemptKind::Inquire, _) => Purpose::Inquire,
        };
        let (head, bytes) = answer.into_parts();
        self.judge(purpose, self.blank(), &head, &Read { bytes, fault: None }, now)
    }

    fn blank(&self) -> WireReport {
        WireReport {
            outcome: Outcome::NotSent,
            retry_after: None,
            endpoint: self.endpoint.shown.clone(),
            first_byte_at: None,
            last_byte_at: None,
            request_sha256: None,
            response_sha256: None,
            rail_reference: None,
            rail_code: None,
            error_class: None,
            error_detail: None,
        }
    }
}

impl Rail for HttpRail {
    fn endpoint(&self) -> &str {
        &self.origin
    }

    fn submit(&self, submission: Submission, may_send: MaySend) -> Exchanging<'_> {
        Box::pin(self.submission(submission, may_send))
    }

    fn can_inquire(&self) -> bool {
        self.template.can_inquire()
    }

    fn inquire(&self, inquiry: Inquiry, may_send: MaySend) -> Exchanging<'_> {
        Box::pin(self.inquiry(inquiry, may_send))
    }
}

fn with_fault(report: WireReport, fault: Fault) -> WireReport {
    WireReport { error_class: Some(fault.class), error_detail: fault.detail, ..report }
}

fn timed(report: WireReport, passed: Passed) -> WireReport {
    WireReport { first_byte_at: passed.first_byte_at, last_byte_at: passed.last_byte_at, ..report }
}

fn check_limits(settings: &HttpRailSettings) -> Result<(), RailError> {
    let zero = |setting| RailError::Setting { setting, reason: "is zero" };
    if settings.timeout == Millis::ZERO {
        return Err(zero("timeout_ms"));
    }
    if settings.connect_timeout == Millis::ZERO {
        return Err(zero("connect_timeout_ms"));
    }
    if settings.timeout > TIMEOUT_MAX {
        return Err(RailError::Setting { setting: "timeout_ms", reason: "is longer than an hour" });
    }
    if settings.connect_timeout > settings.timeout {
        return Err(RailError::Setting { setting: "connect_timeout_ms", reason: "is longer than `timeout_ms`" });
    }
    if settings.response_body_max == 0 {
        return Err(zero("response_body_max"));
    }
    Ok(())
}
