//! The rail from outside: what goes over the wire under each fault, and what its files say afterwards.

mod faults;
mod keys;
mod points;
mod process;
mod raw;
mod tls;
