//! Where a rail is: its URL taken apart and checked. Connecting is not done here.

use http::Uri;
use http::uri::Scheme;

use crate::error::RailError;
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

impl Endpoint {
    pub(crate) fn parse(url: &str, plain_http: PlainHttp) -> Result<Self, RailError> {
        let bad = |reason| RailError::Url { reason };
        let uri: Uri = url.parse().map_err(|_| bad("is not a url"))?;
        let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("holds a user name or password; use a secret header"));
        }
        if url.contains('#') {
            return Err(bad("holds a fragment"));
        }
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad("is neither https nor http")),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || (authority.port().is_some() && authority.port_u16().is_none()) {
            return Err(bad("has no host, or a port that is none"));
        }
        let loopback_only = !is_tls && plain_http == PlainHttp::LoopbackOnly;
        if loopback_only && !names_this_machine(&host) {
            return Err(bad("is plain http to another machine"));
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let scheme = if is_tls { "https" } else { "http" };
        let shown = format!("{scheme}://{authority}{}", uri.path());
        Ok(Self { host, port, is_tls, loopback_only, shown, uri })
    }
}

fn names_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, plain_http: PlainHttp, expected: Result<(&str, u16, bool), &str>) {
        let got = Endpoint::parse(url, plain_http);
        match (&got, expected) {
            (Ok(endpoint), Ok(parts)) => {
                assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.is_tls), parts, "{url}");
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{url}: {error}"),
            _ => panic!("{url}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_allowed() {
        let here = PlainHttp::LoopbackOnly;
        check("https://rail.example/pay", here, Ok(("rail.example", 443, true)));
        check("http://localhost:8080/pay", here, Ok(("localhost", 8080, false)));
        check("http://127.8.0.1/pay", here, Ok(("127.8.0.1", 80, false)));
        check("http://[::1]:81/pay", here, Ok(("::1", 81, false)));
        check("http://rail.example/pay", here, Err("another machine"));
        check("http://10.0.0.1/pay", here, Err("another machine"));
        check("http://localhost.example/pay", here, Err("another machine"));
        check("http://10.0.0.1/pay", PlainHttp::Anywhere, Ok(("10.0.0.1", 80, false)));
    }

    #[test]
    fn a_url_with_credentials_or_without_a_host_is_refused() {
        for (url, words) in [
            ("", "not a url"),
            ("/pay", "no host"),
            ("ftp://rail.example/pay", "neither https nor http"),
            ("https://user:word@rail.example/pay", "secret header"),
            ("https://rail.example/pay#part", "fragment"),
        ] {
            check(url, PlainHttp::Anywhere, Err(words));
        }
    }

    #[test]
    fn the_query_is_not_shown() {
        let endpoint = Endpoint::parse("https://rail.example:444/pay?token=x", PlainHttp::LoopbackOnly);
        assert_eq!(endpoint.expect("a url").shown, "https://rail.example:444/pay");
    }
}
