//! The rules of `docs/STYLE.md` that a machine can check cheaply. Each rule is a function from the tree
//! of files to findings; the tests in `tests/it` run every rule on this repository, and each rule's own
//! tests run it on a tree that breaks it. Nothing here changes a file.

pub mod boundary;
pub mod boundary_code;
pub mod clients;
pub mod dependencies;
pub mod documents;
pub mod invariants;
pub mod junit;
pub mod layout;
pub mod machines;
pub mod markdown;
pub mod mentions;
pub mod phantoms;
pub mod register;
pub mod rust_code;
pub mod rust_files;
pub mod sql;
pub mod tree;
pub mod words;

pub use tree::{Finding, Tree};
