//! One request to the server and its whole answer. Nothing is followed, retried or sent through a proxy, no answer is larger
//! than it may be, and each request has its time. What an answer means is `answer`'s part.

use std::error::Error;
use std::time::Duration;

use secrecy::SecretSlice;

use crate::error::SecretsError;
use crate::tls;

/// No secret comes near this; what a proxy says in the server's place might.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Where the server is, and how long it may take.
#[derive(Clone, Debug)]
pub struct Server {
    /// Scheme, host and port, without a path.
    pub address: String,
    /// The authorities to trust, in PEM; without it, the operating system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The namespace, of servers that have some.
    pub namespace: Option<String>,
    /// For a connection and the whole answer of each request.
    pub timeout: Duration,
}

/// A client of the server.
pub(crate) struct Transport {
    http: reqwest::Client,
    timeout: Duration,
    pub(crate) address: String,
}

impl Transport {
    pub(crate) fn new(server: &Server) -> Result<Self, SecretsError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client(server.ca_pem.as_deref())?)
            // Neither the token nor the secret id goes to whom the server names.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .timeout(server.timeout)
            .user_agent(concat!("outboxd/", env!("CARGO_PKG_VERSION")))
            .build();
        let http =
            http.map_err(|error| SecretsError::Setting { setting: "server", reason: error.without_url().to_string() })?;
        Ok(Self { http, timeout: server.timeout, address: server.address.clone() })
    }

    /// Sends `request`; the answer's status and body.
    pub(crate) async fn send(&self, request: http::Request<Vec<u8>>) -> Result<(u16, SecretSlice<u8>), SecretsError> {
        let request = reqwest::Request::try_from(request).map_err(|error| self.fault(error))?;
        let mut response = self.http.execute(request).await.map_err(|error| self.fault(error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.fault(error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let what = self.address.clone();
                return Err(SecretsError::NotUnderstood { what, reason: "it is larger than 1 MiB" });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, SecretSlice::from(body)))
    }

    fn fault(&self, error: reqwest::Error) -> SecretsError {
        let address = self.address.clone();
        if error.is_timeout() {
            return SecretsError::TimedOut { address, after: self.timeout };
        }
        let error = error.without_url();
        let trusted = causes(&error).find_map(certificate_fault);
        // The innermost cause says most, and is the connection's, never the answer's.
        let reason = causes(&error).last().map_or_else(|| error.to_string(), ToString::to_string);
        match trusted {
            Some(reason) => SecretsError::Untrusted { address, reason },
            None => SecretsError::Unreachable { address, reason },
        }
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |inner: &&'a (dyn Error + 'static)| (*inner).source())
}

/// What rustls found wrong with the server's certificate, if that is the cause. It is wrapped in I/O errors, whose source is
/// not what they wrap but the source of that.
fn certificate_fault(error: &(dyn Error + 'static)) -> Option<String> {
    let mut inner = Some(error);
    while let Some(error) = inner {
        if let Some(rustls::Error::InvalidCertificate(fault)) = error.downcast_ref() {
            return Some(fault.to_string());
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        inner = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static));
    }
    None
}
