//! The configuration in the words of the rail and of the store, which know nothing of each other.
//! Nothing is decided here.

use std::sync::Arc;

use http::HeaderName;
use outbox_core::CodeTable;
use outbox_rail as rail;
use outbox_store as store;
use secrecy::ExposeSecret as _;

use crate::config::model::{
    AnswerField, ClientIdentity, Credentials, Database, DatabaseAddress, DatabaseTls, KeyFormat, Rail, SecretSource,
};
use crate::secrets::{self, Content};

/// The settings of the endpoints that `configured` describes, in order; `sans`: the name that the certificate of each must
/// carry, where that is not its host.
#[must_use]
pub fn http_rails(configured: &Rail, sans: &[Option<String>], credentials: Credentials) -> Vec<rail::HttpRailSettings> {
    let one = http_rail(configured, credentials);
    let urls = std::iter::once(&configured.url).chain(&configured.fallback_urls);
    let settings = |(url, san): (&http::Uri, &Option<String>)| rail::HttpRailSettings {
        url: url.to_string(),
        tls: rail::TlsSettings { server_name: san.clone(), ..one.tls.clone() },
        ..one.clone()
    };
    urls.zip(sans).map(settings).collect()
}

fn http_rail(configured: &Rail, credentials: Credentials) -> rail::HttpRailSettings {
    let form = match configured.key_format {
        KeyFormat::Quoted => rail::WireKeyForm::Quoted,
        KeyFormat::Bare => rail::WireKeyForm::Bare,
    };
    let headers = configured.headers.iter();
    let headers = headers
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let secret_headers = configured
        .secret_headers
        .iter()
        .map(|header| rail::SecretHeader {
            name: header.name.as_str().to_owned(),
            prefix: header.prefix.clone(),
            file: header.source.path.clone(),
        })
        .collect();
    let client = |client: &ClientIdentity| rail::ClientCertificate {
        certificate_file: client.cert_file.clone(),
        key_file: client.key.path.clone(),
    };
    rail::HttpRailSettings {
        url: configured.url.to_string(),
        wire_key: rail::WireKeyHeader { name: configured.key_header.as_str().to_owned(), form },
        headers,
        secret_headers,
        tls: rail::TlsSettings {
            ca_file: configured.tls.ca_file.clone(),
            client_certificate: configured.tls.client.as_ref().map(client),
            server_name: None,
        },
        world_readable: match credentials.allow_world_readable {
            true => rail::WorldReadable::Allow,
            false => rail::WorldReadable::Refuse,
        },
        plain_http: match configured.allow_plain_http {
            true => rail::PlainHttp::Anywhere,
            false => rail::PlainHttp::LoopbackOnly,
        },
        timeout: configured.timeout,
        connect_timeout: configured.connect_timeout,
        pool_idle_timeout: configured.pool_idle_timeout,
        response_body_max: usize::try_from(configured.response_body_max_bytes).unwrap_or(usize::MAX),
        reference: field(&configured.reference),
        code: field(&configured.code),
        codes: CodeTable::new(configured.codes.clone()),
        possible_duplicate: configured
            .possible_duplicate
            .as_ref()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())),
        inquiry: configured.inquiry.as_ref().map(|inquiry| rail::InquirySettings {
            path: inquiry.path.clone(),
            reference: field(&inquiry.reference),
            code: field(&inquiry.code),
            codes: CodeTable::new(inquiry.codes.clone()),
        }),
    }
}

fn field(configured: &AnswerField) -> rail::AnswerField {
    rail::AnswerField {
        json_pointer: configured.json_pointer.clone(),
        header: configured.header.as_ref().map(HeaderName::as_str).map(str::to_owned),
    }
}

/// The settings of a connection to the database that `configured` describes. The files of its
/// credentials are examined before each connect, as they were at the start.
#[must_use]
pub fn connection(configured: &Database, access: Credentials) -> store::ConnectSettings {
    let (host, port) = match &configured.address {
        DatabaseAddress::Tcp { host, port } => (host.clone(), *port),
        DatabaseAddress::Socket { directory, port } => (directory.to_string_lossy().into_owned(), *port),
    };
    let (password, client_key) = (configured.password.clone(), client_key(&configured.tls));
    let ask = move || {
        if let Some(key) = &client_key {
            secrets::read_bytes(&key.path, Content::SecretKey, access)?;
        }
        let password = password.as_ref().map(|source| secrets::read(source, access)).transpose()?;
        Ok(password.map_or_else(String::new, |password| password.expose_secret().to_owned()))
    };
    let password = store::Password::Asked(Arc::new(ask));
    let identity = |client: &ClientIdentity| store::ClientIdentity {
        cert_file: client.cert_file.clone(),
        key_file: client.key.path.clone(),
    };
    let tls = match &configured.tls {
        DatabaseTls::Disable => store::Tls::Disabled,
        DatabaseTls::VerifyFull { ca_file, client } => {
            store::Tls::VerifyFull { ca_file: ca_file.clone(), client: client.as_ref().map(identity) }
        }
    };
    let mut settings = store::ConnectSettings::new(&host, port, &configured.name, &configured.user, password, &tls);
    settings.connect_timeout = configured.connect_timeout;
    settings.call_timeout = configured.call_timeout;
    settings.statement_timeout = configured.statement_timeout;
    settings.lock_timeout = configured.lock_timeout;
    settings.idle_in_transaction_timeout = configured.idle_in_transaction_timeout;
    settings
}

fn client_key(tls: &DatabaseTls) -> Option<SecretSource> {
    match tls {
        DatabaseTls::VerifyFull { client: Some(client), .. } => Some(client.key.clone()),
        DatabaseTls::VerifyFull { client: None, .. } | DatabaseTls::Disable => None,
    }
}
