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

const PLACES: [Place; 7] = [
    Place { name: "outbox-core", links: &[], tests_use: &[] },
    Place { name: "outbox-store", links: &["outbox-core"], tests_use: &["outbox-testkit"] },
    Place { name: "outbox-rail", links: &["outbox-core"], tests_use: &["rail-sim", "outbox-testkit"] },
    Place {
        name: "outboxd",
        links: &["outbox-core", "outbox-store", "outbox-rail"],
        tests_use: &["rail-sim", "outbox-testkit"],
    },
    // The oracle shares no code with what it judges, in its tests neither.
    Place { name: "rail-sim", links: &[], tests_use: &[] },
    Place { name: "outbox-testkit", links: &["outbox-core", "outbox-store"], tests_use: &[] },
    Place { name: "tidy", links: &[], tests_use: &[] },
];

/// The core decides without I/O, clock, randomness, async or serialisation: this is all it may link.
const CORE_LINKS: [&str; 1] = ["uuid"];

/// Libraries that reach the outside, and the only crates that may link them.
const EDGES: [(&str, &[&str]); 3] =
    [("sqlx", &["outbox-store", "outbox-testkit"]), ("reqwest", &["outbox-rail"]), ("rcgen", &["outbox-testkit"])];

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
        for (section, name) in dependencies_of(&manifest) {
            let is_ours = PLACES.iter().any(|place| place.name == name);
            let for_tests = section == "dev-dependencies";
            let allowed = place.links.contains(&name) || (for_tests && place.tests_use.contains(&name));
            if is_ours && !allowed {
                findings.push(Finding::whole(&path, format!("{section}: {crate_name} may not use {name}")));
            }
            if !for_tests && crate_name == "outbox-core" && !CORE_LINKS.contains(&name) {
                findings.push(Finding::whole(&path, format!("the core may not link {name}")));
            }
            let edge = EDGES.iter().find(|(library, _)| *library == name);
            if !for_tests && edge.is_some_and(|(_, crates)| !crates.contains(&crate_name)) {
                findings.push(Finding::whole(&path, format!("{crate_name} may not link {name}")));
            }
        }
    }
    findings
}

/// Every dependency takes its version from the workspace, and there its default features are off.
#[must_use]
pub fn versions_come_from_the_workspace(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for crate_name in tree.names_in("crates") {
        let path = format!("crates/{crate_name}/Cargo.toml");
        let Some(manifest) = read_manifest(tree, &path, &mut findings) else { continue };
        for (section, name) in dependencies_of(&manifest) {
            let entry = manifest.get(section).and_then(|table| table.get(name));
            if entry.and_then(|entry| entry.get("workspace")) != Some(&Value::Boolean(true)) {
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
    }
    findings
}

fn read_manifest(tree: &Tree, path: &str, findings: &mut Vec<Finding>) -> Option<Table> {
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

fn dependencies_of(manifest: &Table) -> Vec<(&'static str, &str)> {
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = sections.map(|section| (section, manifest.get(section).and_then(Value::as_table)));
    tables
        .into_iter()
        .flat_map(|(section, table)| table.into_iter().flatten().map(move |(name, _)| (section, name.as_str())))
        .collect()
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
