//! History that is not of the payments themselves: late outcomes, what people did, the epoch, policies, statements.
//! Such a table never shrinks and no row of it changes. Short ones are counted in every pass and compared in turn,
//! all are compared when everything is read.

use std::collections::HashMap;

use crate::{error::CheckError, queries, session::Session};

/// A table whose rows are not all there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shrunk {
    pub(crate) table: &'static str,
    pub(crate) detail: String,
    /// When what is missing was written, where the table says so.
    pub(crate) written_us: Option<i64>,
}

/// What each table was seen to hold.
#[derive(Debug, Default)]
pub(crate) struct OtherHistory {
    counts: HashMap<usize, i64>,
    rows: HashMap<usize, HashMap<u64, Option<i64>>>,
    turn: usize,
    /// What was found, until it is taken.
    pub(crate) shrunk: Vec<Shrunk>,
}

impl OtherHistory {
    /// Counts the short tables, and compares the next one.
    pub(crate) async fn count(&mut self, session: &mut Session) -> Result<(), CheckError> {
        let mut found = Vec::new();
        session
            .read(&queries::counts(), |row| {
                let number = usize::try_from(row.i32()?).unwrap_or_default();
                found.push((number, row.bytes()?.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes)));
                Ok(())
            })
            .await?;
        self.turn = (self.turn + 1) % queries::OTHER_HISTORY.len();
        let mut next = None;
        for (number, count) in found {
            let Some(count) = count else { continue };
            next = next.or((number == self.turn).then_some(number));
            self.take_count(number, count);
        }
        match next {
            Some(number) => self.compare(session, number).await,
            None => Ok(()),
        }
    }

    fn take_count(&mut self, number: usize, count: i64) {
        let before = self.counts.insert(number, count).unwrap_or(0);
        if count < before {
            let detail = format!("{count} rows, and {before} before");
            self.shrunk.push(Shrunk { table: queries::OTHER_HISTORY[number].0, detail, written_us: None });
        }
    }

    /// Compares every table, row by row.
    pub(crate) async fn compare_all(&mut self, session: &mut Session) -> Result<(), CheckError> {
        for number in 0..queries::OTHER_HISTORY.len() {
            self.compare(session, number).await?;
        }
        Ok(())
    }

    async fn compare(&mut self, session: &mut Session, number: usize) -> Result<(), CheckError> {
        let mut now = HashMap::new();
        session
            .read(&queries::other_history(number), |row| {
                now.insert(row.digest()?, row.maybe_time_us()?);
                Ok(())
            })
            .await?;
        self.take_rows(number, now);
        Ok(())
    }

    fn take_rows(&mut self, number: usize, now: HashMap<u64, Option<i64>>) {
        let table = queries::OTHER_HISTORY[number].0;
        // The counts of the passes after this reading go on from it.
        self.counts.insert(number, i64::try_from(now.len()).unwrap_or(i64::MAX));
        let before = self.rows.insert(number, now).unwrap_or_default();
        let now = &self.rows[&number];
        for (digest, written_us) in before.into_iter().filter(|(digest, _)| !now.contains_key(digest)) {
            let detail = format!("the row of digest {digest:016x} is gone, or changed");
            self.shrunk.push(Shrunk { table, detail, written_us });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_rows_than_before_are_found() {
        let mut other = OtherHistory::default();
        other.take_count(0, 5);
        other.take_count(0, 6);
        assert_eq!(other.shrunk, []);
        other.take_count(0, 5);
        assert_eq!(other.shrunk.len(), 1);
    }

    #[test]
    fn a_row_that_is_gone_or_changed_is_found_with_its_time() {
        let mut other = OtherHistory::default();
        other.take_rows(0, HashMap::from([(1, Some(10)), (2, Some(20))]));
        other.take_rows(0, HashMap::from([(1, Some(10)), (2, Some(20)), (3, None)]));
        assert_eq!(other.shrunk, []);
        other.take_rows(0, HashMap::from([(1, Some(10)), (4, Some(20)), (3, None)]));
        assert_eq!(other.shrunk.iter().map(|shrunk| shrunk.written_us).collect::<Vec<_>>(), [Some(20)]);
    }
}
