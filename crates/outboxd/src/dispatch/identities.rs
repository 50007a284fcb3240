//! As whom this daemon presents itself: the client certificate of each rail, by its fingerprint. Whether one is revoked
//! is asked of the database; that a file cannot be read is told by the connection that needs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use outbox_core::RailName;
use outbox_store::{Fingerprint, RevokedCert};

use time::format_description::well_known::Rfc3339;

use crate::config::Config;
use crate::hex;

/// The certificate files, by rail.
#[derive(Clone, Debug)]
pub(crate) struct Identities(BTreeMap<RailName, PathBuf>);

impl Identities {
    /// Those of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let files = config
            .rails
            .iter()
            .filter_map(|(rail, configured)| Some((rail.clone(), configured.tls.client.as_ref()?.cert_file.clone())));
        Self(files.collect())
    }

    /// The fingerprints, of the files as they are now: each is read again when a connection is opened, too.
    pub(crate) fn fingerprints(&self) -> BTreeMap<RailName, Fingerprint> {
        let read = |(rail, file): (&RailName, &PathBuf)| {
            Some((rail.clone(), outbox_rail::fingerprint(&fs::read(file).ok()?).ok()?))
        };
        self.0.iter().filter_map(read).collect()
    }
}

/// Why each rail whose certificate is among `revoked` is left alone.
pub(crate) fn reasons(
    fingerprints: &BTreeMap<RailName, Fingerprint>,
    revoked: &[RevokedCert],
) -> BTreeMap<RailName, String> {
    let of = |(rail, fingerprint): (&RailName, &Fingerprint)| {
        let entry = revoked.iter().find(|entry| entry.fingerprint == *fingerprint)?;
        let RevokedCert { revoked_by, revoked_at, reason, .. } = entry;
        let (certificate, at) = (hex::encode(fingerprint), revoked_at.format(&Rfc3339).unwrap_or_default());
        let what =
            format!("its client certificate, SHA-256 {certificate}, was revoked by {revoked_by} at {at}: {reason}");
        Some((rail.clone(), what))
    };
    fingerprints.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn only_the_rail_of_a_revoked_certificate_is_left_alone() {
        let rail = |name: &str| RailName::new(name).unwrap();
        let own = BTreeMap::from([(rail("a"), [1; 32]), (rail("b"), [2; 32]), (rail("c"), [2; 32])]);
        let entry = |fingerprint| RevokedCert {
            fingerprint,
            revoked_at: OffsetDateTime::UNIX_EPOCH,
            revoked_by: "anna".to_owned(),
            reason: "stolen".to_owned(),
        };
        assert!(reasons(&own, &[entry([3; 32])]).is_empty());
        let left = reasons(&own, &[entry([3; 32]), entry([2; 32])]);
        assert_eq!(left.keys().map(RailName::as_str).collect::<Vec<_>>(), ["b", "c"]);
        let said = format!(
            "its client certificate, SHA-256 {}, was revoked by anna at 1970-01-01T00:00:00Z: stolen",
            "02".repeat(32)
        );
        assert_eq!(left[&rail("b")], said);
    }
}
