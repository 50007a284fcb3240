//! Secrets from a server with Vault's API (OpenBao, HashiCorp Vault), and into files of one directory. A table of contents.
//! Which secrets, and when, is the caller's business; nothing here is part of sending payments.

mod answer;
mod directory;
mod error;
mod session;
mod tls;
mod transport;

pub use answer::{KvVersion, read_field, read_login};
pub use directory::{Change, Directory, is_file_name};
pub use error::{Class, SecretsError};
pub use session::{AppRole, Place, Pulled, Wanted, pull};
pub use transport::Server;
