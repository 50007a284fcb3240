//! The file: what stands in it, how its status follows from that, and the hash that it ends with. Reading is strict: a
//! key that this version does not know may mean what it cannot judge.

use serde::{Deserialize, Serialize};

use super::fingerprint::sha256_of;

/// The form of the file; a change that older readers would misread has another name.
pub(super) const FORMAT: &str = "outboxd-evidence/1";

/// What became of a gate, and of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    /// What was checked holds.
    #[serde(rename = "PASS")]
    Pass,
    /// It does not, or was not checked.
    #[serde(rename = "FAIL")]
    Fail,
    /// The product was driven into distress, and stopped as it promises.
    #[serde(rename = "FAIL_CLOSED")]
    FailClosed,
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::FailClosed => "FAIL_CLOSED",
        }
    }
}

/// A file or folder that a gate read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    pub(super) path: String,
    pub(super) sha256: String,
}

/// A gate and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gate {
    pub(super) name: String,
    pub(super) command: String,
    pub(super) status: Status,
    pub(super) exit_code: Option<i32>,
    pub(super) seconds: Option<u64>,
    /// The last line of what it printed.
    pub(super) said: String,
    pub(super) output_sha256: Option<String>,
    pub(super) inputs: Vec<Input>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) git_sha: Option<String>,
    pub(super) is_dirty: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) description: String,
    pub(super) checksum: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
}

/// The policy that is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) version: i32,
    pub(super) sha256: String,
}

/// How many payments there are, in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Conservation {
    pub(super) identities: Option<i64>,
    pub(super) pending: i64,
    pub(super) examined: i64,
    pub(super) breaches: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    pub(super) server_version_num: i32,
    pub(super) system_identifier: String,
    pub(super) durability: Vec<Setting>,
    pub(super) schema_sha256: String,
    pub(super) schema_facts: usize,
    pub(super) migrations: Vec<Migration>,
    /// None where contracts are set by hand.
    pub(super) policy: Option<Policy>,
    pub(super) conservation: Conservation,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) format: String,
    pub(super) status: Status,
    pub(super) collected_at: String,
    pub(super) program: String,
    pub(super) source: Source,
    pub(super) database: Option<Database>,
    pub(super) gates: Vec<Gate>,
    /// What should be known and is not, or is not as it has to be.
    pub(super) missing: Vec<String>,
    /// SHA-256 of this document, as it is serialised with this field empty.
    pub(super) sha256: String,
}

impl Document {
    /// The status that follows from what stands in the file.
    pub(super) fn judged(&self) -> Status {
        let failed = self.gates.iter().any(|gate| gate.status == Status::Fail);
        if failed || self.gates.is_empty() || self.database.is_none() || !self.missing.is_empty() {
            return Status::Fail;
        }
        Status::Pass
    }

    /// The hash that the file has to end with.
    pub(super) fn hash(&self) -> String {
        let bare = Self { sha256: String::new(), ..self.clone() };
        // It has string keys and numbers only: nothing that JSON cannot say.
        sha256_of(serde_json::to_string(&bare).unwrap_or_default().as_bytes())
    }

    /// The file, a line for each thing in it.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}
