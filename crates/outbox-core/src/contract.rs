//! A rail's contract: what may be done with a payment on it after an unknown outcome, and how often.
//! The database enforces it (`payment_rails`); this is the copy a dispatcher decides with.

use crate::closed_list;
use crate::ids::RailName;
use crate::time::Millis;

/// What may follow an outcome that is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnUnknown {
    /// The rail executes a key once, so the same key and bytes may be sent again inside the window.
    Resend,
    /// The rail can be asked what became of a key.
    Inquire,
    /// Only a person can tell.
    Hold,
}

impl OnUnknown {
    closed_list! {
        /// Every contract.
        pub const ALL = [Resend, Inquire, Hold]
    }

    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resend => "resend",
            Self::Inquire => "inquire",
            Self::Hold => "hold",
        }
    }

    /// The contract of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.name() == name)
    }
}

/// One row of `payment_rails`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RailContract {
    /// The rail.
    pub rail: RailName,
    /// What may follow an unknown outcome.
    pub on_unknown: OnUnknown,
    /// How long after the first send the rail still recognises the key. `None`: it never does.
    pub idempotency_window: Option<Millis>,
    /// Whether "not found", once the quarantine is over, means that the payment was never executed.
    pub not_found_is_final: bool,
    /// How long one exchange with the rail may take.
    pub rail_timeout: Millis,
    /// How long after an exchange the rail may still be executing it.
    pub processing_bound: Millis,
    /// Sends after which a payment is held, not counting those that the rail suffered.
    pub max_sends: u32,
    /// Answered inquiries after which a payment that is still in doubt is held.
    pub max_inquiries: u32,
    /// Attempts a second, over all dispatchers; `None` for no rate.
    pub max_sends_per_s: Option<u32>,
    /// Lost leases after which a payment is held.
    pub max_crashes: u32,
    /// The first wait between sends.
    pub backoff_base: Millis,
    /// The longest wait between sends.
    pub backoff_cap: Millis,
    /// How long a lease lasts.
    pub lease_duration: Millis,
    /// Whether dispatchers may have further endpoints for what the first has certainly not executed.
    pub fallback: bool,
    /// Whether nothing is claimed.
    pub paused: bool,
}
