//! How the answers of commands look: tables for people, JSON for programs; times in UTC. Nothing from
//! outside reaches a terminal with its control characters alive.

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use outbox_core::Millis;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// A table with `header`, without lines, whose columns from `numbers_from` on are aligned to the right.
pub(crate) fn table(header: &[&str], numbers_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(numbers_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The table as text, without blanks at the ends of lines.
pub(crate) fn render(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A time, in UTC to the millisecond.
pub(crate) fn utc(at: OffsetDateTime) -> String {
    // Formatting fails only for a year of more than four digits.
    at.to_offset(time::UtcOffset::UTC).format(TIME).unwrap_or_else(|_| at.to_string())
}

/// A length of time for people: `850ms`, `42s`, `3h 5m`.
pub(crate) fn age(length: Millis) -> String {
    let (millis, seconds) = (length.0, length.0 / 1_000);
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A hash as people compare it.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `text` with its control characters escaped: a rail's answer could otherwise rewrite the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn ages_have_two_units_at_most() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (61_000, "1m 1s"),
            (3_600_000, "1h 0m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(age(Millis(millis)), text);
        }
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(utc(datetime!(2026-01-31 08:00:00.1239 +2)), "2026-01-31T06:00:00.123Z");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("\u{1b}[2Jok\u{9b}\r\n"), "\\u{1b}[2Jok\\u{9b}\\r\\n");
        assert_eq!(printable("Zürich \\ \"x\""), "Zürich \\ \"x\"");
    }
}
