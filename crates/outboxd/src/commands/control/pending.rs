//! Reads what waits, page by page, for the commands that stop or mark many payments at once and say how many.

use outbox_store::{PaymentFilter, Session, read_payments};
use serde_json::Value;

use super::or_end;
use super::select::{id_of, parse};
use crate::exit::Failure;

/// Payments a page.
const PAGE: u32 = 5_000;

/// A payment of the queue, as far as it matters to who counts.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    document: &'a Value,
}

impl Waiting<'_> {
    pub(super) fn rail(&self) -> &str {
        self.document["rail"].as_str().unwrap_or_default()
    }

    pub(super) fn participant(&self) -> &str {
        self.document["participant_id"].as_str().unwrap_or_default()
    }

    pub(super) fn is_held(&self) -> bool {
        self.document["disposition"] == "HELD"
    }

    pub(super) fn is_parked(&self) -> bool {
        self.document["disposition"] == "PARKED"
    }

    /// Whether its next attempt's time has come, by the database's clock.
    pub(super) fn is_due(&self) -> bool {
        self.document["is_due"] == true
    }

    pub(super) fn is_leased(&self) -> bool {
        self.document["is_leased"] == true
    }

    pub(super) fn is_tried(&self) -> bool {
        self.document["attempts"].as_i64().unwrap_or(0) > 0
    }
}

/// Gives each payment that `filter` chooses to `take`, until it was `max`; returns whether those were all.
///
/// # Errors
/// What the database says.
pub(super) async fn each_waiting(
    session: &mut Session,
    mut filter: PaymentFilter,
    max: usize,
    mut take: impl FnMut(&Waiting<'_>),
) -> Result<bool, Failure> {
    let mut seen = 0;
    loop {
        let page = or_end(read_payments(session, &filter, PAGE).await)?;
        for text in &page {
            if seen == max {
                return Ok(false);
            }
            let document = parse(text)?;
            filter.after = Some(id_of(&document)?);
            take(&Waiting { document: &document });
            seen += 1;
        }
        if page.len() < PAGE as usize {
            return Ok(true);
        }
    }
}
