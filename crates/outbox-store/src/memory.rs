//! What a dispatcher remembers of a database, so that one that was put back is known for older: which epoch was in
//! force, how long the log was, and how many heartbeats were on record.

use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::calls::column;
use crate::error::StoreError;

/// How far a database is. None of it goes back, unless the database is another one or one that was put back. A later
/// epoch is further, whatever the rest says: two people acknowledged what is missing there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogMark {
    /// When its epoch was recorded, in microseconds since 1970; 0 if there is none yet.
    pub epoch_us: i64,
    /// How many bytes of its log are on disk.
    pub log_position: i64,
    /// How many heartbeats of a memory are on record; 0 where that was not asked.
    pub beat: i64,
}

impl LogMark {
    /// The furthest of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        match self.epoch_us.cmp(&other.epoch_us) {
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Equal => Self {
                epoch_us: self.epoch_us,
                log_position: self.log_position.max(other.log_position),
                beat: self.beat.max(other.beat),
            },
        }
    }

    /// A mark that no database of this epoch reaches: only a newer epoch does.
    #[must_use]
    pub const fn latched(self) -> Self {
        Self { beat: i64::MAX, ..self }
    }

    /// Reads `epoch_us` and `log_position`; the beat is left at 0.
    pub(crate) fn read(call: &'static str, row: &PgRow) -> Result<Self, StoreError> {
        Ok(Self { epoch_us: column(call, row, "epoch_us")?, log_position: column(call, row, "log_position")?, beat: 0 })
    }
}

/// What a dispatcher brings along; by default, one that has seen nothing and counts no heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Whose heartbeats are counted; `None`: nobody's.
    pub id: Option<Uuid>,
    /// The furthest that was seen.
    pub mark: LogMark,
}

/// Why a database is not the one that a dispatcher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochFault {
    /// It is for another environment.
    Environment,
    /// It is not the cluster or timeline on record.
    Cluster,
    /// Its epoch is older than the one that was seen, or is a first one that does not follow it.
    Epoch,
    /// It lacks heartbeats that were seen.
    Beats,
    /// It lacks nothing else, and its log is shorter: which passes, since a log grows.
    Log,
}

impl EpochFault {
    /// By its name in the database.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ENVIRONMENT" => Self::Environment,
            "CLUSTER" => Self::Cluster,
            "EPOCH" => Self::Epoch,
            "BEATS" => Self::Beats,
            "LOG" => Self::Log,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_is_further_and_within_one_log_and_heartbeats_each_decide() {
        let mark = |epoch_us, log_position, beat| LogMark { epoch_us, log_position, beat };
        for (one, other, furthest) in [
            (mark(0, 0, 0), mark(0, 10, 0), mark(0, 10, 0)),
            (mark(5, 10, 3), mark(5, 9, 4), mark(5, 10, 4)),
            (mark(5, 10, 3), mark(5, 11, 0), mark(5, 11, 3)),
            (mark(5, 10, 3), mark(4, 99, 99), mark(5, 10, 3)),
            (mark(5, 10, 3).latched(), mark(5, 99, 4), mark(5, 99, i64::MAX)),
            (mark(5, 10, 3).latched(), mark(6, 1, 1), mark(6, 1, 1)),
        ] {
            assert_eq!((one.merge(other), other.merge(one)), (furthest, furthest), "{one:?} {other:?}");
        }
    }
}
