//! The protocol, explored as a whole, with its protections and without each.

mod protocol;
