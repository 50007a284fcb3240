//! One file a command. A table of contents; `cli` leads to each.

pub(crate) mod audit;
pub(crate) mod check_config;
pub(crate) mod completions;
pub(crate) mod control;
mod csv_reader;
pub(crate) mod database;
pub(crate) mod doctor;
pub(crate) mod enqueue;
pub(crate) mod evidence;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod migrate;
mod output;
pub(crate) mod partitions;
pub(crate) mod pg_service;
pub(crate) mod policy;
pub(crate) mod rail;
pub(crate) mod reconcile;
pub(crate) mod run;
pub(crate) mod secrets;
pub(crate) mod status;
mod store_failure;
