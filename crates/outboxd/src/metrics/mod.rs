//! What `/metrics` shows: one table of all metrics, what the daemon counts, what the database says, and the page.

pub mod catalogue;
mod counters;
mod histogram;
mod page;
mod sample;
mod text;

pub use counters::Metrics;
pub(crate) use counters::{ClaimResult, RailMetrics};
pub use page::{CONTENT_TYPE, render};
pub(crate) use sample::Sample;
