//! What the dispatcher decides, and nothing else: no I/O, no clock, no randomness, no async, no
//! serialisation. Every function takes values (with the time and the jitter among them) and returns
//! a closed enum. See `docs/ARCHITECTURE.md`.

pub mod breaker;
pub mod closed;
pub mod codes;
pub mod contract;
pub mod decide;
pub mod forecast;
pub mod ids;
pub mod lease;
pub mod media_type;
pub mod outcome;
pub mod retry;
pub mod state;
pub mod time;

pub use breaker::{Breaker, BreakerChange, BreakerLimits, Generation, Permit, RailHealth};
pub use codes::{CodeRule, CodeTable, Meaning};
pub use contract::{OnUnknown, RailContract};
pub use decide::{Decision, Situation, after_attempt};
pub use ids::{AttemptNo, LeaseToken, OutboxId, PolicyVersion, RailName, WorkerId};
pub use lease::Lease;
pub use media_type::is_media_type;
pub use outcome::{Outcome, Reply, Sending, classify, classify_inquiry};
pub use state::{AttemptKind, AttemptState, HoldReason};
pub use time::{BootTime, Millis};
