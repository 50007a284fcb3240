//! The dispatcher daemon and its commands. A table of contents; `main.rs` is the way in.

pub mod config;
pub mod secrets;
