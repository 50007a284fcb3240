//! A server with the part of Vault's API that a pull and the scripts around it use: AppRole, KV 1 and 2, policies that deny what
//! they do not name, revocation, and the ways in which a server fails. It is written after the API's documentation and shares
//! no code with what it is asked by.

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
/// The token of whoever keeps the server.
pub(crate) const ROOT: &str = "canary-root-token-5b90";

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
    /// It lets everybody do everything.
    EnforcesNothing,
}

#[derive(Default)]
struct State {
    /// What a GET of a path, without `/v1/`, answers.
    secrets: BTreeMap<String, Value>,
    /// What the role may do, each as `capability path`; everything else is refused.
    allowed: BTreeSet<String>,
    /// Whether a policy was written, which says what is allowed from then on.
    is_governed: bool,
    /// What was written below `sys/` and of the role, by path.
    written: BTreeMap<String, Value>,
    secret_ids: BTreeSet<String>,
    /// Valid tokens, and how many requests each has left.
    tokens: BTreeMap<String, u64>,
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
        let mut state = State::default();
        state.secret_ids.insert(SECRET_ID.to_owned());
        state.allowed.insert("update auth/token/revoke-self".to_owned());
        let state = Arc::new(Mutex::new(state));
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
        self.with(|state| state.put(path.to_owned(), json!({"data": fields, "lease_duration": 2_764_800})));
    }

    /// Puts a version of a secret into a mount of KV version 2.
    pub(crate) fn put_v2(&self, mount: &str, path: &str, fields: Value) {
        let data = json!({"data": fields, "metadata": {"version": 1, "deletion_time": "", "destroyed": false}});
        self.with(|state| state.put(format!("{mount}/data/{path}"), json!({"data": data})));
    }

    /// Takes reading a path out of the role's policy.
    pub(crate) fn forbid(&self, path: &str) {
        self.with(|state| state.allowed.remove(&format!("read {path}")));
    }

    /// Puts reading a path into the role's policy.
    pub(crate) fn allow(&self, path: &str) {
        self.with(|state| state.allowed.insert(format!("read {path}")));
    }

    /// The policy as it was written.
    pub(crate) fn policy(&self) -> String {
        self.with(|state| state.written["sys/policies/acl/outboxd"]["policy"].as_str().unwrap().to_owned())
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

impl State {
    fn put(&mut self, path: String, answer: Value) {
        if !self.is_governed {
            self.allowed.insert(format!("read {path}"));
        }
        self.secrets.insert(path, answer);
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
        Some(Trouble::SealedFor(0) | Trouble::Hangs | Trouble::EnforcesNothing) | None => None,
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
    let given: Value = serde_json::from_slice(body).unwrap_or_default();
    match path {
        "auth/approle/login" => return logged_in(state, &given),
        "sys/seal-status" => return said(200, &json!({"sealed": false})),
        "sys/health" => return said(200, &json!({"sealed": false, "version": "of the tests"})),
        _ => {}
    }
    let capability = if *method == Method::GET { "read" } else { "update" };
    let may = |state: &State| {
        state.trouble == Some(Trouble::EnforcesNothing) || state.allowed.contains(&format!("{capability} {path}"))
    };
    match token {
        Some(ROOT) => {}
        Some(token) => match state.tokens.get_mut(token) {
            Some(0) | None => return refused(),
            Some(left) => {
                *left -= 1;
                if !may(state) {
                    return refused();
                }
            }
        },
        None => return refused(),
    }
    if path == "auth/token/revoke-self" {
        state.tokens.remove(token.unwrap_or_default());
        return done();
    }
    if *method == Method::GET { read(state, path) } else { write(state, path, given) }
}

fn done() -> Response<Full<Bytes>> {
    Response::builder().status(StatusCode::NO_CONTENT).body(Full::default()).unwrap()
}

fn logged_in(state: &mut State, given: &Value) -> Response<Full<Bytes>> {
    let secret_id = given["secret_id"].as_str().unwrap_or_default();
    if given["role_id"] != ROLE_ID || !state.secret_ids.contains(secret_id) {
        return said(400, &json!({"errors": [format!("invalid role or secret ID: {given}")]}));
    }
    state.granted += 1;
    let token = format!("hvs.canary-token-{}", state.granted);
    let uses = state.written.get("auth/approle/role/outboxd").and_then(|role| role["token_num_uses"].as_u64());
    state.tokens.insert(token.clone(), uses.unwrap_or(u64::MAX));
    said(200, &json!({"auth": {"client_token": token, "policies": ["outboxd"], "lease_duration": 60}}))
}

fn read(state: &State, path: &str) -> Response<Full<Bytes>> {
    let below = |folder: &str| -> Value {
        let of = |(path, value): (&String, &Value)| Some((format!("{}/", path.strip_prefix(folder)?), value.clone()));
        Value::Object(state.written.iter().filter_map(of).collect())
    };
    match path {
        "sys/mounts" => said(200, &below("sys/mounts/")),
        "sys/auth" => said(200, &below("sys/auth/")),
        "auth/approle/role/outboxd/role-id" => said(200, &json!({"data": {"role_id": ROLE_ID}})),
        _ => match (state.secrets.get(path), state.written.get(path)) {
            (Some(secret), _) => said(200, secret),
            (None, Some(written)) => said(200, &json!({"data": written})),
            (None, None) => said(404, &json!({"errors": []})),
        },
    }
}

fn write(state: &mut State, path: &str, given: Value) -> Response<Full<Bytes>> {
    match path {
        "auth/approle/role/outboxd/secret-id" => {
            let secret_id = format!("canary-secret-id-{}", state.secret_ids.len() + 1);
            state.secret_ids.insert(secret_id.clone());
            return said(200, &json!({"data": {"secret_id": secret_id}}));
        }
        "auth/approle/role/outboxd/secret-id/destroy" => {
            state.secret_ids.remove(given["secret_id"].as_str().unwrap());
            return done();
        }
        "sys/policies/acl/outboxd" => {
            state.is_governed = true;
            state.allowed = allowed_by(given["policy"].as_str().unwrap());
        }
        _ => {}
    }
    let is_of_the_server = path.starts_with("sys/") || path.starts_with("auth/");
    let of_two = path.contains("/data/");
    if is_of_the_server {
        state.written.insert(path.to_owned(), given);
    } else {
        let answer =
            if of_two { json!({"data": {"data": given["data"], "metadata": {}}}) } else { json!({"data": given}) };
        state.secrets.insert(path.to_owned(), answer);
    }
    done()
}

/// A policy in HCL, each path with its capabilities on the next line.
fn allowed_by(policy: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = policy.lines().map(str::trim).collect();
    let of = |pair: &[&str]| -> Vec<String> {
        let Some(path) = pair[0].strip_prefix("path \"").and_then(|rest| rest.strip_suffix("\" {")) else {
            return Vec::new();
        };
        let listed = pair[1].strip_prefix("capabilities = [").and_then(|rest| rest.strip_suffix("]")).unwrap();
        listed.split(", ").map(|capability| format!("{} {path}", capability.trim_matches('"'))).collect()
    };
    lines.windows(2).flat_map(of).collect()
}
