//! What the daemon knows of the active policy: whether it is what two people approved, and whether a rail's contract in the
//! database is the one that it says. Judged anew at each read; nothing is read here.

use std::collections::BTreeMap;
use std::sync::Arc;

use outbox_core::{PolicyVersion, RailName};
use outbox_store::{ActivePolicy, RailRow, Rules};

use crate::config::policy::{Policy, PolicyRail, checksum, parse_document};
use crate::hex;

/// The active policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum PolicyNow {
    /// There is none: contracts are set by one person, and tables of codes are in the file.
    #[default]
    None,
    /// It is not what was approved, or this version does not understand it; why.
    Lies(String),
    /// It is this one.
    Active(PolicyVersion, Arc<Policy>),
}

/// What the active policy is to one rail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RailPolicy {
    /// There is none.
    None,
    /// The rail must not be dispatched; why.
    Off(String),
    /// It is dispatched by these decisions.
    Active(PolicyVersion, Arc<PolicyRail>),
}

/// A document that was read: its hash, and what it says, or why that is not understood.
#[derive(Debug)]
struct Document {
    hash: [u8; 32],
    policy: Result<Arc<Policy>, String>,
}

/// The policies that were read so far.
#[derive(Debug, Default)]
pub(crate) struct PolicyWatch {
    last: Option<Document>,
    /// The hash of each version when it was read first: a version never changes.
    seen: BTreeMap<PolicyVersion, [u8; 32]>,
}

impl PolicyWatch {
    /// The hash of the document that need not be read again.
    pub(crate) fn known(&self) -> Option<[u8; 32]> {
        self.last.as_ref().map(|document| document.hash)
    }

    /// What was read, judged.
    pub(crate) fn judge(&mut self, read: Option<ActivePolicy>) -> PolicyNow {
        let Some(ActivePolicy { version, document, checksums }) = read else { return PolicyNow::None };
        let lies = |what: String| PolicyNow::Lies(format!("policy version {version} {what}"));
        if checksums[0].is_none() {
            return lies("has no document".to_owned());
        }
        if let Some(text) = document {
            self.last = Some(Document { hash: checksum(&text), policy: parse_document(&text).map(Arc::new) });
        }
        let Some(Document { hash, policy }) = &self.last else { return lies("came without its document".to_owned()) };
        for (name, on_record) in ["its own checksum", "the one approved", "the one activated"].iter().zip(&checksums) {
            if on_record.as_deref() != Some(hash) {
                let on_record = on_record.as_deref().map_or_else(|| "none".to_owned(), hex::encode);
                return lies(format!(
                    "is not what was approved: its document has SHA-256 {}, {name} is {on_record}",
                    hex::encode(hash)
                ));
            }
        }
        let first = *self.seen.entry(version).or_insert(*hash);
        if first != *hash {
            return lies(format!(
                "has changed: its document had SHA-256 {} and has {}",
                hex::encode(&first),
                hex::encode(hash)
            ));
        }
        match policy {
            Ok(policy) => PolicyNow::Active(version, Arc::clone(policy)),
            Err(fault) => lies(format!("is not understood: {fault}")),
        }
    }
}

impl PolicyNow {
    /// What one read of the database says, without a memory of earlier ones.
    pub(crate) fn of(rules: &Rules) -> Self {
        PolicyWatch::default().judge(rules.policy.clone())
    }

