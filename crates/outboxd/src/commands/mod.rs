//! One file a command. A table of contents; `cli` leads to each.

pub(crate) mod check_config;
pub(crate) mod completions;
pub(crate) mod man;
