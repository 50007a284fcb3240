//! The rail from outside: what goes over the wire under each fault, and what its files say afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

mod faults;
mod inquiries;
mod keys;
mod points;
mod process;
mod raw;
mod tls;
