//! Which crate may use which. The arrows are those of `docs/ARCHITECTURE.md`; a crate that is not in the
//! table is a finding, so that a new one is placed on purpose.

use toml::{Table, Value};

use crate::tree::{Finding, Tree};

/// One crate's place: the workspace's crates it may link, and those its tests may use besides.
struct Place {
    name: &'static str,
    links: &'static [&'static str],
    tests_use: &'static [&'static str],
}

const PLACES: [Place; 13] = [
    Place { name: "outbox-core", links: &[], tests_use: &[] },
    Place { name: "outbox-store", links: &["outbox-core"], tests_use: &["outbox-testkit"] },
    Place { name: "outbox-rail", links: &["outbox-core"], tests_use: &["rail-sim", "outbox-testkit"] },
    Place {
        name: "outboxd",
        links: &["outbox-core", "outbox-store", "outbox-rail", "outbox-secrets"],
        tests_use: &["rail-sim", "outbox-testkit"],
    },
    // It knows nothing of payments.
    Place { name: SECRETS, links: &[], tests_use: &[] },
    // The oracle shares no code with what it judges, in its tests neither.
    Place { name: "rail-sim", links: &[], tests_use: &[] },
    // It judges from outside: no code of the daemon's, nor of the rail whose files it reads. Its tests have the schema.
    Place { name: CHECKER, links: &[], tests_use: &["outbox-testkit"] },
    // What is explored is the core's own table.
    Place { name: "outbox-model", links: &["outbox-core"], tests_use: &[] },
    // What it tries lies in each of them; nothing links it.
    Place {
        name: "outbox-fuzz",
        links: &["outbox-core", "outbox-rail", "outbox-secrets", "outbox-store", "outboxd"],
        tests_use: &[],
    },
    // It runs the daemon inside itself, beside what it is measured against.
    Place {
        name: BENCH,
        links: &["outbox-core", "outbox-rail", "outboxd", "outbox-testkit", "rail-sim"],
        tests_use: &[],
    },
    Place { name: "outbox-testkit", links: &["outbox-core", "outbox-store"], tests_use: &[] },
    // It starts the programs and does not link them.
    Place { name: NEMESIS, links: &["outbox-testkit", "rail-sim"], tests_use: &[] },
    Place { name: "tidy", links: &[], tests_use: &[] },
];

/// The core decides without I/O, clock, randomness, async or serialisation: this is all it may link.
pub(crate) const CORE_LINKS: [&str; 1] = ["uuid"];

const RAIL: &str = "outbox-rail";
const SECRETS: &str = "outbox-secrets";
const NEMESIS: &str = "outbox-nemesis";
const BENCH: &str = "outbox-bench";
const CHECKER: &str = "outbox-checker";

/// Libraries that reach the outside, and the only crates that may link them. The simulated rail serves TLS.
const EDGES: [(&[&str], &[&str]); 7] = [
    (&["sqlx", "postgres", "tokio-postgres"], &["outbox-store", "outbox-testkit", CHECKER, NEMESIS, BENCH]),
    (&["rcgen"], &["outbox-testkit"]),
    (&["rustls"], &[RAIL, SECRETS, "rail-sim"]),
    (&["tokio-rustls"], &[RAIL, "rail-sim"]),
    (&["h2", "hyper-rustls", "hyper-tls", "native-tls", "openssl", "tokio-native-tls"], &[RAIL]),
    (&["reqwest", "rustify", "vaultrs"], &[SECRETS]),
    (&["attohttpc", "awc", "curl", "isahc", "surf", "tonic", "ureq"], &[RAIL]),
];

/// Libraries that serve HTTP as well as ask for it, and the features with which they ask.
const TWO_SIDED: [&str; 2] = ["hyper", "hyper-util"];
const CLIENT_FEATURES: [&str; 5] = ["client", "client-legacy", "client-pool", "client-proxy", "full"];

