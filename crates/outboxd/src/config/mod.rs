//! Configuration, from the file, the environment and the flags to checked values. A table of
//! contents: `load` is the way in, `model` what comes out.

mod check;
mod defaults;
mod describe;
mod fault;
mod files;
mod layer;
mod load;
pub mod model;
pub mod policy;
pub mod pulled;
mod raw;
mod warnings;

pub use check::Host;
pub use defaults::CONFIG_FILE;
pub use describe::{describe, sha256};
pub use fault::{Fault, Faults, KeyPath, Place};
pub use layer::ENVIRONMENT_PREFIX;
pub use load::{Loaded, Sources, load, parse};
pub use model::Config;
pub use warnings::warnings;
