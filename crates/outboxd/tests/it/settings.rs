//! What the configuration's check lets pass, the rail and the store take: the two checks are written
//! apart, and a fault must be found by `check-config`, not by a daemon that starts.

use std::fs;

use outbox_core::{BreakerLimits, Millis};
use outbox_rail::{HttpRail, RailError, WireKeyForm};
use outboxd::config::{Config, Faults, Host, Sources, load};
use outboxd::settings::{connection, http_rails};

fn config(url: &str, rail_lines: &str) -> Result<Config, Faults> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("outboxd.toml");
    let text = format!(
        "[dispatcher]\nname = \"pay-1\"\n[database]\nhost = \"/run/postgresql\"\nport = 6432\nname = \"p\"\n\
         user = \"u\"\ncall_timeout = \"3500ms\"\n[rails.sepa]\nurl = \"{url}\"\nreference_json_pointer = \"/id\"\n{rail_lines}\n"
    );
    fs::write(&file, text).unwrap();
    let host = Host { name: "host-1".to_owned(), credentials_directory: None, state_directory: None };
    let loaded = load(&Sources { file, environment: Vec::new(), assignments: Vec::new(), host });
    loaded.map(|loaded| loaded.config)
}

fn rail_of(config: &Config) -> outbox_rail::HttpRailSettings {
    let rail = config.rails.values().next().unwrap();
    http_rails(rail, std::slice::from_ref(&rail.tls.server_name), config.credentials).remove(0)
}

#[test]
fn check_and_rail_agree_on_headers() {
    let (mut taken, mut refused) = (0, 0);
    for name in [
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "idempotency-key",
        "x y",
        "x-participant",
        "accept",
        "date",
        "user-agent",
    ] {
        let checked = config("http://127.0.0.1:8080/", &format!("headers = {{ \"{name}\" = \"1\" }}"));
        let mut settings = rail_of(&config("http://127.0.0.1:8080/", "").unwrap());
        settings.headers.push((name.to_owned(), "1".to_owned()));
        let built = HttpRail::new(settings);
        assert_eq!(checked.is_ok(), built.is_ok(), "{name}: {:?}", built.err());
        if checked.is_ok() { taken += 1 } else { refused += 1 }
    }
    assert!(taken > 3 && refused > 15, "{taken} {refused}");
}

#[test]
fn check_and_rail_agree_on_urls() {
    let good = rail_of(&config("http://127.0.0.1:8080/", "").unwrap());
    for (url, is_taken) in [
        ("http://127.0.0.1/", true),
        ("http://[::1]:80/x?y=z", true),
        ("http://localhost", true),
        ("https://rail.example/", true),
        ("https://rail.example:65535/", true),
        ("http://rail.example/", false),
        ("https://rail.example:65536/", false),
        ("https://rail.example:0/", false),
        ("https://rail.example:/", false),
        ("https://rail..example/", false),
        ("https://u@rail.example/", false),
        ("https://", false),
        ("/", false),
        ("x", false),
        ("https://rail.example/#f", false),
        ("ftp://rail.example/", false),
    ] {
        let settings = outbox_rail::HttpRailSettings { url: url.to_owned(), ..good.clone() };
        let refused = matches!(HttpRail::new(settings), Err(RailError::Url(_)));
        assert_eq!((config(url, "").is_ok(), refused), (is_taken, !is_taken), "{url}");
    }
}

#[test]
fn what_is_configured_arrives_at_the_rail() {
    let breaker = "breaker = { failures = 3, open_min = \"2s\", open_max = \"4s\" }";
    let lines = "key_header = \"X-Key\"\nkey_format = \"bare\"\nconcurrency = 7\ntimeout = \"9s\"\nconnect_timeout = \"2s\"\n\
                 pool_idle_timeout = \"1s\"\nresponse_body_max_bytes = 2048\ncode_header = \"X-Code\"\n\
                 headers = { X-A = \"b\" }\ncodes = [{ status = 503, code = \"C\", means = \"not_executed\" }]";
    let config = config("http://127.0.0.1:8080/pay", &format!("{lines}\n{breaker}")).unwrap();
    let limits = config.rails.values().next().unwrap().breaker_limits();
    let expected = BreakerLimits { failures: 3, open_base: Millis(2_000), open_cap: Millis(4_000), concurrency: 7 };
    assert_eq!(limits, expected);
    let settings = rail_of(&config);
    assert_eq!((settings.url.as_str(), settings.wire_key.name.as_str()), ("http://127.0.0.1:8080/pay", "x-key"));
    assert_eq!(settings.wire_key.form, WireKeyForm::Bare);
    let times = [settings.timeout, settings.connect_timeout, settings.pool_idle_timeout];
    assert_eq!(times, [Millis(9_000), Millis(2_000), Millis(1_000)]);
    assert_eq!(settings.response_body_max, 2_048);
    assert_eq!(settings.headers, [("x-a".to_owned(), "b".to_owned())]);
    assert_eq!(settings.reference.json_pointer.as_deref(), Some("/id"));
    assert_eq!(settings.code.header.as_deref(), Some("x-code"));
    assert_eq!(settings.codes.named(503, Some("C")), Some(outbox_core::Meaning::NotExecuted));
}

#[test]
fn what_is_configured_arrives_at_the_store() {
    let config = config("http://127.0.0.1:8080/", "").unwrap();
    let settings = connection(&config.database, config.credentials);
    assert_eq!((settings.call_timeout, settings.statement_timeout), (Millis(3_500), Millis(3_000)));
    let options = settings.options().unwrap();
    assert_eq!(options.get_socket().map(|path| path.display().to_string()).as_deref(), Some("/run/postgresql"));
    assert_eq!((options.get_port(), options.get_username(), options.get_database()), (6432, "u", Some("p")));
}

#[test]
fn every_endpoint_of_a_rail_is_reached_in_the_same_way() {
    let lines = "fallback_urls = [\"https://b.example/pay\", \"https://c.example:8443/pay\"]\nkey_header = \"x-key\"";
    let config = config("https://a.example/pay", lines).unwrap();
    let sans = [Some("a.bank.example".to_owned()), None, Some("c.bank.example".to_owned())];
    let all = http_rails(config.rails.values().next().unwrap(), &sans, config.credentials);
    let urls: Vec<&str> = all.iter().map(|settings| settings.url.as_str()).collect();
    assert_eq!(urls, ["https://a.example/pay", "https://b.example/pay", "https://c.example:8443/pay"]);
    assert!(all.iter().all(|settings| settings.wire_key.name == "x-key"));
    let names: Vec<Option<&str>> = all.iter().map(|settings| settings.tls.server_name.as_deref()).collect();
    assert_eq!(names, [Some("a.bank.example"), None, Some("c.bank.example")]);
}

#[test]
fn two_endpoints_that_cannot_be_told_apart_are_refused() {
    for other in ["https://a.example/v2", "https://A.example:443/pay", "https://b.example/\", \"https://b.example/x"] {
        let refused =
            config("https://a.example/pay", &format!("fallback_urls = [\"{other}\"]")).unwrap_err().to_string();
        assert!(refused.contains("fallback_urls") && refused.contains("cannot be told from it"), "{refused}");
    }
    let refused =
        config("https://a.example/pay", "fallback_urls = [\"http://b.example/pay\"]").unwrap_err().to_string();
    assert!(refused.contains("plain http"), "{refused}");
}
