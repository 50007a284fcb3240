//! Rows out of the database as `COPY … TO STDOUT` in binary: the cheapest way for a million of them. What the
//! columns mean is the caller's knowledge; a row of another shape is an error.

use std::fmt::Display;

use futures_util::StreamExt as _;
use sqlx::postgres::PgConnection;

use crate::error::CheckError;

/// What a binary copy begins with, before two numbers of four bytes.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// 2000-01-01, from which Postgres counts, in microseconds since 1970.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The fields of one row, taken in order.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    left: &'a [u8],
}

impl<'a> Row<'a> {
    /// The next field's bytes; `None` is null.
    pub(crate) fn bytes(&mut self) -> Result<Option<&'a [u8]>, CheckError> {
        let length = i32::from_be_bytes(self.take(4)?.try_into().map_err(unreadable)?);
        if length < 0 {
            return Ok(None);
        }
        self.take(usize::try_from(length).map_err(unreadable)?).map(Some)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CheckError> {
        let (taken, left) = self.left.split_at_checked(count).ok_or_else(|| unreadable("a row is too short"))?;
        self.left = left;
        Ok(taken)
    }

    fn some(&mut self) -> Result<&'a [u8], CheckError> {
        self.bytes()?.ok_or_else(|| unreadable("a null where there is none"))
    }

    pub(crate) fn uuid(&mut self) -> Result<u128, CheckError> {
        Ok(u128::from_be_bytes(self.some()?.try_into().map_err(unreadable)?))
    }

    pub(crate) fn maybe_uuid(&mut self) -> Result<Option<u128>, CheckError> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        Ok(Some(u128::from_be_bytes(bytes.try_into().map_err(unreadable)?)))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, CheckError> {
        Ok(i32::from_be_bytes(self.some()?.try_into().map_err(unreadable)?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, CheckError> {
        Ok(i64::from_be_bytes(self.some()?.try_into().map_err(unreadable)?))
    }

    /// A digest that the database made.
    pub(crate) fn digest(&mut self) -> Result<u64, CheckError> {
        self.i64().map(i64::cast_unsigned)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, CheckError> {
        Ok(self.some()? != [0])
    }

    /// Microseconds since 1970.
    pub(crate) fn time_us(&mut self) -> Result<i64, CheckError> {
        Ok(self.i64()?.saturating_add(POSTGRES_EPOCH_US))
    }

    pub(crate) fn maybe_time_us(&mut self) -> Result<Option<i64>, CheckError> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        let since = i64::from_be_bytes(bytes.try_into().map_err(unreadable)?);
        Ok(Some(since.saturating_add(POSTGRES_EPOCH_US)))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, CheckError> {
        std::str::from_utf8(self.some()?).map_err(unreadable)
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<&'a str>, CheckError> {
        self.bytes()?.map(std::str::from_utf8).transpose().map_err(unreadable)
    }
}

fn unreadable(reason: impl Display) -> CheckError {
    CheckError::Unreadable(reason.to_string())
}

/// Takes a stream of bytes apart into rows.
#[derive(Debug, Default)]
struct Splitter {
    buffer: Vec<u8>,
    is_past_header: bool,
    is_over: bool,
}

impl Splitter {
    fn feed(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(&mut Row<'_>) -> Result<(), CheckError>,
    ) -> Result<(), CheckError> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        if !self.is_past_header {
            if self.buffer.len() < HEADER_BYTES {
                return Ok(());
            }
            if !self.buffer.starts_with(SIGNATURE) {
                return Err(unreadable("not a binary copy"));
            }
            (at, self.is_past_header) = (HEADER_BYTES, true);
        }
        while !self.is_over {
            let Some(length) = tuple_bytes(&self.buffer[at..])? else { break };
            self.is_over = length == 0;
            if !self.is_over {
                each(&mut Row { left: &self.buffer[at + 2..at + length] })?;
                at += length;
            }
        }
        self.buffer.drain(..at);
        Ok(())
    }
}

/// How long the tuple at the beginning is, its count of fields included; 0 is the end; `None`: not all of it is here.
fn tuple_bytes(bytes: &[u8]) -> Result<Option<usize>, CheckError> {
    let Some(count) = bytes.first_chunk::<2>() else { return Ok(None) };
    let count = i16::from_be_bytes(*count);
    if count < 0 {
        return Ok(Some(0));
    }
    let mut length = 2;
    for _ in 0..count {
        let Some(field) = bytes.get(length..).and_then(<[u8]>::first_chunk::<4>) else { return Ok(None) };
        let field = i32::from_be_bytes(*field).max(0);
        length += 4 + usize::try_from(field).map_err(unreadable)?;
    }
    Ok((length <= bytes.len()).then_some(length))
}

/// Gives each row of `query` to `each`, and how many there were.
pub(crate) async fn copy(
    connection: &mut PgConnection,
    query: &str,
    mut each: impl FnMut(&mut Row<'_>) -> Result<(), CheckError>,
) -> Result<u64, CheckError> {
    let statement = format!("copy ({query}) to stdout (format binary)");
    let mut splitter = Splitter::default();
    let mut rows = 0;
    let mut counted = |row: &mut Row<'_>| {
        rows += 1;
        each(row)
    };
    let mut stream = connection.copy_out_raw(&statement).await.map_err(CheckError::of_driver)?;
    while let Some(bytes) = stream.next().await {
        splitter.feed(&bytes.map_err(CheckError::of_driver)?, &mut counted)?;
    }
    if !splitter.is_over {
        return Err(unreadable("a copy without its end"));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream_of_two() -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[0; 8]);
        for (number, text) in [(7_i64, Some("ab")), (-1, None)] {
            bytes.extend_from_slice(&2_i16.to_be_bytes());
            bytes.extend_from_slice(&8_i32.to_be_bytes());
            bytes.extend_from_slice(&number.to_be_bytes());
            match text {
                Some(text) => {
                    bytes.extend_from_slice(&2_i32.to_be_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
                None => bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
            }
        }
        bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        bytes
    }

    #[test]
    fn rows_are_whole_wherever_the_stream_is_cut() {
        let bytes = stream_of_two();
        for cut in 0..bytes.len() {
            let mut splitter = Splitter::default();
            let mut found = Vec::new();
            let mut each = |row: &mut Row<'_>| {
                found.push((row.i64()?, row.maybe_text()?.map(str::to_owned)));
                Ok(())
            };
            splitter.feed(&bytes[..cut], &mut each).unwrap();
            assert!(!splitter.is_over, "over after {cut} bytes");
            splitter.feed(&bytes[cut..], &mut each).unwrap();
            assert!(splitter.is_over);
            assert_eq!(found, [(7, Some("ab".to_owned())), (-1, None)], "cut after {cut} bytes");
        }
    }

    #[test]
    fn a_row_of_another_shape_is_an_error() {
        let mut splitter = Splitter::default();
        assert!(splitter.feed(&stream_of_two(), &mut |row| row.uuid().map(|_| ())).is_err());
        assert!(Splitter::default().feed(b"something that is no copy at all", &mut |_| Ok(())).is_err());
    }
}
