//! The progress bar: on standard error, without colours, and only where that is a terminal.

use std::io::{IsTerminal, Read, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What moves the bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    Payments,
}

/// How far an input is read and recorded.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    unit: Unit,
}

impl Progress {
    /// Through a file of `bytes`.
    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self::new(Unit::Bytes, Some(bytes), "[{elapsed}] {wide_bar} {bytes}/{total_bytes}, {eta} left  {msg}")
    }

    /// Through a number of payments.
    pub(super) fn of_payments(count: usize) -> Self {
        Self::new(Unit::Payments, Some(count as u64), "[{elapsed}] {wide_bar} {pos}/{len}, {eta} left")
    }

    /// Through input whose end is not known.
    pub(super) fn of_unknown_length() -> Self {
        Self::new(Unit::Payments, None, "[{elapsed}] {pos} payments")
    }

    fn new(unit: Unit, length: Option<u64>, template: &'static str) -> Self {
        if !stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), unit };
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        Self { bar: bar.with_style(style.progress_chars("=> ")), unit }
    }

    /// `input`, which moves the bar as it is read.
    pub(super) fn watching<R: Read>(&self, input: R) -> impl Read + use<R> {
        self.bar.wrap_read(input)
    }

    /// So many payments are recorded by now.
    pub(super) fn recorded(&self, payments: u64) {
        match self.unit {
            Unit::Bytes => self.bar.set_message(format!("{payments} payments")),
            Unit::Payments => self.bar.set_position(payments),
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