/// Crates depend on each other as the architecture says.
#[must_use]
pub fn crates_keep_their_places(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for crate_name in tree.names_in("crates") {
        let path = format!("crates/{crate_name}/Cargo.toml");
        let Some(place) = PLACES.iter().find(|place| place.name == crate_name) else {
            findings.push(Finding::whole(&path, "the crate has no place in tidy's table"));
            continue;
        };
        let Some(manifest) = read_manifest(tree, &path, &mut findings) else { continue };
        for (section, name, entry) in dependencies_of(&manifest) {
            let is_ours = PLACES.iter().any(|place| place.name == name);
            let for_tests = section == "dev-dependencies";
            let allowed = place.links.contains(&name) || (for_tests && place.tests_use.contains(&name));
            if is_ours && !allowed {
                findings.push(Finding::whole(&path, format!("{section}: {crate_name} may not use {name}")));
            }
            if !for_tests && crate_name == "outbox-core" && !CORE_LINKS.contains(&name) {
                findings.push(Finding::whole(&path, format!("the core may not link {name}")));
            }
            let edge = EDGES.iter().find(|(libraries, _)| libraries.contains(&name));
            if !for_tests && edge.is_some_and(|(_, crates)| !crates.contains(&crate_name)) {
                findings.push(Finding::whole(&path, format!("{crate_name} may not link {name}")));
            }
            if !for_tests && crate_name != RAIL && asks(name, entry) {
                findings.push(Finding::whole(&path, format!("{crate_name} may only serve with {name}, not ask")));
            }
        }
    }
    findings
}

/// Whether a dependency can ask over HTTP.
fn asks(name: &str, entry: &Value) -> bool {
    let features = entry.get("features").and_then(Value::as_array).into_iter().flatten();
    TWO_SIDED.contains(&name) && features.filter_map(Value::as_str).any(|feature| CLIENT_FEATURES.contains(&feature))
}

/// Every dependency takes its version from the workspace, and there its default features are off.
#[must_use]
pub fn versions_come_from_the_workspace(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for crate_name in tree.names_in("crates") {
        let path = format!("crates/{crate_name}/Cargo.toml");
        let Some(manifest) = read_manifest(tree, &path, &mut findings) else { continue };
        for (_, name, entry) in dependencies_of(&manifest) {
            if entry.get("workspace") != Some(&Value::Boolean(true)) {
                findings.push(Finding::whole(&path, format!("{name} is not `workspace = true`")));
            }
        }
    }
    let Some(root) = read_manifest(tree, "Cargo.toml", &mut findings) else { return findings };
    let shared = root.get("workspace").and_then(|w| w.get("dependencies")).and_then(Value::as_table);
    for (name, entry) in shared.into_iter().flatten() {
        let is_ours = entry.get("path").is_some();
        if !is_ours && entry.get("default-features") != Some(&Value::Boolean(false)) {
            findings.push(Finding::whole("Cargo.toml", format!("{name} keeps its default features")));
        }
        // Every crate would have it, the one that serves health among them.
        if asks(name, entry) {
            findings.push(Finding::whole("Cargo.toml", format!("{name} asks in every crate; only {RAIL} may")));
        }
    }
    findings
}

pub(crate) fn read_manifest(tree: &Tree, path: &str, findings: &mut Vec<Finding>) -> Option<Table> {
    match tree.text(path).map(str::parse) {
        Some(Ok(table)) => Some(table),
        Some(Err(error)) => {
            findings.push(Finding::whole(path, format!("does not parse: {error}")));
            None
        }
        None => {
            findings.push(Finding::whole(path, "is missing"));
            None
        }
    }
}

