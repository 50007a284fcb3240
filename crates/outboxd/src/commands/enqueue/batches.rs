//! Payments on their way to the database, a batch in memory at a time: one transaction each, repeated
//! when the database is away for a moment. A refusal is traced back to the payment's place in the input.

use outbox_store::{Hint, NewPayment, Session, StoreError, enqueue_batch};

use super::Located;
use super::progress::Progress;
use super::retry::patiently;
use crate::commands::store_failure::store_failure;
use crate::exit::{Exit, Failure};

/// Bounds the memory of a batch of large payments: here, on the wire and in the server.
const BATCH_MAX_BYTES: usize = 16 * 1_048_576;

/// What was recorded so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Recorded by this run.
    pub(super) enqueued: u64,
    /// There already.
    pub(super) already_recorded: u64,
    /// Batches sent again because the answer to the first try did not come: what that try recorded
    /// counts as there already.
    pub(super) repeated_batches: u64,
}

/// Gathers payments and sends them.
#[derive(Debug)]
pub(super) struct Batches {
    session: Session,
    size_max: usize,
    places: Vec<String>,
    payments: Vec<NewPayment>,
    payload_bytes: usize,
    counts: Counts,
    progress: Progress,
}

impl Batches {
    /// Batches of at most `size_max` payments.
    pub(super) fn new(session: Session, size_max: u16, progress: Progress) -> Self {
        let size_max = usize::from(size_max);
        let (places, payments) = (Vec::with_capacity(size_max), Vec::with_capacity(size_max));
        Self { session, size_max, places, payments, payload_bytes: 0, counts: Counts::default(), progress }
    }

    /// Takes a payment, and sends the batch when it is full.
    pub(super) async fn push(&mut self, located: Located) -> Result<(), Failure> {
        let Located { place, payment } = located;
        self.payload_bytes += payment.payload.len();
        self.places.push(place);
        self.payments.push(payment);
        if self.payments.len() >= self.size_max || self.payload_bytes >= BATCH_MAX_BYTES {
            self.send().await?;
        }
        Ok(())
    }

    /// Sends what is there.
    pub(super) async fn send(&mut self) -> Result<(), Failure> {
        if self.payments.is_empty() {
            return Ok(());
        }
        let payments = &self.payments;
        let sent = patiently(&mut self.session, async |session| enqueue_batch(session, payments, Hint::Wake).await);
        let (rows, repeated) = sent.await.map_err(|error| refusal(&error, &self.places))?;
        let created = rows.iter().filter(|row| row.created).count();
        self.counts.enqueued += created as u64;
        self.counts.already_recorded += (rows.len() - created) as u64;
        self.counts.repeated_batches += u64::from(repeated > 0);
        self.progress.recorded(self.counts.enqueued + self.counts.already_recorded);
        self.places.clear();
        self.payments.clear();
        self.payload_bytes = 0;
        Ok(())
    }

    /// Ends the connection, and the progress bar.
    pub(super) async fn close(self) -> Counts {
        self.progress.end();
        self.session.close().await;
        self.counts
    }
}

/// The end of the command, with the place of the payment that the database refused.
fn refusal(error: &StoreError, places: &[String]) -> Failure {
    let failure = store_failure(error);
    if failure.exit != Exit::BadData {
        return failure;
    }
    let (first, last) = (places.first(), places.last());
    let message = match error {
        StoreError::Refused { message, hint, .. } => {
            let hint = hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            place_of(message, places).map(|(place, what)| format!("{place}: {what}{hint}"))
        }
        _ => None,
    };
    let whole = || {
        let between = first.zip(last).map(|(first, last)| format!("between {first} and {last}: ")).unwrap_or_default();
        format!("{between}{}", failure.message)
    };
    Failure::new(failure.exit, message.unwrap_or_else(whole))
}

/// The database names a payment by its number in the batch: `payment 3 of the batch: …`.
fn place_of<'m>(message: &'m str, places: &[String]) -> Option<(String, &'m str)> {
    let (number, what) = message.strip_prefix("payment ")?.split_once(" of the batch: ")?;
    let index = number.parse::<usize>().ok()?.checked_sub(1)?;
    places.get(index).map(|place| (place.clone(), what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> String {
        let places: Vec<String> = (7..=9).map(|line| format!("in:{line}")).collect();
        let error = StoreError::Refused {
            call: "enqueue",
            code: "OB003".to_owned(),
            message: message.to_owned(),
            hint: Some("mend it".to_owned()),
        };
        let failure = refusal(&error, &places);
        assert_eq!(failure.exit, Exit::BadData);
        failure.message
    }

    #[test]
    fn a_refusal_names_the_place_in_the_input() {
        assert_eq!(refused("payment 2 of the batch: rail is odd"), "in:8: rail is odd\nhint: mend it");
    }

    #[test]
    fn a_refusal_without_a_number_names_the_batch() {
        for message in ["something else", "payment 4 of the batch: x", "payment 0 of the batch: x"] {
            let text = refused(message);
            assert!(text.starts_with("between in:7 and in:9: ") && text.contains(message), "{text}");
        }
    }
}
