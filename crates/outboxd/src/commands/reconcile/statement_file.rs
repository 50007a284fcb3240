//! Reads a rail's statement: CSV with a header. Whatever is not as it should
//! be is refused by line; nothing is guessed. What a line means for a payment is not decided here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use outbox_store::{LinesHash, StatementLine};
use time::OffsetDateTime;

use crate::commands::control::select::parse_time;
use crate::commands::csv_reader::CsvReader;
use crate::exit::{Exit, Failure};

const NEEDED: [&str; 4] = ["wire_key", "rail_reference", "amount_minor", "currency"];
const OPTIONAL: [&str; 2] = ["booked_at", "status"];

/// No rail's reference is longer; the database indexes it.
const TEXT_CHARS_MAX: usize = 256;

/// The file, and which of its values mean that money has left.
#[derive(Debug)]
pub(crate) struct StatementFile {
    pub(crate) path: PathBuf,
    pub(crate) paid_statuses: Vec<String>,
    /// When its lines may have been booked, the end not included: its period and the slack.
    pub(crate) booked: Range<OffsetDateTime>,
}

/// What a whole file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) sha256: Vec<u8>,
    pub(crate) lines_sha256: Vec<u8>,
    pub(crate) lines: i64,
    pub(crate) paid_lines: i64,
    /// Of paid lines, in minor units by currency.
    pub(crate) sums: BTreeMap<String, i128>,
    pub(crate) ignored_columns: Vec<String>,
}

/// Where each column is.
struct Columns {
    needed: [usize; 4],
    booked_at: Option<usize>,
    status: Option<usize>,
}

impl StatementFile {
    /// Gives each line to `take`, in order, and returns what the whole says.
    ///
    /// # Errors
    /// The first thing that is not as it should be, with its line; what `take` returns.
    pub(super) fn read(&self, take: impl FnMut(StatementLine) -> Result<(), Failure>) -> Result<Summary, Failure> {
        let file = File::open(&self.path)
            .map_err(|error| Failure::new(Exit::NoInput, format!("{}: {error}", self.path.display())))?;
        self.read_from(file, take)
    }

