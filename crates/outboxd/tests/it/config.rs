//! Configuration from file, environment and flags: what is refused, where, and what wins.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use outbox_core::{Millis, RailName};
use outboxd::config::{Config, Faults, Host, Loaded, Sources, load};
use tempfile::TempDir;

pub(crate) const GOOD: &str = r#"
[dispatcher]
name = "pay-1"

[database]
host = "/run/postgresql"
name = "payments"
user = "outboxd"

[rails.sepa]
url = "https://rail.example/payments"
reference_json_pointer = "/id"
"#;

pub(crate) struct Case {
    pub(crate) dir: TempDir,
    sources: Sources,
}

pub(crate) fn case(text: &str) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("outboxd.toml");
    fs::write(&file, text).unwrap();
    let host = Host { name: "host-1".to_owned(), credentials_directory: None, state_directory: None };
    Case { sources: Sources { file, environment: Vec::new(), assignments: Vec::new(), host }, dir }
}

impl Case {
    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((OsString::from(name), OsString::from(value)));
        self
    }

    fn set(mut self, assignment: &str) -> Self {
        self.sources.assignments.push(assignment.to_owned());
        self
    }

    fn load(&self) -> Result<Loaded, Faults> {
        load(&self.sources)
    }

    pub(crate) fn config(&self) -> Config {
        self.load().unwrap_or_else(|faults| panic!("{faults}")).config
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.load().unwrap_or_else(|faults| panic!("{faults}")).config_sha256
    }

    /// Each fault as `place: message`, the directory left out.
    pub(crate) fn faults(&self) -> Vec<String> {
        let faults = self.load().err().map(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>());
        let directory = format!("{}/", self.dir.path().display());
        faults.unwrap_or_default().iter().map(|fault| fault.replace(&directory, "")).collect()
    }

    /// Asserts that there is exactly one fault, which has all these parts.
    pub(crate) fn one_fault(&self, parts: &[&str]) {
        let faults = self.faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        for part in parts {
            assert!(faults[0].contains(part), "`{part}` is not in `{}`", faults[0]);
        }
    }

    pub(crate) fn file(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(&self.sources.file, text).unwrap();
    }
}

/// `GOOD` with `line` put behind the header of `table`.
pub(crate) fn with(table: &str, line: &str) -> String {
    let header = format!("[{table}]\n");
    if GOOD.contains(&header) {
        GOOD.replace(&header, &format!("{header}{line}\n"))
    } else {
        format!("{GOOD}{header}{line}\n")
    }
}

#[test]
fn a_short_file_is_enough() {
    let config = case(GOOD).config();
    assert_eq!(config.dispatcher.name, "pay-1");
    assert_eq!(config.dispatcher.poll_max, Millis(1_000));
    let rail = &config.rails[&RailName::new("sepa").unwrap()];
    assert_eq!(config.dispatcher.min_lease(rail), Millis(20_000 + 5_000 + 2_000));
}

#[test]
fn the_host_names_a_dispatcher_without_a_name() {
    assert_eq!(case(&GOOD.replace("name = \"pay-1\"", "")).config().dispatcher.name, "host-1");
}

