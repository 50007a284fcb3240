//! Certificates for tests of TLS: one private CA with a server and a client, and the ways in which a
//! peer can be wrong: another CA, another name, a certificate past its end. Keys are new at each call.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::error::io_context;
use crate::{ServerTls, TestkitError};

/// A certificate and its key as files in PEM; the key is readable by its owner only.
#[derive(Debug, Clone)]
pub struct CertFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl CertFiles {
    /// Both texts, for a server that wants them in memory.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn read(&self) -> Result<ServerTls, TestkitError> {
        let certificate_pem = fs::read_to_string(&self.certificate).map_err(io_context("read a test certificate"))?;
        let key_pem = fs::read_to_string(&self.key).map_err(io_context("read a test key"))?;
        Ok(ServerTls { certificate_pem, key_pem })
    }
}

/// One set of certificates in one directory.
#[derive(Debug, Clone)]
pub struct Certs {
    /// The CA that the right peers are signed by.
    pub ca: PathBuf,
    /// A CA that signed only the wrong ones.
    pub wrong_ca: PathBuf,
    /// Server for `localhost` and 127.0.0.1.
    pub server: CertFiles,
    /// Server signed by the right CA, for `other.example` only.
    pub server_other_name: CertFiles,
    /// Server for `localhost` and 127.0.0.1 that ended in the year 2020.
    pub server_expired: CertFiles,
    /// Server for `localhost` and 127.0.0.1 signed by the wrong CA.
    pub server_wrong_ca: CertFiles,
    /// Client signed by the right CA.
    pub client: CertFiles,
    /// Client signed by the wrong CA.
    pub client_wrong_ca: CertFiles,
    /// Client that ended in the year 2020.
    pub client_expired: CertFiles,
}

const LOCAL_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

impl Certs {
    /// Makes the whole set in `dir`, which must exist.
    ///
    /// # Errors
    /// When a key cannot be made or a file cannot be written.
    pub fn new(dir: &Path) -> Result<Self, TestkitError> {
        let right = Authority::new(dir, "ca")?;
        let wrong = Authority::new(dir, "wrong_ca")?;
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        Ok(Self {
            server: right.issue("server", &LOCAL_NAMES, Validity::Current, server.clone())?,
            server_other_name: right.issue(
                "server_other_name",
                &["other.example"],
                Validity::Current,
                server.clone(),
            )?,
            server_expired: right.issue("server_expired", &LOCAL_NAMES, Validity::Expired, server.clone())?,
            server_wrong_ca: wrong.issue("server_wrong_ca", &LOCAL_NAMES, Validity::Current, server)?,
            client: right.issue("client", &["client.example"], Validity::Current, client.clone())?,
            client_wrong_ca: wrong.issue("client_wrong_ca", &["client.example"], Validity::Current, client.clone())?,
            client_expired: right.issue("client_expired", &["client.example"], Validity::Expired, client)?,
            ca: right.certificate,
            wrong_ca: wrong.certificate,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validity {
    Current,
    Expired,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Result<Self, TestkitError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("outboxd test {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = dir.join(format!("{name}.pem"));
        write(&certificate, &params.self_signed(&key)?.pem(), 0o644)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate, dir: dir.to_path_buf() })
    }

    fn issue(
        &self,
        file_stem: &str,
        names: &[&str],
        validity: Validity,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<CertFiles, TestkitError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.extended_key_usages = vec![purpose];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if validity == Validity::Expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let files = CertFiles {
            certificate: self.dir.join(format!("{file_stem}.pem")),
            key: self.dir.join(format!("{file_stem}.key")),
        };
        write(&files.certificate, &params.signed_by(&key, &self.issuer)?.pem(), 0o644)?;
        write(&files.key, &key.serialize_pem(), 0o600)?;
        Ok(files)
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TestkitError> {
    fs::write(path, text).map_err(io_context("write a test certificate"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_context("set the mode of a test key"))
}
