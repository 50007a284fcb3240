//! Reads CSV strictly (RFC 4180): fields quoted or not, quoted ones over several lines, CRLF or LF, a byte-order mark or
//! none. Common readers take a quote that is never closed for one long field, and count lines otherwise than editors do.

use std::io::{BufRead as _, BufReader, Read};

use sha2::{Digest as _, Sha256};

/// A quote that is never closed would take the rest of the file for one field.
const RECORD_BYTES_MAX: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is wrong, and in which line from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) line: u64,
    pub(crate) why: String,
}

/// Records one after the other, and the hash of all that was read.
pub(crate) struct CsvReader<R> {
    input: BufReader<R>,
    line: u64,
    hash: Sha256,
}

impl<R: Read> CsvReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input: BufReader::new(input), line: 0, hash: Sha256::new() }
    }

    /// The next record, and the line in which it begins; blank lines are passed over.
    ///
    /// # Errors
    /// What is not CSV.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Vec<String>)>, BadLine> {
        loop {
            let begins = self.line + 1;
            let bad = |why: &str| BadLine { line: begins, why: why.to_owned() };
            let Some(raw) = self.raw_record()? else { return Ok(None) };
            let text = std::str::from_utf8(&raw).map_err(|_| bad("it is not UTF-8"))?;
            let text = text.strip_suffix('\n').unwrap_or(text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if !text.trim_matches([' ', '\t']).is_empty() {
                return fields(text).map(|fields| Some((begins, fields))).map_err(bad);
            }
        }
    }

    /// SHA-256 of what was read.
    pub(crate) fn sha256(self) -> Vec<u8> {
        self.hash.finalize().to_vec()
    }

    /// As many lines as it takes until every quote is closed.
    fn raw_record(&mut self) -> Result<Option<Vec<u8>>, BadLine> {
        let (begins, mut raw, mut is_quoted) = (self.line + 1, Vec::new(), false);
        let bad = |why: String| BadLine { line: begins, why };
        loop {
            let before = raw.len();
            let left = (RECORD_BYTES_MAX + 1 - before) as u64;
            let read = self.input.by_ref().take(left).read_until(b'\n', &mut raw);
            let count = read.map_err(|error| bad(error.to_string()))?;
            self.hash.update(&raw[before..]);
            if raw.len() > RECORD_BYTES_MAX {
                return Err(bad("more than 1 MiB: is a quote not closed?".to_owned()));
            } else if count == 0 {
                return if raw.is_empty() { Ok(None) } else { Err(bad("a quote is not closed".to_owned())) };
            }
            is_quoted ^= raw[before..].iter().filter(|byte| **byte == b'"').count() % 2 == 1;
            self.line += 1;
            if self.line == 1 && raw.starts_with(BYTE_ORDER_MARK) {
                raw.drain(..BYTE_ORDER_MARK.len());
            }
            if !is_quoted {
                return Ok(Some(raw));
            }
        }
    }
}

/// The fields of a record in which every quote is closed; blanks around those that are not quoted do not count.
fn fields(record: &str) -> Result<Vec<String>, &'static str> {
    let (mut fields, mut rest) = (Vec::new(), record);
    loop {
        let behind = if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut pieces = quoted;
            let behind = loop {
                let (piece, next) = pieces.split_once('"').ok_or("a quote is not closed")?;
                field.push_str(piece);
                match next.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        pieces = after;
                    }
                    None => break next,
                }
            };
            fields.push(field);
            behind
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (field, behind) = rest.split_at(end);
            if field.contains('"') {
                return Err("a quote inside a field that is not quoted");
            }
            fields.push(field.trim().to_owned());
            behind
        };
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(fields),
            None => return Err("text behind a quoted field"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Vec<(u64, Vec<String>)>, BadLine> {
        let mut reader = CsvReader::new(content);
        let mut all = Vec::new();
        while let Some(record) = reader.next()? {
            all.push(record);
        }
        assert_eq!(reader.sha256(), Sha256::digest(content).to_vec());
        Ok(all)
    }

    #[test]
    fn records_are_read_with_the_line_in_which_they_begin() {
        let content = b"\xef\xbb\xbfa,\"b, \"\"c\"\"\" \n".strip_suffix(b" \n").unwrap();
        assert_eq!(read(content), Ok(vec![(1, vec!["a".to_owned(), "b, \"c\"".to_owned()])]));
        let several = read(b"a , b\r\n\r\n\"x\r\ny\",\r\n,\"\"\n\nlast,1").unwrap();
        let short: Vec<(u64, [&str; 2])> =
            several.iter().map(|(line, f)| (*line, [f[0].as_str(), f[1].as_str()])).collect();
        assert_eq!(short, [(1, ["a", "b"]), (3, ["x\r\ny", ""]), (5, ["", ""]), (7, ["last", "1"])]);
        assert_eq!(read(b""), Ok(vec![]));
    }

    #[test]
    fn what_is_no_csv_is_refused_with_its_line() {
        for (content, line, why) in [
            (&b"a\n\"b\nc\nd\n"[..], 2, "a quote is not closed"),
            (b"a\nb\"c\"\n", 2, "a quote inside a field that is not quoted"),
            (b"a\n\"b\"c\n", 2, "text behind a quoted field"),
            (b"a\n\n\xff\n", 3, "it is not UTF-8"),
        ] {
            assert_eq!(read(content), Err(BadLine { line, why: why.to_owned() }));
        }
        let endless = [&b"a\n\""[..], &b"b,c\n".repeat(300_000)].concat();
        assert_eq!(read(&endless), Err(BadLine { line: 2, why: "more than 1 MiB: is a quote not closed?".to_owned() }));
    }
}
