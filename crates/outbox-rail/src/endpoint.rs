//! Where a rail is: its URL taken apart and checked. Connecting is not done here.

use std::net::Ipv6Addr;

use http::Uri;
use http::uri::{Authority, Scheme};
use rustls_pki_types::ServerName;
use thiserror::Error;

use crate::settings::PlainHttp;

/// A checked URL.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The whole URL.
    pub(crate) uri: Uri,
    /// The host without brackets, to resolve and to verify.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    /// Whether only addresses of this machine may be connected to.
    pub(crate) loopback_only: bool,
    /// The URL without its query, for the attempt row.
    pub(crate) shown: String,
}

/// Why a URL is none that payments can be posted to, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UrlFault {
    /// It does not parse.
    #[error("is no URL")]
    NotAUrl,
    /// It has another scheme, or no host.
    #[error("must begin with https:// and a host")]
    NoHost,
    /// Its host could be neither resolved nor checked against a certificate.
    #[error("has a host that is neither a name nor an address")]
    BadHost,
    /// Its port is empty, 0 or too large.
    #[error("has a port that is none; give one from 1 to 65535, or leave it out with its colon")]
    BadPort,
    /// It holds a secret.
    #[error("must not hold a user or password; use secret_headers")]
    Credentials,
    /// It has a fragment, which would not be sent.
    #[error("must not have a fragment (#)")]
    Fragment,
    /// It is plain http to where `plain_http` does not let it go.
    #[error("is plain http to another host; use https, or set allow_plain_http on a test network")]
    PlainHttp,
}

/// Checks the URL of a rail, as [`crate::HttpRail::new`] does.
///
/// # Errors
/// The first [`UrlFault`].
pub fn parse_url(url: &str, plain_http: PlainHttp) -> Result<Uri, UrlFault> {
    Endpoint::parse(url, plain_http).map(|endpoint| endpoint.uri)
}

/// By what an endpoint is known: scheme, host and port of its URL, as RFC 6454 writes an origin.
#[must_use]
pub fn origin(uri: &Uri) -> String {
    let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
    let (scheme, default_port) = if is_tls { ("https", 443) } else { ("http", 80) };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    match uri.port_u16() {
        Some(port) if port != default_port => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    }
}

impl Endpoint {
    pub(crate) fn parse(url: &str, plain_http: PlainHttp) -> Result<Self, UrlFault> {
        let uri: Uri = url.parse().map_err(|_| UrlFault::NotAUrl)?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(UrlFault::NoHost),
        };
        let authority = uri.authority().ok_or(UrlFault::NoHost)?;
        if authority.as_str().contains('@') {
            return Err(UrlFault::Credentials);
        }
        // `Uri` drops a fragment silently.
        if url.contains('#') {
            return Err(UrlFault::Fragment);
        }
        let port = port(authority)?.unwrap_or(if is_tls { 443 } else { 80 });
        // `Uri` takes anything in brackets for a host, and passes over what stands behind them.
        let host = match authority.host().strip_prefix('[') {
            Some(rest) => {
                rest.strip_suffix(']').filter(|inside| inside.parse::<Ipv6Addr>().is_ok()).ok_or(UrlFault::BadHost)?
            }
            None => authority.host(),
        };
        let host = host.to_owned();
        if host.is_empty() {
            return Err(UrlFault::NoHost);
        }
        if ServerName::try_from(host.as_str()).is_err() {
            return Err(UrlFault::BadHost);
        }
        let loopback_only = !is_tls && plain_http == PlainHttp::LoopbackOnly;
        if loopback_only && !names_this_machine(&host) {
            return Err(UrlFault::PlainHttp);
        }
        let shown = without_query(&uri);
        Ok(Self { host, port, is_tls, loopback_only, shown, uri })
    }
}

/// `uri` as it may be recorded: a query may hold what is not for everybody.
pub(crate) fn without_query(uri: &Uri) -> String {
    let scheme = if uri.scheme() == Some(&Scheme::HTTPS) { "https" } else { "http" };
    let authority = uri.authority().map_or("", Authority::as_str);
    format!("{scheme}://{authority}{}", uri.path())
}

