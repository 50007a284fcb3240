//! The URL of a rail: one that is taken leads where another reader of URLs says, is no way around TLS, and has one origin.

use std::net::IpAddr;

use http::Uri;
use outbox_rail::{PlainHttp, origin, parse_url};
use url::{Host, Url};

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (here, anywhere) = (parse_url(text, PlainHttp::LoopbackOnly), parse_url(text, PlainHttp::Anywhere));
    if let Ok(uri) = &here {
        assert_eq!(anywhere.as_ref(), Ok(uri), "allowed on this machine, and not anywhere");
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let is_loopback =
            host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        assert!(uri.scheme_str() == Some("https") || is_loopback, "plain http to {host}");
    }
    if let Ok(uri) = anywhere {
        accepted(&uri, text);
    }
}

fn accepted(uri: &Uri, text: &str) {
    assert!(!text.contains('#'), "a fragment");
    let authority = uri.authority().expect("a host");
    assert!(!authority.as_str().contains('@'), "a user or a password");
    let scheme = uri.scheme_str().expect("a scheme").to_ascii_lowercase();
    assert!(scheme == "https" || scheme == "http", "{scheme}");
    let origin_of = |text: &str| parse_url(text, PlainHttp::Anywhere).map(|uri| origin(&uri));
    let own = origin(uri);
    assert_eq!(origin_of(&own).as_ref(), Ok(&own), "the origin of an origin is another");
    // Another library, written after another standard.
    let Ok(url) = Url::parse(text) else { return };
    assert_eq!(url.scheme(), scheme);
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    assert_eq!(url.port_or_known_default(), Some(port), "another port");
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    match url.host() {
        Some(Host::Domain(name)) => assert_eq!(name, host, "another host"),
        Some(Host::Ipv6(ip)) => assert_eq!(host.trim_matches(['[', ']']).parse(), Ok(IpAddr::from(ip))),
        // What the other standard also takes for an address (0x7f.1, 2130706433) is a name here, and looked up as one.
        Some(Host::Ipv4(ip)) => assert!(host.parse::<IpAddr>().map_or(true, |own| own == IpAddr::from(ip))),
        None => panic!("no host at all"),
    }
}
