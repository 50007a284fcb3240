//! Certificates and keys in PEM: what is known of a certificate does not depend on what stands around it, and what is none is
//! said to be none wherever it is asked.

use outbox_rail::{check_authorities, check_certificates, check_identity, fingerprint};

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let (certificates, known) = (check_certificates(data), fingerprint(data));
    assert_eq!(certificates.err(), known.err(), "a chain without a fingerprint, or a fingerprint without a chain");
    let after_text = [b"subject=rail.example\n", data].concat();
    assert_eq!(check_authorities(&after_text), check_authorities(data), "text before it makes it another authority");
    if let Ok(known) = known {
        assert_eq!(fingerprint(&after_text), Ok(known), "text before it makes it another certificate");
        let twice = [data, b"\n", data].concat();
        assert_eq!(fingerprint(&twice), Ok(known), "a chain is known by another than its first");
    }
    // One file that holds both, as some tools write it.
    let identity = check_identity(data, data);
    assert!(identity.is_err() || certificates.is_ok(), "an identity without a certificate");
    assert_eq!(check_identity(&after_text, &after_text), identity, "text before it makes it another identity");
}