/// The port, if there is one. `Authority::port` gives none as well for one that is empty or above 65535, and
/// the scheme's own would be connected to.
fn port(authority: &Authority) -> Result<Option<u16>, UrlFault> {
    let after_host = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if after_host.is_empty() {
        return Ok(None);
    }
    let digits = after_host.strip_prefix(':').ok_or(UrlFault::BadHost)?;
    let port = digits.parse().ok().filter(|port| *port != 0 && digits.bytes().all(|b| b.is_ascii_digit()));
    port.map(Some).ok_or(UrlFault::BadPort)
}

fn names_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, plain_http: PlainHttp, expected: Result<(&str, u16, bool), UrlFault>) {
        let got = Endpoint::parse(url, plain_http);
        let got = got.as_ref().map(|endpoint| (endpoint.host.as_str(), endpoint.port, endpoint.is_tls));
        assert_eq!(got, expected.as_ref().map(|parts| *parts), "{url}");
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_allowed() {
        let here = PlainHttp::LoopbackOnly;
        check("https://rail.example/pay", here, Ok(("rail.example", 443, true)));
        check("http://localhost:8080/pay", here, Ok(("localhost", 8080, false)));
        check("http://127.8.0.1/pay", here, Ok(("127.8.0.1", 80, false)));
        check("http://[::1]:81/pay", here, Ok(("::1", 81, false)));
        check("http://rail.example/pay", here, Err(UrlFault::PlainHttp));
        check("http://10.0.0.1/pay", here, Err(UrlFault::PlainHttp));
        check("http://localhost.example/pay", here, Err(UrlFault::PlainHttp));
        check("http://10.0.0.1/pay", PlainHttp::Anywhere, Ok(("10.0.0.1", 80, false)));
    }

    #[test]
    fn a_url_with_credentials_or_without_a_host_is_refused() {
        for (url, fault) in [
            ("", UrlFault::NotAUrl),
            ("/pay", UrlFault::NoHost),
            ("ftp://rail.example/pay", UrlFault::NoHost),
            ("https://user:word@rail.example/pay", UrlFault::Credentials),
            ("https://rail.example/pay#part", UrlFault::Fragment),
            ("https://rail..example/pay", UrlFault::BadHost),
            ("https://[rail.example]/pay", UrlFault::BadHost),
            ("https://[::1]8:8443/pay", UrlFault::BadHost),
            ("https://[::1]8/pay", UrlFault::BadHost),
            ("https://[::1", UrlFault::NotAUrl),
            ("https://-rail.example/pay", UrlFault::BadHost),
        ] {
            check(url, PlainHttp::Anywhere, Err(fault));
        }
    }

    #[test]
    fn a_port_that_is_none_never_becomes_the_schemes_own() {
        for host in ["rail.example", "10.0.0.1", "[::1]"] {
            for port in ["65536", "99999", "4294967739", "0", "00", "+80", ""] {
                for scheme in ["https", "http"] {
                    check(&format!("{scheme}://{host}:{port}/pay"), PlainHttp::Anywhere, Err(UrlFault::BadPort));
                }
            }
        }
        check("https://rail.example:65535", PlainHttp::Anywhere, Ok(("rail.example", 65535, true)));
        check("https://[::1]:1/", PlainHttp::Anywhere, Ok(("::1", 1, true)));
    }

    #[test]
    fn two_urls_have_one_origin_if_scheme_host_and_port_are_the_same() {
        let origin = |url: &str| origin(&url.parse().expect("a url"));
        assert_eq!(origin("https://Rail.Example/v1/pay?x=1"), "https://rail.example");
        assert_eq!(origin("https://rail.example:443/v2"), "https://rail.example");
        assert_eq!(origin("https://rail.example:444/v2"), "https://rail.example:444");
        assert_eq!(origin("http://127.0.0.1:80"), "http://127.0.0.1");
        assert_eq!(origin("http://[::1]:8080/pay"), "http://[::1]:8080");
    }

    #[test]
    fn the_query_is_not_shown() {
        let endpoint = Endpoint::parse("https://rail.example:444/pay?token=x", PlainHttp::LoopbackOnly);
        assert_eq!(endpoint.expect("a url").shown, "https://rail.example:444/pay");
    }
}
