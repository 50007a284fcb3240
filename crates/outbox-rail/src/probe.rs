//! Whether a rail can be reached: name, TCP and TLS, as for a payment, and until when its certificate is good. HTTP is
//! never begun. What to do about it is not decided here.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rustls::client::danger::ServerCertVerifier as _;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error as ThisError;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};

use crate::connect::{Transport, reach};
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::tls::Tls;

/// A chain is judged as of this far ahead first, so that an authority that ends before the rail's own certificate is
/// noticed while somebody can still act.
const SOON: Duration = Duration::from_secs(30 * 86_400);

/// Past the year 9999, the last that a certificate can name: the rail's own is judged first, and the judgement tells
/// its end.
const FAR: Duration = Duration::from_secs(8_000 * 365 * 86_400);

/// A rail that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where.
    pub address: SocketAddr,
    /// Whether by TLS.
    pub is_tls: bool,
    /// The end of the first certificate of the rail's chain to end within 30 days, or else of the rail's own.
    pub certificate_ends: Option<SystemTime>,
}

/// Why a rail could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{class}{}", detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
pub struct ProbeFault {
    /// The word that an attempt would have as its `error_class`.
    pub class: &'static str,
    /// A few more.
    pub detail: Option<String>,
}

impl From<Fault> for ProbeFault {
    fn from(fault: Fault) -> Self {
        Self { class: fault.class, detail: fault.detail }
    }
}

/// Reaches the rail before `until`.
pub(crate) async fn probe(endpoint: &Endpoint, tls: Option<&Tls>, until: Instant) -> Result<Probe, ProbeFault> {
    let reached = timeout_at(until, reach(endpoint, tls, until)).await;
    let mut reached = reached.unwrap_or(Err(Fault::plain("connect_timeout")))?;
    let certificate_ends = match (&reached.transport, tls) {
        (Transport::Tls { stream, .. }, Some(tls)) => {
            stream.get_ref().1.peer_certificates().and_then(|chain| end_of(chain, tls))
        }
        _ => None,
    };
    // A goodbye, so that the rail logs no broken connection; it is none of ours whether it is heard.
    let _ = timeout_at(until, reached.transport.shutdown()).await;
    Ok(Probe { address: reached.address, is_tls: tls.is_some(), certificate_ends })
}

/// Asks the judge of certificates itself: what it refuses as expired, it refuses with the time.
fn end_of(chain: &[CertificateDer<'_>], tls: &Tls) -> Option<SystemTime> {
    let (first, others) = chain.split_first()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let (verifier, name) = (tls.verifier(), tls.server_name());
    let refused_at = |ahead: Duration| {
        let at = UnixTime::since_unix_epoch(now + ahead);
        match verifier.verify_server_cert(first, others, &name, &[], at) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                Some(SystemTime::UNIX_EPOCH + Duration::from_secs(not_after.as_secs()))
            }
            _ => None,
        }
    };
    refused_at(SOON).or_else(|| refused_at(FAR))
}
