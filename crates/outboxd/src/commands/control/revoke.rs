//! `revoke`: puts credentials on the deny list, one entry each. It takes one person, as a pause does: it can only keep
//! payments out. Nothing takes an entry back.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use outbox_store::{Fingerprint, Revocation, Session, StoreError, TokenName, revoke_client_cert, revoke_token};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::select::parse_time;
use super::{Change, EXIT_CODES, or_end, with_session};
use crate::commands::output::{Output, printable, utc};
use crate::exit::{Exit, Failure};
use crate::hex;

/// What is revoked.
#[derive(Debug, Subcommand)]
pub(crate) enum Revoke {
    /// Client certificates
    Cert(Certs),
    /// Tokens, and keys with all that they sign
    Token(Tokens),
}

/// Client certificates, beside what their PKI says of them.
///
/// No request is accepted by them from then on, no attestation that rests on them lets a new payment in, and a dispatcher
/// that shows one leaves its rail alone. What is enqueued already is not touched: see `hold` and `pause`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Certs {
    /// SHA-256 over a certificate (DER), as `openssl x509 -fingerprint -sha256` shows it
    #[arg(value_name = "FINGERPRINT", value_parser = parse_fingerprint)]
    fingerprints: Vec<Fingerprint>,
    /// A certificate, PEM; of a chain the first
    #[arg(long, value_name = "FILE")]
    cert_file: Vec<PathBuf>,
    #[command(flatten)]
    entry: Entry,
}

/// Tokens and keys, beside what their issuer says of them.
///
/// No request is accepted by them from then on, and no attestation that rests on them lets a new payment in. What is
/// enqueued already is not touched: see `hold` and `pause`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Tokens {
    /// A token, by its jti
    #[arg(long, value_name = "JTI")]
    jti: Vec<String>,
    /// A key, by its name (kid, or the name of an API key)
    #[arg(long, value_name = "KEY")]
    key_id: Vec<String>,
    /// Only what this issuer issued; without it, of any
    #[arg(long, value_name = "ISS")]
    issuer: Option<String>,
    #[command(flatten)]
    entry: Entry,
}

/// What every entry has.
#[derive(Debug, Args)]
struct Entry {
    /// Until when it counts (RFC 3339): not before the credential itself ends. Without it, for ever
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    expires_at: Option<OffsetDateTime>,
    #[command(flatten)]
    change: Change,
}

fn parse_fingerprint(text: &str) -> Result<Fingerprint, String> {
    hex::decode_sha256(text).ok_or_else(|| "is no SHA-256: 64 hexadecimal digits, with colons or without".to_owned())
}

/// A credential to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Credential {
    Cert(Fingerprint),
    Token(TokenName),
}

impl Credential {
    fn describe(&self) -> String {
        match self {
            Self::Cert(fingerprint) => format!("certificate {}", hex::encode(fingerprint)),
            Self::Token(TokenName::Jti(jti)) => format!("token {}", printable(jti)),
            Self::Token(TokenName::KeyId(key_id)) => format!("key {}", printable(key_id)),
        }
    }

    async fn revoke(
        &self,
        session: &mut Session,
        issuer: Option<&str>,
        entry: &Entry,
    ) -> Result<Revocation, StoreError> {
        let reason = &entry.change.reason;
        match self {
            Self::Cert(fingerprint) => revoke_client_cert(session, fingerprint, reason, entry.expires_at).await,
            Self::Token(token) => revoke_token(session, token, issuer, reason, entry.expires_at).await,
        }
    }
}

/// Revokes.
pub(crate) fn run(command: &Revoke, out: &mut dyn Write) -> Result<(), Failure> {
    let (credentials, issuer, entry) = match command {
        Revoke::Cert(certs) => (of_certs(certs)?, None, &certs.entry),
        Revoke::Token(tokens) => (of_tokens(tokens), tokens.issuer.as_deref(), &tokens.entry),
    };
    if credentials.is_empty() {
        return Err(Failure::new(Exit::Usage, "say what: a FINGERPRINT or --cert-file; --jti or --key-id".to_owned()));
    }
    if entry.change.dry_run {
        return show(&credentials, &[], entry, out);
    }
    entry.change.confirmed("revoke", (credentials.len(), "credentials"))?;
    with_session(&entry.change.database, async |session| {
        let mut made = Vec::new();
        for credential in &credentials {
            // One after the other: what was revoked before a failure stays revoked, and to repeat it is safe.
            made.push(or_end(credential.revoke(session, issuer, entry).await)?);
        }
        show(&credentials, &made, entry, out)
    })
}

fn of_certs(certs: &Certs) -> Result<Vec<Credential>, Failure> {
    let mut all: Vec<Credential> = certs.fingerprints.iter().copied().map(Credential::Cert).collect();
    for path in &certs.cert_file {
        let unusable = |why: String| Failure::new(Exit::NoInput, format!("{}: {why}", path.display()));
        let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let fingerprint = outbox_rail::fingerprint(&pem).map_err(|fault| unusable(fault.to_string()))?;
        all.push(Credential::Cert(fingerprint));
    }
    Ok(all)
}

fn of_tokens(tokens: &Tokens) -> Vec<Credential> {
    let jtis = tokens.jti.iter().cloned().map(TokenName::Jti);
    jtis.chain(tokens.key_id.iter().cloned().map(TokenName::KeyId)).map(Credential::Token).collect()
}

/// What was made of each, or, of a dry run, what would be revoked.
fn show(credentials: &[Credential], made: &[Revocation], entry: &Entry, out: &mut dyn Write) -> Result<(), Failure> {
    let rows = credentials.iter().enumerate().map(|(place, credential)| (credential.describe(), made.get(place)));
    if entry.change.output == Output::Json {
        let all: Vec<Value> = rows
            .map(|(credential, entry)| {
                json!({
                    "credential": credential,
                    "revocation_id": entry.map(|entry| entry.revocation_id.to_string()),
                    "revoked_at": entry.map(|entry| utc(entry.revoked_at)),
                    "created": entry.map(|entry| entry.created),
                })
            })
            .collect();
        return Ok(writeln!(out, "{}", Value::from(all))?);
    }
    for (credential, entry) in rows {
        match entry {
            None => writeln!(out, "would revoke {credential}")?,
            Some(entry) if entry.created => writeln!(out, "revoked {credential}")?,
            Some(entry) => writeln!(out, "{credential} was revoked already, at {}", utc(entry.revoked_at))?,
        }
    }
    Ok(())
}