#[test]
fn malformed_toml_is_refused_with_line_and_caret() {
    let faults = case("[dispatcher]\nname = \"pay\n\n[database\nhost = 1\n").faults();
    assert!(faults[0].starts_with("outboxd.toml:2: "), "{faults:#?}");
    assert!(faults[0].contains("\n  2 | name = ") && faults[0].contains('^'), "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.starts_with("outboxd.toml:4: ")), "{faults:#?}");
    assert!(!faults.iter().any(|fault| fault.contains("missing")), "{faults:#?}");
}

#[test]
fn a_key_given_twice_is_refused() {
    case(&with("dispatcher", "name = \"other\"")).one_fault(&["outboxd.toml:4", "duplicate key"]);
}

#[test]
fn unknown_keys_are_refused_at_every_depth() {
    for (table, line, name) in [
        ("dispatcher", "polling = \"1s\"", "polling"),
        ("database", "password = \"x\"", "password"),
        ("rails.sepa", "retries = 3", "retries"),
        ("rails.sepa.secret_headers.Authorization", "value = \"x\"", "value"),
        ("metrics", "on = true", "metrics"),
    ] {
        let faults = case(&with(table, line)).faults();
        let unknown = format!("unknown field `{name}`");
        assert!(faults.iter().any(|fault| fault.contains(&unknown)), "{faults:#?}");
    }
    case(&format!("{GOOD}[[rails.sepa.codes]]\nstatus = 503\nmeans = \"unknown\"\nmean = 1\n")).one_fault(&[
        "outboxd.toml:16",
        "rails.sepa.codes.0.mean",
        "unknown field `mean`",
    ]);
}

#[test]
fn wrong_types_are_refused_and_never_coerced() {
    for (line, expected) in [
        ("claim_batch_max = 5.9", "floating point `5.9`, expected u32"),
        ("claim_batch_max = \"5\"", "invalid type: expected u32"),
        ("claim_batch_max = -1", "expected u32"),
        ("claim_batch_max = true", "boolean `true`, expected u32"),
        ("poll_max = 5", "integer `5`, expected a duration"),
        ("poll_max = \"5 parsecs\"", "expected a duration"),
        ("claim_batch_max = 1979-05-27", "expected u32"),
        ("claim_batch_max = [1]", "expected u32"),
    ] {
        case(&with("dispatcher", line)).one_fault(&["outboxd.toml:3", expected]);
    }
    case(&with("database", "allow_unsafe_durability = \"yes\"")).one_fault(&["outboxd.toml:6", "expected a boolean"]);
    case(&GOOD.replace("[dispatcher]\nname = \"pay-1\"", "dispatcher = 5"))
        .one_fault(&["outboxd.toml:2", "dispatcher"]);
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_file() {
    let text = r#"[dispatcher]
polling = "1s"
claim_batch_max = "many"
poll_min = "9s"

[database]
host = "db.example"
port = 70000
user = "outboxd"
tls = "disable"

[rails.SEPA]
url = "http://rail.example/"
timeout = "1s"
connect_timeout = "2s"
"#;
    let case = case(text).env("OUTBOXD__HEALTH__LISTEN", "nowhere").set("log.format=xml");
    let places: Vec<String> = case.faults().iter().map(|f| f.lines().next().unwrap_or_default().to_owned()).collect();
    let expected = [
        "outboxd.toml:2: dispatcher.polling: unknown field",
        "outboxd.toml:3: dispatcher.claim_batch_max: invalid type",
        "outboxd.toml:4: dispatcher.poll_min: is 9s, and must be from 1ms to 1s",
        "outboxd.toml:6: database.name: is missing",
        "outboxd.toml:8: database.port: invalid value",
        "outboxd.toml:10: database.tls: the database is not on this host",
        "outboxd.toml:12: rails.SEPA: `SEPA` is not a valid name",
        "outboxd.toml:12: rails.SEPA.reference_json_pointer: is missing",
        "outboxd.toml:13: rails.SEPA.url: is plain http to another host",
        "outboxd.toml:15: rails.SEPA.connect_timeout: is 2s, longer than timeout (1s)",
        "OUTBOXD__HEALTH__LISTEN: health.listen: must be an address",
        "--set: log.format: must be",
    ];
    assert_eq!(places.len(), expected.len(), "{places:#?}");
    for (place, expected) in places.iter().zip(expected) {
        assert!(place.starts_with(expected), "`{place}` does not begin with `{expected}`");
    }
}

#[test]
fn impossible_relations_are_refused() {
    for (table, line, parts) in [
        ("dispatcher", "poll_min = \"900ms\"\npoll_max = \"800ms\"", ["poll_min", "longer than poll_max (800ms)"]),
        ("dispatcher", "listener_probe_interval = \"11s\"", ["listener_probe_interval", "to 10s"]),
        ("dispatcher", "metrics_interval = \"6m\"", ["metrics_interval", "to 5m"]),
        ("dispatcher", "completion_budget = \"4s\"", ["completion_budget", "shorter than completion_flush_interval"]),
        (
            "dispatcher",
            "completion_queue_max = 31\ncompletion_batch_size = 9",
            ["completion_queue_max", "together (32)"],
        ),
        ("dispatcher", "completion_batch_size = 99\ncompletion_queue_max = 98", ["completion_batch_size", "full"]),
        ("dispatcher", "claim_batch_max = 0", ["claim_batch_max", "must be from 1"]),
        ("database", "statement_timeout = \"4s\"", ["statement_timeout", "shorter than call_timeout (4s)"]),
        ("database", "lock_timeout = \"3500ms\"", ["lock_timeout", "longer than statement_timeout (3s)"]),
        ("database", "lock_timeout = \"1500us\"", ["lock_timeout", "whole number of milliseconds"]),
        ("rails.sepa", "timeout = \"1h\"", ["rails.sepa.timeout", "no lease may be longer than 1h"]),
        ("rails.sepa", "connect_timeout = \"21s\"", ["connect_timeout", "longer than timeout (20s)"]),
        ("rails.sepa", "concurrency = 0", ["concurrency", "must be from 1"]),
        ("rails.sepa", "breaker.failures = 0", ["rails.sepa.breaker.failures", "must be from 1"]),
        (
            "rails.sepa",
            "breaker.open_min = \"2m\"\nbreaker.open_max = \"1m\"",
            ["breaker.open_min", "longer than open_max (1m)"],
        ),
        ("rails.sepa", "breaker.open_max = \"2h\"", ["breaker.open_max", "to 1h"]),
        ("rails.sepa", "breaker.tries = 1", ["outboxd.toml:11", "unknown field `tries`"]),
    ] {
        case(&with(table, line)).one_fault(&parts);
    }
}

#[test]
fn tls_below_verify_full_is_refused_off_this_host() {
    for (host, tls, refused) in [
        ("/run/postgresql", "disable", false),
        ("/run/postgresql", "verify-full", true),
        ("127.0.0.1", "disable", false),
        ("::1", "disable", false),
        ("localhost", "disable", false),
        ("localhost", "require", true),
        ("db.example", "verify-full", false),
        ("db.example", "disable", true),
        ("db.example", "verify-ca", true),
        ("127.0.0.1.example", "disable", true),
    ] {
        let text = GOOD
            .replace("/run/postgresql", host)
            .replace("name = \"payments\"", &format!("name = \"p\"\ntls = \"{tls}\""));
        let faults = case(&text).faults();
        assert_eq!(!faults.is_empty(), refused, "{host} {tls}: {faults:?}");
    }
}

#[test]
fn a_rail_over_plain_http_is_refused_off_this_host() {
    for (url, refused) in [
        ("http://127.0.0.1:8080/x", false),
        ("http://[::1]:8080/x", false),
        ("http://rail.example/x", true),
        ("https://rail.example/x", false),
        ("https://user:canary@rail.example/x", true),
        ("ftp://rail.example/x", true),
        ("/x", true),
        ("https://rail.example/x#y", true),
        ("", true),
    ] {
        let faults = case(&GOOD.replace("https://rail.example/payments", url)).faults();
        assert_eq!(!faults.is_empty(), refused, "{url}: {faults:?}");
        assert!(!faults.concat().contains("canary"), "{faults:?}");
    }
    let text = GOOD.replace("https://rail.example", "http://rail.example");
    let loaded = case(&text.replace("[rails.sepa]\n", "[rails.sepa]\nallow_plain_http = true\n")).load().unwrap();
    assert!(loaded.warnings.iter().any(|warning| warning.contains("in the clear")), "{:?}", loaded.warnings);
}

#[test]
fn a_port_of_a_rail_that_is_none_is_refused_with_what_to_do() {
    for port in ["65536", "0", ""] {
        let text = GOOD.replace("rail.example", &format!("rail.example:{port}"));
        case(&text).one_fault(&["outboxd.toml:11: rails.sepa.url: has a port", "from 1 to 65535, or leave it out"]);
    }
}

#[test]
fn headers_are_checked_and_each_is_given_once() {
    for (line, part) in [
        ("headers = { \"X Y\" = \"1\" }", "no header name"),
        ("headers = { X-Y = \"a\\nb\" }", "visible ASCII"),
        ("headers = { X-Y = \"é\" }", "visible ASCII"),
        ("headers = { Authorization = \"Bearer canary\" }", "use secret_headers"),
        ("headers = { Content-Length = \"1\" }", "set by the dispatcher itself"),
        ("headers = { idempotency-key = \"1\" }", "given twice"),
        ("key_header = \"Content-Type\"", "set by the dispatcher itself"),
        ("key_header = \"\"", "no header name"),
        ("key_format = \"json\"", "\"quoted\" or \"bare\""),
        ("secret_headers = { Authorization = { prefix = \"Bearer \" } }", "needs the file or the credential"),
    ] {
        let case = case(&with("rails.sepa", line));
        case.one_fault(&["outboxd.toml:11", part]);
        assert!(!case.faults().concat().contains("canary"), "{:?}", case.faults());
    }
}

#[test]
fn the_table_of_codes_is_checked() {
    let rule = |rule: &str| format!("{GOOD}[[rails.sepa.codes]]\n{rule}\n");
    case(&rule("status = 503\nmeans = \"perhaps\"")).one_fault(&["outboxd.toml:15", "not_executed, throttled"]);
    case(&rule("status = 503")).one_fault(&["outboxd.toml:13", "has no means", "key_reused"]);
    case(&rule("status = 99\nmeans = \"refused\"")).one_fault(&["outboxd.toml:14", "from 200 to 599"]);
    case(&rule("status = 409\nmeans = \"accepted\"")).one_fault(&["outboxd.toml:15", "cannot mean accepted"]);
    case(&rule("status = 409\ncode = \"X\"\nmeans = \"refused\"")).one_fault(&["code_json_pointer", "where an answer"]);
    let twice = "status = 503\nmeans = \"unknown\"\n[[rails.sepa.codes]]\nstatus = 503\nmeans = \"refused\"";
    case(&rule(twice)).one_fault(&["outboxd.toml:16", "rails.sepa.codes.1", "entry before"]);
    case(&rule("status = 503\nmeans = \"not_executed\"")).config();
}

#[test]
fn a_success_needs_a_reference_and_so_a_place_for_it() {
    let without = GOOD.replace("reference_json_pointer = \"/id\"", "");
    case(&without).one_fault(&["rails.sepa.reference_json_pointer", "without which no success counts"]);
    case(&GOOD.replace("\"/id\"", "\"id\"")).one_fault(&["outboxd.toml:12", "no JSON pointer"]);
    case(&GOOD.replace("\"/id\"", "\"/i~d\"")).one_fault(&["outboxd.toml:12", "no JSON pointer"]);
    case(&GOOD.replace("reference_json_pointer = \"/id\"", "reference_header = \"X-Id\"")).config();
}

#[test]
fn at_least_one_rail_is_needed() {
    let (text, _) = GOOD.split_once("[rails.sepa]").unwrap();
    case(text).one_fault(&["rails: no rail is configured"]);
}

#[test]
fn the_environment_goes_over_the_file_and_a_flag_over_both() {
    let text = with("dispatcher", "poll_max = \"500ms\"");
    assert_eq!(case(&text).config().dispatcher.poll_max, Millis(500));
    let over = case(&text).env("OUTBOXD__DISPATCHER__POLL_MAX", "600ms");
    assert_eq!(over.config().dispatcher.poll_max, Millis(600));
    let over = over.set("dispatcher.poll_max=700ms");
    assert_eq!(over.config().dispatcher.poll_max, Millis(700));
    assert_eq!(over.config().dispatcher.name, "pay-1", "keys beside the one that is set stay");
}

#[test]
fn a_text_from_the_environment_stays_one_though_it_looks_like_a_number() {
    let config = case(GOOD)
        .env("OUTBOXD__DATABASE__NAME", "0123")
        .env("OUTBOXD__DATABASE__PORT", "6432")
        .env("OUTBOXD__RAILS__SEPA__CODES", "[{status = 503, means = \"not_executed\"}]")
        .config();
    assert_eq!(config.database.name, "0123");
    assert_eq!(config.rails[&RailName::new("sepa").unwrap()].codes.len(), 1);
    let rail = case(GOOD)
        .env("OUTBOXD__RAILS__CARDS__URL", "https://cards.example/")
        .env("OUTBOXD__RAILS__CARDS__REFERENCE_HEADER", "X-Id");
    assert_eq!(rail.config().rails.len(), 2);
}

#[test]
fn the_environment_is_as_strict_as_the_file_and_named_in_the_fault() {
    for (name, value, part) in [
        ("OUTBOXD__DISPATCHER__CLAIM_BATCH_MAX", "5.9", "expected u32"),
        ("OUTBOXD__DISPATCHER__CLAIM_BATCH_MAX", "yes", "expected u32"),
        ("OUTBOXD__DATABASE__ALLOW_UNSAFE_DURABILITY", "1", "expected a boolean"),
        ("OUTBOXD__DATABASE__ALLOW_UNSAFE_DURABILITY", "on", "expected a boolean"),
        ("OUTBOXD__DISPATCHER__POLL_MAX", "5", "expected a duration"),
        ("OUTBOXD__DISPATCHER__POLL_MAX", "\"2s\"", "expected a duration"),
        ("OUTBOXD__DISPATCHER__CLAIM_BATCH_MAX", "5\npoll_max = \"1s\"", "expected u32"),
        ("OUTBOXD__DISPATCHER__POLLING", "1s", "unknown field `polling`"),
        ("OUTBOXD__DATABASE__PASSWORD", "canary", "unknown field `password`"),
        ("OUTBOXD__dispatcher__poll_max", "1s", "must be upper case"),
        ("OUTBOXD__DISPATCHER____POLL_MAX", "1s", "must be upper case"),
        ("OUTBOXD__", "1s", "must be upper case"),
    ] {
        let case = case(GOOD).env(name, value);
        case.one_fault(&[name, part]);
        assert!(!case.faults().concat().contains("canary"));
    }
    case(GOOD).set("dispatcher.claim_batch_max=5.9").one_fault(&["--set: dispatcher.claim_batch_max", "expected u32"]);
    case(GOOD).set("no-value").one_fault(&["--set", "KEY=VALUE"]);
    case(GOOD).env("OUTBOXD_CONFIG", "elsewhere").env("PATH", "/bin").config();
}

#[test]
fn a_relation_broken_by_the_environment_names_the_variable() {
    case(GOOD).env("OUTBOXD__DISPATCHER__POLL_MAX", "1ms").one_fault(&["dispatcher.poll_min", "longer than poll_max"]);
    let both = case(GOOD).env("OUTBOXD__RAILS__SEPA__CONNECT_TIMEOUT", "30s");
    both.one_fault(&["OUTBOXD__RAILS__SEPA__CONNECT_TIMEOUT", "longer than timeout"]);
}

#[test]
fn credentials_that_cannot_be_read_are_named_with_file_and_line() {
    let case = case("");
    let rail = |file: &str| with("rails.sepa", &format!("secret_headers.Authorization.file = \"{file}\""));
    let missing = case.dir.path().join("missing").display().to_string();
    case.write(&rail(&missing));
    case.one_fault(&["outboxd.toml:11", "secret_headers.Authorization.file", "missing: cannot be read"]);
    let open = case.file("open", "canary-secret", 0o644);
    case.write(&rail(&open));
    case.one_fault(&["outboxd.toml:11", "open: can be read by everybody (mode 0644)"]);
    case.write(&format!("{}[credentials]\nallow_world_readable = true\n", rail(&open)));
    assert!(!case.load().unwrap().warnings.is_empty());
    let lines = case.file("lines", "canary\nsecret", 0o600);
    case.write(&rail(&lines));
    case.one_fault(&["lines: must hold one line of text"]);
    assert!(!case.faults().concat().contains("canary"));
    case.write(&rail(&case.dir.path().display().to_string()));
    case.one_fault(&["is not a regular file"]);
    case.write(&rail("relative"));
    case.one_fault(&["must be an absolute path"]);
}

#[test]
fn a_credential_of_systemd_is_read_from_its_directory() {
    let mut case = case(&with("database", "password_credential = \"pw\""));
    case.one_fault(&["outboxd.toml:6", "CREDENTIALS_DIRECTORY is not set"]);
    case.sources.host.credentials_directory = Some(case.dir.path().to_owned());
    case.one_fault(&["outboxd.toml:6", "pw: cannot be read"]);
    case.file("pw", "canary", 0o400);
    let password = case.config().database.password.unwrap();
    assert_eq!(password.path, case.dir.path().join("pw"));
    case.write(&with("database", "password_credential = \"../pw\""));
    case.one_fault(&["must be the name of a credential"]);
    case.write(&with("database", "password_credential = \"pw\"\npassword_file = \"/pw\""));
    case.one_fault(&["give either this or database.password_file"]);
}

#[test]
fn the_fingerprint_knows_every_value_and_no_secret() {
    let case = case("");
    let token = case.file("token", "canary-one", 0o600);
    let text = with("rails.sepa", &format!("secret_headers.Authorization.file = \"{token}\""));
    case.write(&text);
    let before = case.load().unwrap();
    case.file("token", "canary-two", 0o600);
    assert_eq!(case.load().unwrap().config_sha256, before.config_sha256, "the secret is in the fingerprint");
    assert!(!format!("{before:?}").contains("canary"), "a secret shows in Debug");
    case.write(&text.replace("payments\"", "payments \"").replace("payments \"", "payments\""));
    assert_eq!(case.load().unwrap().config_sha256, before.config_sha256);
    let rail = |line: &str| format!("[rails.sepa]\n{line}\n");
    let lines = ["concurrency = 31", "breaker.failures = 11", "breaker.open_min = \"2s\"", "breaker.open_max = \"2m\""];
    let lines = lines.map(|line| ("[rails.sepa]\n", rail(line)));
    let values = [("pay-1", "pay-2".to_owned()), ("\"/id\"", "\"/ref\"".to_owned())];
    for (from, to) in values.into_iter().chain(lines) {
        case.write(&text.replace(from, &to));
        assert_ne!(case.load().unwrap().config_sha256, before.config_sha256, "{to}");
    }
}

#[test]
fn no_fault_shows_the_value_of_a_key_that_may_be_a_secret() {
    for text in [
        with("database", "password = \"canary9\""),
        with("database", "password = canary9"),
        with("database", "password = \"canary9"),
        with("rails.sepa", "token = { value = \"canary9\" }"),
        with("rails.sepa", "secret_headers = { Authorization = \"canary9\" }"),
        with("rails.sepa", "secret_headers.Authorization = \"canary9\""),
        with("rails.sepa", "secret_headers.Authorization.file = \"canary9\""),
        with("rails.sepa", "secret_headers.Authorization = { secret = \"canary9\" }"),
        with("rails.sepa", "headers = { Cookie = \"canary9\" }"),
        with("rails.sepa", "headers = \"canary9\""),
        with("rails.sepa", "headers = [\"canary9\"]"),
        with("rails.sepa", "codes = \"canary9\""),
        with("database", "port = \"canary9\""),
        with("rails", "sepo = \"canary9\""),
        GOOD.replace("[database]", "database = \"canary9\"\n[other]"),
    ] {
        let faults = case(&text).faults();
        assert!(!faults.is_empty(), "{text}");
        assert!(!faults.concat().contains("canary9"), "{faults:#?}");
    }
    for name in ["OUTBOXD__DATABASE__PASSWORD", "OUTBOXD__RAILS__SEPA__SECRET_HEADERS__AUTHORIZATION"] {
        let faults = case(GOOD).env(name, "canary9").faults();
        assert!(!faults.is_empty() && !faults.concat().contains("canary9"), "{faults:#?}");
    }
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_one_fault() {
    let mut case = case(GOOD);
    fs::write(&case.sources.file, b"[dispatcher]\nname = \"\xff\"\n").unwrap();
    case.one_fault(&["outboxd.toml:2: is not UTF-8"]);
    fs::write(&case.sources.file, vec![b'#'; 2_000_000]).unwrap();
    case.one_fault(&["is larger than"]);
    case.sources.file = Path::new(case.dir.path()).join("nothing.toml");
    case.one_fault(&["nothing.toml: cannot be read", "--config"]);
}
