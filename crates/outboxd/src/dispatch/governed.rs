//! A lane by the decisions of its configuration or of the policy: which of the two, never both, and the clients and times that
//! follow. Whether the policy is to be believed is decided in `policy_watch`.

use std::sync::Arc;

use outbox_core::{Millis, Outcome, PolicyVersion, RailName};
use outbox_rail::{Exchanging, Inquiry, MaySend, Rail, Submission, WireReport};

use super::policy_watch::RailPolicy;
use crate::config::model::{Decisions, Dispatcher, Rail as RailConfig};
use crate::config::policy::PolicyRail;

/// Makes the clients of a rail's endpoints, in order; or says why it cannot.
pub type Maker = Arc<dyn Fn(&RailConfig, &[Option<String>]) -> Result<Vec<Arc<dyn Rail>>, String> + Send + Sync>;

/// How long a lane's sends take, and what its leases must last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// How long an exchange with the rail may take.
    pub(crate) timeout: Millis,
    /// What an exchange and its completion need.
    pub(crate) need: Millis,
    /// The shortest lease that is any use.
    pub(crate) min_lease: Millis,
}

impl Times {
    pub(crate) const fn of(dispatcher: &Dispatcher, rail: &RailConfig) -> Self {
        Self { timeout: rail.timeout, need: dispatcher.send_need(rail), min_lease: dispatcher.min_lease(rail) }
    }
}

/// The rail of the configuration as it is dispatched: with the decisions of the policy where it leaves them to it, and the name
/// that the certificate of each endpoint must carry, where that is not its host.
pub(crate) struct Governed {
    pub(crate) rail: RailConfig,
    pub(crate) sans: Vec<Option<String>>,
    pub(crate) version: Option<PolicyVersion>,
}

/// The clients of a rail before the policy is known: of one that leaves its decisions to it, clients that send nothing.
///
/// # Errors
/// Why `maker` cannot make them.
pub fn at_start(name: &RailName, configured: &RailConfig, maker: &Maker) -> Result<Vec<Arc<dyn Rail>>, String> {
    match govern(name, configured, &RailPolicy::None) {
        Ok(governed) => maker(&governed.rail, &governed.sans),
        Err(_) => Ok(Ungoverned::all(configured)),
    }
}

/// What governs a configured rail.
///
/// # Errors
/// Why it must not be dispatched.
pub(crate) fn govern(name: &RailName, configured: &RailConfig, policy: &RailPolicy) -> Result<Governed, String> {
    match (policy, configured.decisions) {
        (RailPolicy::Off(why), _) => Err(why.clone()),
        (RailPolicy::None, Decisions::File) => {
            let sans = urls(configured).map(|_| configured.tls.server_name.clone()).collect();
            Ok(Governed { rail: configured.clone(), sans, version: None })
        }
        (RailPolicy::None, Decisions::Policy) => {
            Err(format!("rails.{name}.decisions is \"policy\", and no policy is active"))
        }
        (RailPolicy::Active(version, _), Decisions::File) => {
            let remove = match configured.decision_keys.join(", ") {
                keys if keys.is_empty() => String::new(),
                keys => format!(", and remove {keys}"),
            };
            Err(format!("policy version {version} is active: set rails.{name}.decisions to \"policy\"{remove}"))
        }
        (RailPolicy::Active(version, decided), Decisions::Policy) => {
            let sans = urls(configured).map(|url| san_of(*version, decided, &url)).collect::<Result<_, _>>()?;
            Ok(Governed { rail: decided.over(configured), sans, version: Some(*version) })
        }
    }
}

fn urls(configured: &RailConfig) -> impl Iterator<Item = String> {
    std::iter::once(&configured.url).chain(&configured.fallback_urls).map(outbox_rail::origin)
}

fn san_of(version: PolicyVersion, decided: &PolicyRail, origin: &str) -> Result<Option<String>, String> {
    let endpoint = decided.endpoint(origin);
    let endpoint =
        endpoint.ok_or_else(|| format!("{origin} is no endpoint of the rail in policy version {version}"))?;
    Ok(endpoint.san.clone())
}

/// The endpoint of a lane that must not send yet: the policy has not been read. Nothing leaves for it.
struct Ungoverned {
    origin: String,
}

impl Ungoverned {
    /// One for each endpoint of `configured`.
    fn all(configured: &RailConfig) -> Vec<Arc<dyn Rail>> {
        urls(configured).map(|origin| Arc::new(Self { origin }) as Arc<dyn Rail>).collect()
    }

    fn unsent(&self) -> Exchanging<'_> {
        let report = WireReport {
            outcome: Outcome::NotSent,
            retry_after: None,
            endpoint: self.origin.clone(),
            first_byte_at: None,
            last_byte_at: None,
            request_sha256: None,
            response_sha256: None,
            rail_reference: None,
            rail_code: None,
            error_class: Some("no_policy"),
            error_detail: None,
        };
        Box::pin(async { report })
    }
}

impl Rail for Ungoverned {
    fn endpoint(&self) -> &str {
        &self.origin
    }

    fn submit(&self, _: Submission, _: MaySend) -> Exchanging<'_> {
        self.unsent()
    }

    fn can_inquire(&self) -> bool {
        false
    }

    fn inquire(&self, _: Inquiry, _: MaySend) -> Exchanging<'_> {
        self.unsent()
    }
}
