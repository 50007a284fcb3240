//! Every parser of outside bytes with what must hold of whatever it reads: one function a target, which panics where something
//! does not hold. Under libFuzzer they are searched for such bytes (scripts/fuzz.sh); the tests replay what was found.

mod configuration;
mod csv;
mod database_url;
mod json;
mod names;
mod ndjson;
mod payment_ids;
mod pem;
mod policy;
mod pulled;
mod rail_answer;
mod rail_exchange;
mod rail_table;
mod rail_url;
mod retry_after;
mod state_file;
mod statement;
mod vault_answer;

/// One parser and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus`.
    pub name: &'static str,
    /// Panics if something does not hold of these bytes.
    pub check: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 15] = [
    Target { name: "configuration", check: configuration::target },
    Target { name: "database_url", check: database_url::target },
    Target { name: "names", check: names::target },
    Target { name: "ndjson", check: ndjson::target },
    Target { name: "payment_ids", check: payment_ids::target },
    Target { name: "pem", check: pem::target },
    Target { name: "policy", check: policy::target },
    Target { name: "pulled", check: pulled::target },
    Target { name: "rail_answer", check: rail_answer::target },
    Target { name: "rail_exchange", check: rail_exchange::target },
    Target { name: "rail_url", check: rail_url::target },
    Target { name: "retry_after", check: retry_after::target },
    Target { name: "state_file", check: state_file::target },
    Target { name: "statement", check: statement::target },
    Target { name: "vault_answer", check: vault_answer::target },
];

/// A text that stands for a secret in what is tried: where secrets may stand, no message shows it.
pub(crate) const CANARY: &str = "c4n4ry";

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