    /// The same of `input` in the place of the file.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub(crate) fn read_from(
        &self,
        input: impl Read,
        mut take: impl FnMut(StatementLine) -> Result<(), Failure>,
    ) -> Result<Summary, Failure> {
        let mut reader = CsvReader::new(input);
        let mut summary = Summary::default();
        let Some((_, header)) = reader.next().map_err(|bad| self.bad(bad.line, &bad.why))? else {
            return Err(self.bad(1, "the file is empty"));
        };
        let columns = self.columns(&header, &mut summary)?;
        let mut hash = LinesHash::default();
        while let Some((line_no, record)) = reader.next().map_err(|bad| self.bad(bad.line, &bad.why))? {
            if record.len() != header.len() {
                return Err(self.bad(line_no, &format!("{} fields instead of {}", record.len(), header.len())));
            }
            let line = self.line(&record, &columns, line_no)?;
            hash.add(&line);
            summary.lines += 1;
            if line.is_paid {
                summary.paid_lines += 1;
                *summary.sums.entry(line.currency.clone()).or_default() += i128::from(line.amount_minor);
            }
            take(line)?;
        }
        summary.sha256 = reader.sha256();
        summary.lines_sha256 = hash.done();
        Ok(summary)
    }

    fn columns(&self, headers: &[String], summary: &mut Summary) -> Result<Columns, Failure> {
        let names: Vec<String> = headers.iter().map(|name| name.to_ascii_lowercase()).collect();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, name) in names.iter().enumerate() {
            if !NEEDED.contains(&name.as_str()) && !OPTIONAL.contains(&name.as_str()) {
                summary.ignored_columns.push(name.clone());
            } else if places.insert(name, place).is_some() {
                return Err(self.bad(1, &format!("the column {name} is there twice")));
            }
        }
        let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !places.contains_key(name)).collect();
        if !missing.is_empty() {
            return Err(self.bad(1, &format!("without the column {}", missing.join(", "))));
        }
        let status = places.get("status").copied();
        match (status, self.paid_statuses.is_empty()) {
            (Some(_), true) => {
                Err(self.bad(1, "it has a column status: say with --paid-status which values mean that money has left"))
            }
            (None, false) => Err(self.bad(1, "--paid-status needs the column status")),
            _ => Ok(Columns {
                needed: NEEDED.map(|name| places[name]),
                booked_at: places.get("booked_at").copied(),
                status,
            }),
        }
    }

    fn line(&self, record: &[String], columns: &Columns, line_no: u64) -> Result<StatementLine, Failure> {
        let bad = |why: &str| self.bad(line_no, why);
        let text = |place: usize, name: &str| -> Result<Option<String>, Failure> {
            let value = record[place].trim();
            if value.chars().any(char::is_control) || value.chars().count() > TEXT_CHARS_MAX {
                return Err(bad(&format!("{name} has control characters, or more than {TEXT_CHARS_MAX}")));
            }
            Ok((!value.is_empty()).then(|| value.to_owned()))
        };
        let [key, reference, amount, currency] = columns.needed;
        let (wire_key, rail_reference) = (text(key, "wire_key")?, text(reference, "rail_reference")?);
        if wire_key.is_none() && rail_reference.is_none() {
            return Err(bad("neither a wire_key nor a rail_reference"));
        }
        let amount = text(amount, "amount_minor")?.unwrap_or_default();
        let is_number = !amount.is_empty() && amount.bytes().all(|byte| byte.is_ascii_digit());
        let amount_minor = amount.parse::<i64>().ok().filter(|amount| is_number && *amount > 0);
        let amount_minor = amount_minor
            .ok_or_else(|| bad(&format!("amount_minor `{}` is no positive whole number", amount.escape_debug())))?;
        let currency = text(currency, "currency")?.unwrap_or_default();
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(bad(&format!("currency `{}` is not like EUR", currency.escape_debug())));
        }
        let booked_at = match columns.booked_at.map(|place| text(place, "booked_at")).transpose()?.flatten() {
            Some(time) => Some(parse_time(&time).map_err(|why| bad(&format!("booked_at: {why}")))?),
            None => None,
        };
        if booked_at.is_some_and(|at| !self.booked.contains(&at)) {
            return Err(bad("booked_at is outside of the period: is it the right one?"));
        }
        let status = columns.status.map(|place| text(place, "status")).transpose()?.flatten();
        let is_paid =
            columns.status.is_none() || status.as_ref().is_some_and(|status| self.paid_statuses.contains(status));
        let line_no = i64::try_from(line_no).map_err(|_| bad("too many lines"))?;
        Ok(StatementLine { line_no, wire_key, rail_reference, amount_minor, currency, booked_at, status, is_paid })
    }

    fn bad(&self, line: u64, why: &str) -> Failure {
        Failure::new(Exit::BadData, format!("{}:{line}: {why}", self.path.display()))
    }
}

