//! A server with the part of Vault's API that a pull uses: AppRole, KV 1 and 2, policies, revocation, and the ways in which
//! a server fails. It is written after the API's documentation and shares no code with what it is asked by.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use outbox_testkit::CertFiles;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const ROLE_ID: &str = "role-1f0c";
pub(crate) const SECRET_ID: &str = "canary-secret-id-77d1";

/// What the server does instead of serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is sealed for as many requests.
    SealedFor(u32),
    /// It answers everything with this status.
    Status(u16),
    /// It takes requests and never answers.
    Hangs,
    /// It sends everybody to another server.
    SendsTo(String),
    /// It answers with more than any secret has.
    Endless,
    /// It lets nobody revoke a token.
    KeepsTokens,
}

#[derive(Default)]
struct State {
    /// What a GET of a path, without `/v1/`, answers.
    secrets: BTreeMap<String, Value>,
    /// Paths that the role's policy has not.
    forbidden: BTreeSet<String>,
    tokens: BTreeSet<String>,
    granted: u32,
    seen: Vec<String>,
    trouble: Option<Trouble>,
}

/// A running server; it ends when this is dropped.
pub(crate) struct Vault {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Vault {
    /// Over plain HTTP.
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    /// Over TLS, with that certificate.
    pub(crate) async fn start_tls(files: &CertFiles) -> Self {
        let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self::serve(Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, state) = (tls.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, state).await,
                        Some(tls) => {
                            // A client that does not trust us says so and goes.
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, state, serving }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().unwrap())
    }

    /// Puts a secret into a mount of KV version 1.
    pub(crate) fn put_v1(&self, path: &str, fields: Value) {
        self.with(|state| state.secrets.insert(path.to_owned(), json!({"data": fields, "lease_duration": 2_764_800})));
    }

    /// Puts a version of a secret into a mount of KV version 2.
    pub(crate) fn put_v2(&self, mount: &str, path: &str, fields: Value) {
        let data = json!({"data": fields, "metadata": {"version": 1, "deletion_time": "", "destroyed": false}});
        self.with(|state| state.secrets.insert(format!("{mount}/data/{path}"), json!({"data": data})));
    }

    /// Takes a path out of the role's policy.
    pub(crate) fn forbid(&self, path: &str) {
        self.with(|state| state.forbidden.insert(path.to_owned()));
    }

    /// Removes a secret.
    pub(crate) fn remove(&self, path: &str) {
        self.with(|state| state.secrets.remove(path));
    }

    /// From now on, it has this trouble.
    pub(crate) fn trouble(&self, trouble: impl Into<Option<Trouble>>) {
        let trouble = trouble.into();
        self.with(|state| state.trouble = trouble);
    }

    /// Each request since the last time this was asked: method, path, namespace.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.with(|state| std::mem::take(&mut state.seen))
    }

    /// How many tokens are valid, and how many were ever granted.
    pub(crate) fn tokens(&self) -> (usize, u32) {
        self.with(|state| (state.tokens.len(), state.granted))
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(request, &state).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: &Mutex<State>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let path = head.uri.path().strip_prefix("/v1/").unwrap_or("not-the-api").to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    let (answered, hangs) = {
        let mut state = state.lock().unwrap();
        let namespace = header("x-vault-namespace").map(|name| format!(" in {name}")).unwrap_or_default();
        state.seen.push(format!("{} {}{namespace}", head.method, head.uri.path()));
        let troubled = troubled(&mut state, &path);
        let hangs = state.trouble == Some(Trouble::Hangs);
        let token = header("x-vault-token");
        (troubled.unwrap_or_else(|| served(&mut state, &head.method, &path, token.as_deref(), &body)), hangs)
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    answered
}

fn said(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

fn troubled(state: &mut State, path: &str) -> Option<Response<Full<Bytes>>> {
    let sealed = || said(503, &json!({"errors": ["Vault is sealed"]}));
    match &mut state.trouble {
        Some(Trouble::SealedFor(0) | Trouble::Hangs) | None => None,
        Some(Trouble::SealedFor(times)) => {
            *times -= 1;
            Some(sealed())
        }
        Some(Trouble::Status(status)) => Some(said(*status, &json!({"errors": ["canary-text-of-the-server"]}))),
        Some(Trouble::SendsTo(address)) => {
            let answer = Response::builder().status(StatusCode::TEMPORARY_REDIRECT);
            Some(answer.header("location", format!("{address}/v1/{path}")).body(Full::default()).unwrap())
        }
        Some(Trouble::Endless) => Some(said(200, &json!({"data": {"password": "x".repeat(2 << 20)}}))),
        Some(Trouble::KeepsTokens) => path.ends_with("revoke-self").then(|| said(405, &json!({"errors": []}))),
    }
}

fn served(state: &mut State, method: &Method, path: &str, token: Option<&str>, body: &[u8]) -> Response<Full<Bytes>> {
    let refused = || said(403, &json!({"errors": ["permission denied"]}));
    if *method == Method::POST && path == "auth/approle/login" {
        let given: Value = serde_json::from_slice(body).unwrap();
        if given != json!({"role_id": ROLE_ID, "secret_id": SECRET_ID}) {
            return said(400, &json!({"errors": [format!("invalid role or secret ID: {given}")]}));
        }
        state.granted += 1;
        let token = format!("hvs.canary-token-{}", state.granted);
        state.tokens.insert(token.clone());
        return said(200, &json!({"auth": {"client_token": token, "policies": ["outboxd"], "lease_duration": 60}}));
    }
    let Some(token) = token.filter(|token| state.tokens.contains(*token)) else { return refused() };
    if *method == Method::POST && path == "auth/token/revoke-self" {
        state.tokens.remove(token);
        return Response::builder().status(StatusCode::NO_CONTENT).body(Full::default()).unwrap();
    }
    if *method != Method::GET || state.forbidden.contains(path) {
        return refused();
    }
    state.secrets.get(path).map_or_else(|| said(404, &json!({"errors": []})), |secret| said(200, secret))
}
