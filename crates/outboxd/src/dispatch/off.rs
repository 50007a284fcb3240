//! Whether a lane may claim at all: what the rail's contract in the database asks for, and what the
//! configuration of this dispatcher can do. Pauses and breakers are not decided here.

use outbox_core::{OnUnknown, RailContract};

use super::lane_parts::LaneSettings;

/// Why a lane may not claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Off {
    /// It may.
    No,
    /// The contracts have not been read yet.
    Unread,
    /// There is no contract that this version can serve.
    NoContract,
    /// The contract and the configuration do not go together, or the database refuses the lane.
    Refused(String),
}

/// What the configuration of a lane can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    /// Every endpoint can be asked what became of a payment.
    pub(crate) inquire: bool,
    /// There are several endpoints.
    pub(crate) fall_back: bool,
}

impl Off {
    /// Whether a lane with these settings may claim under `contract`.
    pub(crate) fn judge(contract: Option<&RailContract>, settings: &LaneSettings, can: Abilities) -> Self {
        let Some(contract) = contract else { return Self::NoContract };
        if contract.rail_timeout < settings.times.timeout {
            Self::Refused(format!(
                "the configured timeout of {} is longer than the contract's rail_timeout_ms of {}",
                settings.times.timeout, contract.rail_timeout.0
            ))
        } else if contract.lease_duration < settings.times.min_lease {
            Self::Refused(format!(
                "the contract's lease_duration_ms of {} is shorter than the {} that this dispatcher needs",
                contract.lease_duration.0, settings.times.min_lease
            ))
        } else if contract.on_unknown == OnUnknown::Inquire && !can.inquire {
            let rail = &settings.rail;
            Self::Refused(format!("the contract says on_unknown = inquire, and there is no [rails.{rail}.inquiry]"))
        } else if can.fall_back && !contract.fallback {
            let rail = &settings.rail;
            Self::Refused(format!("[rails.{rail}] has fallback_urls, and the contract says fallback = false"))
        } else {
            Self::No
        }
    }

    /// The reason, if there is one to tell.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::No | Self::Unread => None,
            Self::NoContract => Some("the rail has no contract in payment_rails that this version can serve"),
            Self::Refused(reason) => Some(reason),
        }
    }
}