/// The name of a file without its folder, for the record.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "wire_key,rail_reference,amount_minor,currency";

    fn at(text: &str) -> OffsetDateTime {
        parse_time(text).unwrap()
    }

    fn read(content: impl AsRef<[u8]>, paid: &[&str]) -> Result<(Vec<StatementLine>, Summary), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let paid_statuses = paid.iter().map(|status| (*status).to_owned()).collect();
        let booked = at("2026-01-31T00:00:00Z")..at("2026-02-01T00:00:00Z");
        let statement = StatementFile { path: file.path().to_owned(), paid_statuses, booked };
        let mut lines = Vec::new();
        let whole = statement.read(|line| {
            lines.push(line);
            Ok(())
        });
        let name = file.path().display().to_string();
        whole.map(|whole| (lines, whole)).map_err(|failure| failure.message.replace(&name, "s.csv"))
    }

    #[test]
    fn columns_are_found_by_their_names_and_others_are_named() {
        let content = "Currency,note,amount_minor,rail_reference,wire_key\nEUR,x,100,R1,k1\nUSD,,7,\"R,2\",\n";
        let (lines, whole) = read(content, &[]).unwrap();
        let short: Vec<_> = lines
            .iter()
            .map(|l| (l.line_no, l.wire_key.as_deref(), l.rail_reference.as_deref(), l.amount_minor))
            .collect();
        assert_eq!(short, [(2, Some("k1"), Some("R1"), 100), (3, None, Some("R,2"), 7)]);
        assert_eq!((whole.lines, whole.paid_lines), (2, 2));
        assert_eq!(whole.ignored_columns, ["note"]);
        assert_eq!(whole.sums, BTreeMap::from([("EUR".to_owned(), 100), ("USD".to_owned(), 7)]));
    }

    #[test]
    fn only_lines_whose_status_says_so_are_paid() {
        let content =
            format!("{HEADER},status,booked_at\nk1,,5,EUR,BOOKED,2026-01-31T08:00:00Z\nk2,,5,EUR,REJECTED,\n");
        let (lines, whole) = read(&content, &["BOOKED"]).unwrap();
        assert_eq!(lines.iter().map(|line| line.is_paid).collect::<Vec<_>>(), [true, false]);
        assert_eq!((whole.paid_lines, whole.sums["EUR"]), (1, 5));
        assert!(read(&content, &[]).unwrap_err().contains("--paid-status"));
        assert!(read(format!("{HEADER}\n"), &["BOOKED"]).unwrap_err().contains("needs the column status"));
    }

    #[test]
    fn blanks_around_a_value_are_not_part_of_it_and_a_line_of_blanks_is_none() {
        let (lines, _) = read(format!("{HEADER}\n k1 , R1\t,1,EUR\n  \t\n,\" R2 \",1,EUR\n"), &[]).unwrap();
        let short: Vec<_> =
            lines.iter().map(|l| (l.line_no, l.wire_key.as_deref(), l.rail_reference.as_deref())).collect();
        assert_eq!(short, [(2, Some("k1"), Some("R1")), (4, None, Some("R2"))]);
    }

    #[test]
    fn line_that_was_booked_in_another_period_is_refused_by_its_line() {
        let content = |booked_at: &str| format!("{HEADER},booked_at\nk,R,1,EUR,\nk,R,1,EUR,{booked_at}\n");
        for inside in ["2026-01-31T00:00:00Z", "2026-01-31T23:59:59.999999Z"] {
            assert_eq!(read(content(inside), &[]).unwrap().0[1].booked_at, Some(at(inside)));
        }
        for outside in ["2026-01-30T23:59:59Z", "2026-02-01T00:00:00Z"] {
            let refused = read(content(outside), &[]).map(|_| ());
            assert_eq!(refused, Err("s.csv:3: booked_at is outside of the period: is it the right one?".to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let good = "k,R,1,EUR\n";
        for (content, message) in [
            ("wire_key,amount_minor\n".to_owned(), "s.csv:1: without the column rail_reference, currency"),
            (format!("{HEADER},wire_key\n"), "s.csv:1: the column wire_key is there twice"),
            (format!("{HEADER}\n{good}k,R,1\n"), "s.csv:3: 3 fields instead of 4"),
            (format!("{HEADER}\n{good}{good},,1,EUR\n"), "s.csv:4: neither a wire_key nor a rail_reference"),
            (format!("{HEADER}\nk,R,1.50,EUR\n"), "s.csv:2: amount_minor `1.50` is no positive whole number"),
            (format!("{HEADER}\nk,R,-1,EUR\n"), "s.csv:2: amount_minor `-1` is no positive whole number"),
            (
                format!("{HEADER}\nk,R,99999999999999999999,EUR\n"),
                "s.csv:2: amount_minor `99999999999999999999` is no positive whole number",
            ),
            (format!("{HEADER}\nk,R,1,eur\n"), "s.csv:2: currency `eur` is not like EUR"),
            (format!("{HEADER}\n{good}k,R,1,\"EUR\n"), "s.csv:3: a quote is not closed"),
            (String::new(), "s.csv:1: the file is empty"),
            (
                format!("{HEADER}\nk,\"a\nb\",1,EUR\n"),
                "s.csv:2: rail_reference has control characters, or more than 256",
            ),
        ] {
            let refused = read(&content, &[]).map(|_| ());
            assert_eq!(refused, Err(message.to_owned()), "{content}");
        }
    }
}
