//! The dispatcher daemon and its commands. A table of contents; `main.rs` is the way in.

pub mod cli;
pub mod clock;
mod commands;
pub mod config;
pub mod dispatch;
pub mod events;
pub mod exit;
pub mod health;
pub mod health_server;
mod hex;
mod log_queue;
pub mod logging;
pub mod metrics;
pub mod parsers;
pub mod secrets;
pub mod settings;
pub mod shutdown;
pub mod systemd;
