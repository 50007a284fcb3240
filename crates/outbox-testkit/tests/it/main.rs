//! Claims about the test kit itself: a fixture that leaks servers or loses durability would make every
//! other test worth less.

mod pg_server;
mod test_db;
