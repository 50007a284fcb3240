//! The integration tests of outboxd: one binary, one module a subject.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cli;
mod config;
mod config_example;
mod health;
mod log_events;
mod packaging;
mod settings;
