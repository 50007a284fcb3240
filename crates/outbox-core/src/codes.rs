//! What a rail means by the statuses and codes of its answers: what its own table says of status and code, then what
//! ISO 20022 says of the code, then what the table says of the status, then HTTP.
//! Whether the rest of an answer bears that meaning out is `outcome`'s to judge.

use crate::closed_list;

/// What a rail means by a status and a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// The payment was taken. Only with a readable body and a reference; otherwise unknown.
    Accepted,
    /// The payment was refused for good.
    Refused,
    /// It was certainly not executed.
    NotExecuted,
    /// It was certainly not executed, because the rail gets too many requests.
    Throttled,
    /// It was certainly not executed, because our credentials are wrong.
    RailRefusedUs,
    /// It is being worked on.
    Interim,
    /// Something else ran under our key.
    KeyReused,
    /// There is no payment under our key. Of inquiries only.
    NotFound,
    /// It may or may not have been executed.
    Unknown,
}

impl Meaning {
    closed_list! {
        /// Every meaning.
        pub const ALL = [
            Accepted,
            Refused,
            NotExecuted,
            Throttled,
            RailRefusedUs,
            Interim,
            KeyReused,
            NotFound,
            Unknown,
        ]
    }

    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::NotExecuted => "not_executed",
            Self::Throttled => "throttled",
            Self::RailRefusedUs => "rail_refused_us",
            Self::Interim => "interim",
            Self::KeyReused => "key_reused",
            Self::NotFound => "not_found",
            Self::Unknown => "unknown",
        }
    }

    /// The meaning of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// One line of a rail's table of codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRule {
    /// The HTTP status it is about.
    pub status: u16,
    /// The rail's own code it is about; `None` matches an answer with any code or none.
    pub code: Option<String>,
    /// What the rail means by it.
    pub means: Meaning,
}

/// A rail's table of codes; what it does not name has the default meaning of its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeTable {
    rules: Vec<CodeRule>,
}

impl CodeTable {
    /// A table of these rules. A rule with a code goes before one without.
    #[must_use]
    pub fn new(rules: Vec<CodeRule>) -> Self {
        Self { rules }
    }

    /// Whether what the rail means by `status` hangs on its code.
    pub(crate) fn depends_on_code(&self, status: u16) -> bool {
        self.rules.iter().any(|rule| rule.status == status && rule.code.is_some())
    }

    /// Whether a line of the table itself says that `status` with `code` is a refusal.
    pub(crate) fn names_refusal(&self, status: u16, code: Option<&str>) -> bool {
        let says = |rule: &CodeRule| rule.status == status && (rule.code.is_none() || rule.code.as_deref() == code);
        self.rules.iter().any(|rule| says(rule) && rule.means == Meaning::Refused)
    }

    /// What the rail means by `status` with `code`, where the table says it. A line for any code does not make an
    /// interim or refused payment of ISO 20022 an accepted one: for that, the table must name the code.
    #[must_use]
    pub fn named(&self, status: u16, code: Option<&str>) -> Option<Meaning> {
        let named = |rule: &&CodeRule| rule.status == status && rule.code.is_some() && rule.code.as_deref() == code;
        let plain = |rule: &&CodeRule| rule.status == status && rule.code.is_none();
        if let Some(rule) = self.rules.iter().find(named) {
            return Some(rule.means);
        }
        iso_20022(status, code).or_else(|| self.rules.iter().find(plain).map(|rule| rule.means))
    }
}

/// The meaning of an answer to a submit that the table of codes does not name (RFC 9110; 200 and 201 are the mapped
/// successes).
#[must_use]
pub const fn default_of_submit(status: u16) -> Meaning {
    match status {
        200 | 201 => Meaning::Accepted,
        202 | 409 => Meaning::Interim,
        401 | 403 => Meaning::RailRefusedUs,
        // A request the rail gave up waiting for may have reached it: 408 is a timeout, not a refusal.
        408 => Meaning::Unknown,
        429 => Meaning::Throttled,
        400..=499 => Meaning::Refused,
        _ => Meaning::Unknown,
    }
}

/// The meaning of an answer to an inquiry that its table does not name. Unlike a submit's, 200 says
/// only that the question was answered, and 400 only that it was not.
#[must_use]
pub const fn default_of_inquiry(status: u16) -> Meaning {
    match status {
        202 => Meaning::Interim,
        401 | 403 => Meaning::RailRefusedUs,
        404 => Meaning::NotFound,
        429 => Meaning::Throttled,
        _ => Meaning::Unknown,
    }
}

/// What an ISO 20022 payment status in a success answer means (external code set
/// `ExternalPaymentTransactionStatus1Code`, as pain.002 and pacs.002 carry it).
fn iso_20022(status: u16, code: Option<&str>) -> Option<Meaning> {
    if !(200..300).contains(&status) {
        return None;
    }
    match code?.to_ascii_uppercase().as_str() {
        "RCVD" | "ACTC" | "ACCP" | "ACFC" | "ACSP" | "ACWC" | "ACWP" | "ACPD" | "PART" | "PATC" | "PDNG" | "PRES" => {
            Some(Meaning::Interim)
        }
        "ACSC" | "ACCC" => Some(Meaning::Accepted),
        "RJCT" => Some(Meaning::Refused),
        // Cancelled, or neither posted nor returned: no success, and nothing that lets it be sent again.
        "CANC" | "BLCK" => Some(Meaning::Unknown),
        _ => None,
    }
}
