//! Probing a rail: until when its certificate is good, why it cannot be reached, and that it hears no HTTP.

use std::time::{Duration, SystemTime};

use outbox_core::Millis;
use outbox_rail::{HttpRailSettings, TlsSettings};
use rcgen::{CertificateParams, date_time_ymd};

use crate::hostile::{Hostile, rail, settings};
use crate::tls::{Asks, Authority, https, secured};

const DAY: Duration = Duration::from_secs(86_400);

/// Seconds since 1970 in so many days.
fn in_days(days: u32) -> u64 {
    (SystemTime::now() + DAY * days).duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

#[tokio::test]
async fn a_probe_tells_the_end_of_the_certificate_and_sends_no_http() {
    let authority = Authority::new();
    for days in [3, 29, 31, 400_000] {
        let end = in_days(days);
        let ends =
            |params: &mut CertificateParams| params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
        let hostile = secured(authority.acceptor("localhost", Asks::No, rustls::ALL_VERSIONS, ends)).await;
        let found = rail(https(&hostile, authority.trusted(None))).probe().await.expect("reached");
        assert_eq!((found.address, found.is_tls), (hostile.address, true));
        assert_eq!(found.certificate_ends, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(end)), "{days} days");
        assert_eq!((hostile.bytes(), hostile.requests().len()), (0, 0));
    }
    let plain = Hostile::answering(b"").await;
    let found = rail(settings(format!("http://localhost:{}/pay", plain.address.port()))).probe().await;
    let found = found.expect("reached");
    assert_eq!((found.is_tls, found.certificate_ends, plain.bytes()), (false, None, 0));
}

#[tokio::test]
async fn a_probe_names_why_a_rail_cannot_be_reached() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let secured = secured(theirs.acceptor("localhost", Asks::Yes, rustls::ALL_VERSIONS, |_| {})).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let url = |text: String| HttpRailSettings { connect_timeout: Millis(5_000), ..settings(text) };
    for (settings, class, words) in [
        (https(&secured, ours.trusted(None)), "tls", "UnknownIssuer"),
        (https(&secured, theirs.trusted(None)), "tls_refused", "CertificateRequired"),
        (
            https(&secured, TlsSettings { server_name: Some("other.example".to_owned()), ..theirs.trusted(None) }),
            "tls",
            "not valid for name",
        ),
        (url(format!("http://{nobody}/")), "connect", "refused"),
        (url("https://rail.invalid/".to_owned()), "dns", ""),
    ] {
        let fault = rail(settings).probe().await.expect_err("it cannot be reached");
        assert_eq!(fault.class, class, "{fault}");
        assert!(fault.to_string().contains(words), "{fault}");
    }
    assert_eq!(secured.bytes(), 0);
}
