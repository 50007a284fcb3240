//! The integration tests of outboxd: one binary, one module a subject.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod breaker;
mod cli;
mod commands_binary;
mod commands_control;
mod commands_directory;
mod commands_enqueue;
mod commands_inspect;
mod commands_migrate;
mod commands_rail;
mod commands_reconcile;
mod commands_status;
mod config;
mod config_certificates;
mod config_example;
mod config_inquiry;
mod crashes;
mod daemon_start;
mod database_faults;
mod deaf_rail;
mod documents;
mod drain;
mod end_to_end;
mod fail_closed;
mod fail_closed_running;
mod failover;
mod health;
mod idle;
mod inquiry;
mod launch;
mod leases;
mod log_events;
mod log_sink;
mod metrics;
mod outcomes;
mod packaging;
mod pooler;
mod rail_answers;
mod rails_faults;
mod rig;
mod rig_conservation;
mod routes;
mod settings;
mod upgrade;
mod wakeup;
