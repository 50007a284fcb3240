//! Configuration, from the file, the environment and the flags to checked values.

pub mod model;

pub use model::Config;
