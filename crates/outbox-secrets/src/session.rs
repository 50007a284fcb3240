//! One pull: log in as the role, read each path once, give the token back. The requests are vaultrs'; sending them and reading
//! the answers is not, for reasons that `docs/decisions/2026-11-30-secrets-pulled.md` has.

use std::collections::BTreeMap;
use std::fmt;

use rustify::Endpoint;
use secrecy::{ExposeSecret as _, SecretString};
use vaultrs::api::EndpointMiddleware;
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::kv1::requests::GetSecretRequest;
use vaultrs::api::kv2::requests::ReadSecretRequest;
use vaultrs::api::token::requests::RevokeTokenSelfRequest;

use crate::answer::{self, Fields, KvVersion};
use crate::error::SecretsError;
use crate::transport::{Server, Transport};

/// As whom we log in.
#[derive(Clone, Debug)]
pub struct AppRole {
    /// Where the method is mounted, below `auth/`.
    pub mount: String,
    /// The role.
    pub role_id: SecretString,
    /// Its secret.
    pub secret_id: SecretString,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The mount of the engine.
    pub mount: String,
    /// Which engine.
    pub version: KvVersion,
    /// The path in the mount, without `data/`.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mount, self.path)
    }
}

/// One text that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where its secret is.
    pub place: Place,
    /// Which field of it.
    pub field: String,
}

/// What came of a login.
#[derive(Debug)]
pub struct Pulled {
    /// What was wanted, in that order; or the first thing that is not to be had.
    pub texts: Result<Vec<SecretString>, SecretsError>,
    /// Whether the token of the login was revoked.
    pub revoked: Result<(), SecretsError>,
}

/// Logs in, reads all that is `wanted`, each path once, and revokes the token of the login.
///
/// # Errors
/// Those of the login. What comes after it is in [`Pulled`].
pub async fn pull(server: &Server, role: &AppRole, wanted: &[Wanted]) -> Result<Pulled, SecretsError> {
    let mut session = Session::begin(server)?;
    session.log_in(role).await?;
    let texts = session.texts(wanted).await;
    let revoked = session.revoke().await;
    Ok(Pulled { texts, revoked })
}

struct Session {
    transport: Transport,
    /// Adds the version of the API, the token and the namespace.
    envelope: EndpointMiddleware,
}

impl Session {
    fn begin(server: &Server) -> Result<Self, SecretsError> {
        let envelope = EndpointMiddleware {
            token: String::new(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: server.namespace.clone(),
        };
        Ok(Self { transport: Transport::new(server)?, envelope })
    }

    async fn log_in(&mut self, role: &AppRole) -> Result<(), SecretsError> {
        let request = LoginWithApproleRequest {
            mount: role.mount.clone(),
            role_id: role.role_id.expose_secret().to_owned(),
            secret_id: role.secret_id.expose_secret().to_owned(),
        };
        let (status, body) = self.ask(request, &format!("the login at auth/{}", role.mount)).await?;
        let token = answer::token(status, body.expose_secret(), &role.mount)?;
        token.expose_secret().clone_into(&mut self.envelope.token);
        Ok(())
    }

    async fn texts(&self, wanted: &[Wanted]) -> Result<Vec<SecretString>, SecretsError> {
        let mut secrets: BTreeMap<&Place, Fields> = BTreeMap::new();
        let mut texts = Vec::with_capacity(wanted.len());
        for Wanted { place, field } in wanted {
            if !secrets.contains_key(place) {
                secrets.insert(place, self.read(place).await?);
            }
            texts.push(answer::field(&secrets[place], place, field)?);
        }
        Ok(texts)
    }

    async fn read(&self, place: &Place) -> Result<Fields, SecretsError> {
        let (mount, path) = (place.mount.clone(), place.path.clone());
        let what = format!("reading {place}");
        let (status, body) = match place.version {
            KvVersion::One => self.ask(GetSecretRequest { mount, path }, &what).await?,
            KvVersion::Two => self.ask(ReadSecretRequest { mount, path, version: None }, &what).await?,
        };
        answer::fields(status, body.expose_secret(), place)
    }

    async fn revoke(&self) -> Result<(), SecretsError> {
        let what = "revoking the token of the login";
        let (status, _) = self.ask(RevokeTokenSelfRequest {}, what).await?;
        match status {
            200..=299 => Ok(()),
            _ => Err(SecretsError::Refused { what: what.to_owned(), status }),
        }
    }

    /// Status and body of the answer to `endpoint`, if it is one to `what` was asked.
    async fn ask(&self, endpoint: impl Endpoint, what: &str) -> Result<(u16, secrecy::SecretSlice<u8>), SecretsError> {
        let endpoint = endpoint.with_middleware(&self.envelope);
        let request = endpoint.request(&self.transport.address).map_err(|_| SecretsError::Setting {
            setting: "address",
            reason: format!("{what} makes no request that can be sent there"),
        })?;
        let (status, body) = self.transport.send(request).await?;
        match answer::unserved(status, body.expose_secret(), &self.transport.address, what) {
            Some(error) => Err(error),
            None => Ok((status, body)),
        }
    }
}
