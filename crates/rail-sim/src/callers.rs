//! Whom the rail takes payments from, by what they show. How they are told that it does not is `exchange`'s part.

use std::collections::BTreeSet;

use crate::record::Received;

/// The hashes of what callers show; an empty set asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers {
    /// SHA-256 of the whole Authorization header.
    pub authorization_sha256: BTreeSet<String>,
    /// SHA-256 of the client's certificate, DER.
    pub certificate_sha256: BTreeSet<String>,
}

impl Callers {
    pub(crate) fn admit(&self, received: &Received) -> bool {
        let among = |known: &BTreeSet<String>, shown: Option<&String>| {
            known.is_empty() || shown.is_some_and(|shown| known.contains(shown))
        };
        among(&self.authorization_sha256, received.authorization_sha256.as_ref())
            && among(&self.certificate_sha256, received.client_certificate_sha256.as_ref())
    }
}
