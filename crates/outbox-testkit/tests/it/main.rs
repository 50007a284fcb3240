//! Claims about the test kit itself: a fixture that leaks servers or loses durability would make every
//! other test worth less.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

mod certs;
mod child_guard;
mod fault_proxy;
mod pg_server;
mod proxied;
mod proxy_answers;
mod proxy_network;
mod test_db;