/// Section, name and entry of each dependency, those of one target only included.
pub(crate) fn dependencies_of(manifest: &Table) -> Vec<(&'static str, &str, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let mut found = Vec::new();
    for table in std::iter::once(manifest).chain(targets) {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let entries = table.get(section).and_then(Value::as_table);
            found.extend(entries.into_iter().flatten().map(|(name, entry)| (section, name.as_str(), entry)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(crate_name: &str, manifest: &str) -> usize {
        crates_keep_their_places(&Tree::of(&[(&format!("crates/{crate_name}/Cargo.toml"), manifest)])).len()
    }

    #[test]
    fn every_forbidden_arrow_is_found() {
        assert_eq!(check("outbox-store", "[dependencies]\noutbox-rail.workspace = true"), 1);
        assert_eq!(check("outbox-rail", "[dependencies]\noutbox-store.workspace = true"), 1);
        assert_eq!(check("outbox-rail", "[dev-dependencies]\noutbox-store.workspace = true"), 1);
        assert_eq!(check("outboxd", "[dependencies]\noutbox-testkit.workspace = true"), 1);
        assert_eq!(check("outboxd", "[build-dependencies]\nrail-sim.workspace = true"), 1);
        assert_eq!(check("rail-sim", "[dev-dependencies]\noutbox-core.workspace = true"), 1);
        assert_eq!(check("outbox-core", "[dependencies]\ntokio.workspace = true"), 1);
        assert_eq!(check("outbox-rail", "[dependencies]\nsqlx.workspace = true"), 1);
        assert_eq!(check("outbox-extra", ""), 1);
    }

    #[test]
    fn the_checker_shares_no_code_with_what_it_judges() {
        for name in ["outbox-core", "outbox-store", "outbox-rail", "outboxd", "outbox-model", "rail-sim"] {
            for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
                assert_eq!(
                    check("outbox-checker", &format!("[{section}]\n{name}.workspace = true")),
                    1,
                    "{section} {name}"
                );
            }
            let manifest = "[dependencies]\noutbox-checker.workspace = true";
            assert!(check(name, manifest) >= 1, "{name}");
        }
        assert_eq!(check("outbox-checker", "[dependencies]\noutbox-testkit.workspace = true"), 1);
        let allowed = "[dependencies]\nsqlx.workspace = true\n[dev-dependencies]\noutbox-testkit.workspace = true";
        assert_eq!(check("outbox-checker", allowed), 0);
    }

    #[test]
    fn only_the_rail_links_a_client_of_http_or_tls_and_the_secrets_one_of_their_own() {
        for library in ["reqwest", "rustify", "vaultrs"] {
            let manifest = format!("[dependencies]\n{library}.workspace = true");
            for name in ["outbox-core", "outbox-store", "outbox-rail", "outboxd"] {
                assert!(check(name, &manifest) >= 1, "{name} {library}");
            }
            assert_eq!(check("outbox-secrets", &manifest), 0, "{library}");
        }
        assert_eq!(check("outbox-secrets", "[dependencies]\noutbox-rail.workspace = true"), 1);
        assert_eq!(check("outbox-rail", "[dependencies]\noutbox-secrets.workspace = true"), 1);
        assert_eq!(check("outbox-secrets", "[dependencies]\nhyper = { workspace = true, features = [\"client\"] }"), 1);
        for library in ["ureq", "h2", "hyper-rustls", "tokio-rustls", "rustls"] {
            for section in ["dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
                let manifest = format!("[{section}]\n{library}.workspace = true");
                assert_eq!(check("outboxd", &manifest), 1, "{manifest}");
                assert_eq!(check("outbox-store", &manifest), 1, "{manifest}");
                assert_eq!(check("outbox-rail", &manifest), 0, "{manifest}");
            }
            assert_eq!(check("outboxd", &format!("[dev-dependencies]\n{library}.workspace = true")), 0);
        }
        let asking = |library: &str, feature: &str| {
            format!("[dependencies]\n{library} = {{ workspace = true, features = [\"tokio\", \"{feature}\"] }}")
        };
        for (library, feature) in [("hyper", "client"), ("hyper-util", "client-legacy"), ("hyper", "full")] {
            assert_eq!(check("outboxd", &asking(library, feature)), 1, "{library} {feature}");
            assert_eq!(check("outbox-rail", &asking(library, feature)), 0, "{library} {feature}");
        }
        assert_eq!(check("outboxd", &asking("hyper", "server")), 0);
        let everywhere =
            "[workspace.dependencies]\nhyper = { version = \"1\", default-features = false, features = [\"client\"] }";
        assert_eq!(versions_come_from_the_workspace(&Tree::of(&[("Cargo.toml", everywhere)])).len(), 1);
    }

    #[test]
    fn the_arrows_of_the_architecture_pass() {
        let daemon = "[dependencies]\noutbox-store.workspace = true\noutbox-rail.workspace = true\n\
                      [dev-dependencies]\nrail-sim.workspace = true\noutbox-testkit.workspace = true\nsqlx.workspace = true";
        assert_eq!(check("outboxd", daemon), 0);
        assert_eq!(check("outbox-store", "[dependencies]\noutbox-core.workspace = true\nsqlx.workspace = true"), 0);
    }

    #[test]
    fn own_version_and_default_features_are_found() {
        let tree = Tree::of(&[
            (
                "Cargo.toml",
                "[workspace.dependencies]\na = { version = \"1\" }\nb = { version = \"1\", default-features = false }",
            ),
            ("crates/tidy/Cargo.toml", "[dependencies]\na = \"1\"\nb = { workspace = true }"),
        ]);
        assert_eq!(versions_come_from_the_workspace(&tree).len(), 2);
    }
}