    /// What the policy is to `rail`, whose contract is in `row`.
    pub(crate) fn of_rail(&self, rail: &RailName, row: Option<&RailRow>) -> RailPolicy {
        let (version, policy) = match self {
            Self::None => return RailPolicy::None,
            Self::Lies(why) => return RailPolicy::Off(why.clone()),
            Self::Active(version, policy) => (*version, policy),
        };
        let Some(decided) = policy.rails.get(rail) else {
            return RailPolicy::Off(format!("rail {rail} is not in policy version {version}"));
        };
        let Some(row) = row else {
            return RailPolicy::Off(format!("payment_rails has no row of it, and policy version {version} has"));
        };
        if row.policy_version != Some(version) {
            let stamped = row.policy_version.map_or_else(|| "none".to_owned(), |stamped| stamped.to_string());
            return RailPolicy::Off(format!("its contract is of policy version {stamped}, and {version} is active"));
        }
        let columns = serde_json::from_str(&row.columns).unwrap_or_default();
        let differing = decided.contract.differs_from(&columns);
        if differing.is_empty() {
            return RailPolicy::Active(version, Arc::new(decided.clone()));
        }
        RailPolicy::Off(format!(
            "its contract in payment_rails is not that of policy version {version}: {}",
            differing.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(max_sends: u32) -> String {
        let file = format!(
            "format = 1\n[rails.sepa]\nreference_json_pointer = \"/id\"\nendpoints = [{{ origin = \"https://a\" }}]\n\
             contract = {{ on_unknown = \"hold\", max_sends = {max_sends} }}\n"
        );
        crate::config::policy::parse("p.toml".as_ref(), &file).unwrap().document()
    }

    fn read(version: i32, document: &str, checksums: [&str; 3]) -> Option<ActivePolicy> {
        let checksums = checksums.map(|of| Some(checksum(of).to_vec()));
        Some(ActivePolicy { version: PolicyVersion(version), document: Some(document.to_owned()), checksums })
    }

    #[track_caller]
    fn lies(now: &PolicyNow, word: &str) {
        let PolicyNow::Lies(why) = now else { panic!("{now:?} is believed") };
        assert!(why.contains(word), "{why}");
    }

    #[test]
    fn a_document_is_believed_only_where_all_three_checksums_are_its_own() {
        let (good, other) = (text(3), text(4));
        let mut watch = PolicyWatch::default();
        assert_eq!(watch.judge(None), PolicyNow::None);
        assert!(matches!(watch.judge(read(1, &good, [&good, &good, &good])), PolicyNow::Active(PolicyVersion(1), _)));
        lies(&watch.judge(read(1, &good, [&other, &good, &good])), "its own checksum");
        lies(&watch.judge(read(1, &good, [&good, &other, &good])), "the one approved");
        lies(&watch.judge(read(1, &good, [&good, &good, &other])), "the one activated");
        let mut missing = read(1, &good, [&good, &good, &good]).unwrap();
        missing.checksums[1] = None;
        lies(&watch.judge(Some(missing.clone())), "the one approved is none");
        missing.checksums[0] = None;
        lies(&watch.judge(Some(missing)), "no document");
    }

    #[test]
    fn a_version_that_was_forged_whole_is_told_by_who_read_it_before() {
        let (good, other) = (text(3), text(4));
        let mut watch = PolicyWatch::default();
        watch.judge(read(1, &good, [&good, &good, &good]));
        lies(&watch.judge(read(1, &other, [&other, &other, &other])), "has changed");
        assert!(matches!(watch.judge(read(2, &other, [&other, &other, &other])), PolicyNow::Active(..)));
    }

    #[test]
    fn a_document_that_is_left_out_is_the_one_that_was_read() {
        let good = text(3);
        let mut left_out = read(1, &good, [&good, &good, &good]).unwrap();
        left_out.document = None;
        lies(&PolicyWatch::default().judge(Some(left_out.clone())), "without its document");
        let mut watch = PolicyWatch::default();
        watch.judge(read(1, &good, [&good, &good, &good]));
        assert_eq!(watch.known(), Some(checksum(&good)));
        assert!(matches!(watch.judge(Some(left_out)), PolicyNow::Active(..)));
    }

    #[test]
    fn a_document_that_is_not_understood_or_not_canonical_is_not_believed() {
        let unknown = text(3).replace("\"paused\"", "\"pauses\"");
        let blank = text(3).replace("\"format\":1", "\"format\": 1");
        for (text, word) in [(&unknown, "contract.pauses"), (&blank, "canonical"), (&"x".to_owned(), "not understood")]
        {
            lies(&PolicyWatch::default().judge(read(1, text, [text, text, text])), word);
        }
    }

    #[test]
    fn a_contract_that_differs_turns_its_rail_off_and_names_the_column() {
        let document = text(3);
        let now = PolicyWatch::default().judge(read(7, &document, [&document, &document, &document]));
        let rail = RailName::new("sepa").unwrap();
        let PolicyNow::Active(version, policy) = &now else { panic!("{now:?}") };
        let row = |changes: &dyn Fn(&mut serde_json::Value), stamp| {
            let mut columns = policy.rails[&rail].contract.value();
            changes(&mut columns);
            RailRow {
                rail: rail.clone(),
                on_unknown: "hold".to_owned(),
                amount_required: true,
                require_attestation: false,
                contract: None,
                policy_version: stamp,
                columns: columns.to_string(),
            }
        };
        let stamped = Some(*version);
        let off = |row: RailRow| match now.of_rail(&rail, Some(&row)) {
            RailPolicy::Off(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(matches!(now.of_rail(&rail, Some(&row(&|_| {}, stamped))), RailPolicy::Active(..)));
        assert!(off(row(&|c| c["max_sends"] = 4.into(), stamped)).ends_with(": max_sends"));
        assert!(off(row(&|c| c["fallback"] = true.into(), stamped)).ends_with(": fallback"));
        let later = row(&|c| c["of_a_later_schema"] = true.into(), stamped);
        assert!(matches!(now.of_rail(&rail, Some(&later)), RailPolicy::Active(..)));
        assert!(off(row(&|c| drop(c.as_object_mut().unwrap().remove("paused")), stamped)).ends_with(": paused"));
        assert!(off(row(&|c| c["require_attestation"] = true.into(), stamped)).ends_with(": require_attestation"));
        assert!(off(row(&|_| {}, None)).contains("policy version none"));
        assert!(matches!(now.of_rail(&rail, None), RailPolicy::Off(_)));
        assert!(matches!(now.of_rail(&RailName::new("other").unwrap(), None), RailPolicy::Off(_)));
    }
}
