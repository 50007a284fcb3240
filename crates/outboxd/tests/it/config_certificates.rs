//! Certificates, keys and names in a configuration: a fault in one is told by `check-config`, with the key and
//! the file, and not by a connection that is tried for ever.

use std::fs;

use outbox_testkit::Certs;

use crate::config::{Case, case, with};

/// A rail and a database that are reached by TLS, with `line` in the table of one of them.
fn over_tls(table: &str, line: &str) -> String {
    with(table, line).replace("/run/postgresql", "db.example")
}

fn made() -> (Case, Certs) {
    let case = case("");
    let certs = Certs::new(case.dir.path()).unwrap();
    (case, certs)
}

#[test]
fn authorities_that_are_none_are_refused_with_key_file_and_fault() {
    let (case, certs) = made();
    let good = fs::read_to_string(&certs.ca).unwrap();
    let cut = &good[..good.len() / 2];
    let other = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    for table in ["rails.sepa", "database"] {
        let path = case.dir.path().join("trusted.pem");
        case.write(&over_tls(table, &format!("ca_file = \"{}\"", path.display())));
        let key = format!("{table}.ca_file: ");
        case.one_fault(&[&key, "trusted.pem: cannot be read"]);
        for (content, fault) in [
            ("no PEM", "trusted.pem: holds no certificate in PEM"),
            (cut, "trusted.pem: holds a block of PEM that is broken or cut off"),
            (other, "trusted.pem: holds a certificate that is none"),
            (&format!("{good}{other}"), "trusted.pem: holds a certificate that is none"),
        ] {
            fs::write(&path, content).unwrap();
            case.one_fault(&["outboxd.toml:", &key, fault]);
        }
        fs::write(&path, format!("{good}{good}")).unwrap();
        case.config();
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_client_certificate_and_its_key_go_together() {
    let (case, certs) = made();
    let cert = certs.client.certificate.display();
    let other = certs.client_wrong_ca.key.display();
    for table in ["rails.sepa", "database"] {
        let key = certs.client.key.display();
        case.write(&over_tls(table, &format!("client_cert_file = \"{cert}\"")));
        case.one_fault(&["client_cert_file", "needs its key"]);
        case.write(&over_tls(table, &format!("client_key_file = \"{key}\"")));
        case.one_fault(&["client_key_file", "needs its certificate"]);
        let both = |cert: &str, key: &str| {
            case.write(&over_tls(table, &format!("client_cert_file = \"{cert}\"\nclient_key_file = \"{key}\"")));
        };
        both(&cert.to_string(), &key.to_string());
        case.config();
        both(&cert.to_string(), &other.to_string());
        case.one_fault(&[
            &format!("{table}.client_key_file: "),
            "client_wrong_ca.key: holds the private key of another",
        ]);
        let text = case.file("text", "PEM", 0o600);
        both(&cert.to_string(), &text);
        case.one_fault(&[&format!("{table}.client_key_file: "), "text: holds no private key"]);
        both(&text, &key.to_string());
        case.one_fault(&[&format!("{table}.client_cert_file: "), "text: holds no certificate"]);
    }
}

#[test]
fn a_name_that_no_certificate_can_carry_is_refused() {
    for name in ["rail..example", "rail example", "-rail.example", "https://rail.example", "rail.example:443"] {
        case(&with("rails.sepa", &format!("server_name = \"{name}\"")))
            .one_fault(&["rails.sepa.server_name", "neither"]);
    }
    for name in ["rail.example", "rail_1.example.", "10.0.0.1", "::1"] {
        case(&with("rails.sepa", &format!("server_name = \"{name}\""))).config();
    }
    for host in ["db..example", "db.example:5432", "[::1]"] {
        let text = over_tls("database", "tls = \"verify-full\"").replace("db.example", host);
        case(&text).one_fault(&["database.host", "neither a name nor an address"]);
    }
}
