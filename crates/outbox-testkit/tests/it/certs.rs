//! The certificates do what their names say, tried against a Postgres that serves TLS.

use std::path::Path;

use outbox_testkit::{CertFiles, Certs, PgServer, PgVersion, ServerSettings};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};

async fn connect_verified(server: &CertFiles, ca: &Path) -> Result<(), sqlx::Error> {
    let settings = ServerSettings { tcp: true, tls: Some(server.read().unwrap()), ..ServerSettings::default() };
    let running = PgServer::start_with(PgVersion::from_environment().unwrap(), &settings).unwrap();
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(running.port())
        .username("postgres")
        .database("postgres")
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(ca);
    PgConnection::connect_with(&options).await?.close().await
}

#[tokio::test]
async fn only_the_right_server_certificate_passes_full_verification() {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::new(dir.path()).unwrap();
    connect_verified(&certs.server, &certs.ca).await.unwrap();
    connect_verified(&certs.server_wrong_ca, &certs.wrong_ca).await.unwrap();
    for (wrong, reason) in [
        (&certs.server_wrong_ca, "UnknownIssuer"),
        (&certs.server_other_name, "NotValidForName"),
        (&certs.server_expired, "Expired"),
    ] {
        let error = format!("{:?}", connect_verified(wrong, &certs.ca).await.unwrap_err());
        assert!(error.contains(reason), "{reason}: {error}");
    }
}
