//! What may get into the crates that touch money, and by which way. A reader of those crates has to have read everything
//! that is compiled into them: their own files, and libraries that are on a list. Scripts, documents and the other crates
//! are free. Which of our crates may use which is in `dependencies`; a finding here begins with the name of its rule.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::boundary_code;
use crate::dependencies::{CORE_LINKS, dependencies_of, read_manifest};
use crate::tree::{Finding, Tree};

/// A crate that touches money, and every library that it may link. A new one is put here on purpose, with its reason in the
/// commit.
struct Core {
    name: &'static str,
    links: &'static [&'static str],
}

const CORES: [Core; 5] = [
    Core { name: "outbox-core", links: &CORE_LINKS },
    Core {
        name: "outbox-store",
        links: &["outbox-core", "rustix", "sha2", "sqlx", "thiserror", "time", "tokio", "tracing", "uuid"],
    },
    Core {
        name: "outbox-rail",
        links: &[
            "bytes",
            "h2",
            "http",
            "http-body-util",
            "httpdate",
            "hyper",
            "hyper-util",
            "outbox-core",
            "rustix",
            "rustls",
            "rustls-native-certs",
            "rustls-pki-types",
            "secrecy",
            "serde_json",
            "sha2",
            "thiserror",
            "tokio",
            "tokio-rustls",
        ],
    },
    Core {
        name: "outboxd",
        links: &[
            "base64",
            "bytes",
            "clap",
            "clap_complete",
            "clap_mangen",
            "comfy-table",
            "config",
            "http",
            "http-body-util",
            "humantime",
            "humantime-serde",
            "hyper",
            "hyper-util",
            "indicatif",
            "outbox-core",
            "outbox-rail",
            "outbox-secrets",
            "outbox-store",
            "rustix",
            "sd-notify",
            "secrecy",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "time",
            "tokio",
            "toml",
            "tracing",
            "tracing-subscriber",
            "url",
            "uuid",
        ],
    },
    // It touches no money, and is compiled into the program that does.
    Core {
        name: "outbox-secrets",
        links: &[
            "http",
            "reqwest",
            "rustify",
            "rustls",
            "rustls-native-certs",
            "rustls-pki-types",
            "secrecy",
            "serde_json",
            "thiserror",
            "vaultrs",
        ],
    },
];

/// The part of the daemon that sends, and what of the daemon's libraries it may name.
const DISPATCH: &str = "crates/outboxd/src/dispatch/";
const DISPATCH_NAMES: [&str; 10] = [
    "outbox_core",
    "outbox_rail",
    "outbox_store",
    "serde",
    "serde_json",
    "thiserror",
    "time",
    "tokio",
    "tracing",
    "uuid",
];

/// Beside Rust: what is installed with the daemon, and messages that its tests send. Nothing of it is compiled in.
const OTHER_FILES: [(&str, &[&str]); 2] = [
    ("crates/outboxd/packaging/", &["hcl", "json", "service", "sysusers", "timer", "toml", "yml"]),
    ("crates/outboxd/tests/fixtures/", &["json", "xml"]),
];

/// Where the lock file may take a library from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Nothing gets into the crates that touch money but their own Rust files and the libraries on the list.
#[must_use]
pub fn core_boundary_is_kept(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for core in &CORES {
        check_manifest(tree, core, &mut findings);
        check_files(tree, core, &mut findings);
        findings.extend(boundary_code::of_crate(tree, core.name));
    }
    check_dispatch(tree, &mut findings);
    check_workspace(tree, &mut findings);
    check_lock_file(tree, &mut findings);
    findings
}

fn check_manifest(tree: &Tree, core: &Core, findings: &mut Vec<Finding>) {
    let path = format!("crates/{}/Cargo.toml", core.name);
    let Some(manifest) = read_manifest(tree, &path, findings) else { return };
    let mut found = |rule: &str, what: String| findings.push(Finding::whole(&path, format!("{rule}: {what}")));
    for (section, name, entry) in dependencies_of(&manifest) {
        match section {
            "build-dependencies" => found("build-dependency", name.to_owned()),
            "dependencies" if !core.links.contains(&name) => found("dependency-not-listed", name.to_owned()),
            _ => {}
        }
        for (rule, what) in origin_faults(name, entry) {
            found(rule, what);
        }
    }
    for (rule, what) in replacements(&manifest) {
        found(rule, what);
    }
    let package = manifest.get("package").and_then(Value::as_table);
    if let Some(build) = package.and_then(|package| package.get("build"))
        && *build != Value::Boolean(false)
    {
        found("build-script", format!("{build:?}"));
    }
    let library = manifest.get("lib").and_then(Value::as_table);
    for key in ["proc-macro", "proc_macro", "plugin", "crate-type"] {
        if let Some(value) = library.and_then(|library| library.get(key)) {
            found("proc-macro", format!("lib.{key} = {value:?}"));
        }
    }
    for target in targets(&manifest) {
        if let Some(source) = target.get("path").and_then(Value::as_str) {
            found("target-elsewhere", source.to_owned());
        }
    }
    if manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&Value::Boolean(true)) {
        found("lints-not-inherited", "the workspace forbids unsafe code".to_owned());
    }
}

/// The tables of a manifest that may name a source file.
fn targets(manifest: &Table) -> Vec<&Table> {
    let single = manifest.get("lib").and_then(Value::as_table);
    let several = ["bin", "example", "test", "bench"].iter().filter_map(|kind| manifest.get(*kind)?.as_array());
    single.into_iter().chain(several.flatten().filter_map(Value::as_table)).collect()
}

/// A dependency under another name, or from anywhere but the registry.
fn origin_faults(name: &str, entry: &Value) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if let Some(package) = entry.get("package") {
        faults.push(("dependency-renamed", format!("{name} is {package:?}")));
    }
    for key in ["git", "registry", "registry-index", "base"] {
        if let Some(value) = entry.get(key) {
            faults.push(("dependency-from-elsewhere", format!("{name}: {key} = {value:?}")));
        }
    }
    if let Some(place) = entry.get("path").and_then(Value::as_str)
        && place != format!("crates/{name}")
    {
        faults.push(("dependency-from-elsewhere", format!("{name}: path = {place:?}")));
    }
    faults
}

/// What puts one library in the place of another.
fn replacements(manifest: &Table) -> Vec<(&'static str, String)> {
    let named = ["patch", "replace"].into_iter().filter(|key| manifest.contains_key(*key));
    named.map(|key| ("dependency-replaced", format!("[{key}]"))).collect()
}

fn check_files(tree: &Tree, core: &Core, findings: &mut Vec<Finding>) {
    let folder = format!("crates/{}/", core.name);
    for (path, _) in tree.files().filter(|(path, _)| path.starts_with(&folder)) {
        let inside = &path[folder.len()..];
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        let is_code =
            ["src/", "tests/", "examples/"].iter().any(|place| inside.starts_with(place)) && extension == "rs";
        let is_other = OTHER_FILES.iter().any(|(place, kinds)| path.starts_with(place) && kinds.contains(&extension));
        if inside == "build.rs" {
            findings.push(Finding::whole(path, "build-script: runs before anything is compiled"));
        } else if !is_code && !is_other && inside != "Cargo.toml" {
            findings.push(Finding::whole(path, "file-kind: neither Rust in src, tests or examples, nor on the list"));
        }
        if tree.is_link(path) {
            findings.push(Finding::whole(path, "file-kind: a symbolic link"));
        }
    }
}

fn check_dispatch(tree: &Tree, findings: &mut Vec<Finding>) {
    let mut unread = Vec::new();
    let Some(manifest) = read_manifest(tree, "crates/outboxd/Cargo.toml", &mut unread) else { return };
    let linked = dependencies_of(&manifest).into_iter().filter(|(section, ..)| *section == "dependencies");
    let refused: BTreeSet<String> = linked
        .map(|(_, name, _)| name.replace('-', "_"))
        .filter(|name| !DISPATCH_NAMES.contains(&name.as_str()))
        .collect();
    findings.extend(boundary_code::names_in(tree, DISPATCH, &refused));
}

fn check_workspace(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(root) = read_manifest(tree, "Cargo.toml", findings) else { return };
    let mut found = |rule: &str, what: String| findings.push(Finding::whole("Cargo.toml", format!("{rule}: {what}")));
    let workspace = root.get("workspace").and_then(Value::as_table);
    let shared = workspace.and_then(|workspace| workspace.get("dependencies")).and_then(Value::as_table);
    for (name, entry) in shared.into_iter().flatten() {
        for (rule, what) in origin_faults(name, entry) {
            found(rule, what);
        }
    }
    for (rule, what) in replacements(&root) {
        found(rule, what);
    }
    let members = workspace.and_then(|workspace| workspace.get("members")?.as_array());
    let members: Vec<&str> = members.into_iter().flatten().filter_map(Value::as_str).collect();
    if members != ["crates/*"] {
        found("target-elsewhere", format!("workspace.members = {members:?}"));
    }
    let unsafe_code = workspace.and_then(|workspace| workspace.get("lints")?.get("rust")?.get("unsafe_code"));
    if unsafe_code.and_then(Value::as_str) != Some("forbid") {
        found("lints-not-inherited", "the workspace does not forbid unsafe code".to_owned());
    }
    for (path, _) in tree.files() {
        // It can replace sources, paths, the linker and the compiler itself.
        if path.starts_with(".cargo/") || path.contains("/.cargo/") {
            findings.push(Finding::whole(path, "dependency-replaced: cargo's own configuration"));
        }
    }
}

fn check_lock_file(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(lock) = read_manifest(tree, "Cargo.lock", findings) else { return };
    let ours: BTreeSet<&str> = tree.names_in("crates").into_iter().collect();
    for package in lock.get("package").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        let is_sound = match text("source") {
            Some(source) => source == REGISTRY && text("checksum").is_some(),
            None => ours.contains(name),
        };
        if !is_sound {
            let source = text("source").unwrap_or("a path");
            findings.push(Finding::whole("Cargo.lock", format!("dependency-from-elsewhere: {name} from {source}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        "[package]\nname = \"outbox-core\"\n[lints]\nworkspace = true\n[dependencies]\nuuid.workspace = true\n";
    const ROOT: &str = "[workspace]\nmembers = [\"crates/*\"]\n[workspace.lints.rust]\nunsafe_code = \"forbid\"\n\
        [workspace.dependencies]\noutbox-core = { path = \"crates/outbox-core\" }\nuuid = \"1\"\n";
    const LOCK: &str = "[[package]]\nname = \"outbox-core\"\nversion = \"0.1.0\"\n[[package]]\nname = \"uuid\"\nversion = \"1\"\n\
        source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"00\"\n";
    const PLAIN: &str = "[lints]\nworkspace = true\n";

    /// A sound tree with some files put in or put in the place of others; the names of the rules that it breaks.
    fn broken_by(changes: &[(&str, &str)]) -> BTreeSet<String> {
        let sound = [
            ("Cargo.toml", ROOT),
            ("Cargo.lock", LOCK),
            ("crates/outbox-core/Cargo.toml", MANIFEST),
            ("crates/outbox-core/src/lib.rs", "//! Decides.\nfn a() { let _ = env!(\"CARGO_PKG_VERSION\"); }"),
            ("crates/outbox-store/Cargo.toml", PLAIN),
            ("crates/outbox-store/src/migrate.rs", "const A: &str = include_str!(\"../../../migrations/0001_a.sql\");"),
            ("crates/outbox-rail/Cargo.toml", PLAIN),
            ("crates/outbox-secrets/Cargo.toml", PLAIN),
            (
                "crates/outboxd/Cargo.toml",
                "[lints]\nworkspace = true\n[dependencies]\ntokio.workspace = true\nclap.workspace = true\n",
            ),
            ("crates/outboxd/src/dispatch/lane.rs", "use tokio::sync::mpsc;\n"),
            ("crates/outboxd/src/cli.rs", "use clap::Parser;\n"),
            ("crates/outboxd/packaging/outboxd.service", ""),
            ("crates/rail-sim/build.rs", "free"),
            ("scripts/a.py", "free"),
        ];
        let tree = Tree::of(&[sound.as_slice(), changes].concat());
        rules(&core_boundary_is_kept(&tree))
    }

    fn rules(findings: &[Finding]) -> BTreeSet<String> {
        findings.iter().map(|finding| finding.what.split(':').next().unwrap_or_default().to_owned()).collect()
    }

    fn one(rule: &str) -> BTreeSet<String> {
        BTreeSet::from([rule.to_owned()])
    }

    /// The core's manifest with lines put after it.
    fn core_with(lines: &str) -> BTreeSet<String> {
        broken_by(&[("crates/outbox-core/Cargo.toml", &format!("{MANIFEST}{lines}"))])
    }

    fn root_with(lines: &str) -> BTreeSet<String> {
        broken_by(&[("Cargo.toml", &format!("{ROOT}{lines}"))])
    }

    #[test]
    fn a_sound_tree_passes_and_what_is_not_the_core_is_free() {
        assert_eq!(broken_by(&[]), BTreeSet::new());
        assert_eq!(core_with("[dev-dependencies]\nproptest.workspace = true\n"), BTreeSet::new());
        assert_eq!(broken_by(&[("crates/rail-sim/src/a.c", ""), ("docs/x.bin", "")]), BTreeSet::new());
    }

    #[test]
    fn a_library_that_is_not_listed_is_refused() {
        assert_eq!(core_with("rand.workspace = true\n"), one("dependency-not-listed"));
        assert_eq!(
            core_with("[target.'cfg(unix)'.dependencies]\nlibc.workspace = true\n"),
            one("dependency-not-listed")
        );
        assert_eq!(
            core_with("[target.x86_64-unknown-linux-gnu.build-dependencies]\ncc.workspace = true\n"),
            one("build-dependency")
        );
        assert_eq!(core_with("optional = { workspace = true, optional = true }\n"), one("dependency-not-listed"));
    }

    #[test]
    fn code_that_runs_at_build_time_is_refused() {
        assert_eq!(core_with("[build-dependencies]\nuuid.workspace = true\n"), one("build-dependency"));
        assert_eq!(broken_by(&[("crates/outbox-core/build.rs", "fn main() {}")]), one("build-script"));
        let named = MANIFEST.replace("[lints]", "build = \"src/lib.rs\"\n[lints]");
        assert_eq!(broken_by(&[("crates/outbox-core/Cargo.toml", &named)]), one("build-script"));
        assert_eq!(core_with("[lib]\nproc-macro = true\n"), one("proc-macro"));
    }

    #[test]
    fn a_library_from_elsewhere_or_under_another_name_is_refused() {
        assert_eq!(
            core_with("[target.'cfg(all())'.dependencies.uuid]\nworkspace = true\npackage = \"evil\"\n"),
            one("dependency-renamed")
        );
        assert_eq!(root_with("sqlx = { version = \"1\", package = \"evil\" }\n"), one("dependency-renamed"));
        assert_eq!(root_with("a = { git = \"https://example.org/a\" }\n"), one("dependency-from-elsewhere"));
        assert_eq!(root_with("a = { path = \"../a\" }\n"), one("dependency-from-elsewhere"));
        assert_eq!(root_with("a = { version = \"1\", registry = \"own\" }\n"), one("dependency-from-elsewhere"));
        assert_eq!(
            root_with("[patch.crates-io]\nuuid = { path = \"crates/outbox-core\" }\n"),
            one("dependency-replaced")
        );
        assert_eq!(root_with("[replace]\n\"uuid:1.0.0\" = { path = \"x\" }\n"), one("dependency-replaced"));
        assert_eq!(
            broken_by(&[(".cargo/config.toml", "[source.crates-io]\nreplace-with = \"x\"")]),
            one("dependency-replaced")
        );
        assert_eq!(
            broken_by(&[("crates/outbox-core/.cargo/config", "")]),
            BTreeSet::from(["dependency-replaced", "file-kind"].map(str::to_owned))
        );
        let git = LOCK.replace("registry+https://github.com/rust-lang/crates.io-index", "git+https://example.org/uuid");
        assert_eq!(broken_by(&[("Cargo.lock", &git)]), one("dependency-from-elsewhere"));
        assert_eq!(
            broken_by(&[("Cargo.lock", &LOCK.replace("checksum = \"00\"\n", ""))]),
            one("dependency-from-elsewhere")
        );
        assert_eq!(
            broken_by(&[("Cargo.lock", &LOCK.replace("\"outbox-core\"", "\"elsewhere\""))]),
            one("dependency-from-elsewhere")
        );
    }

    #[test]
    fn a_source_file_from_elsewhere_is_refused() {
        assert_eq!(core_with("[lib]\npath = \"../../scripts/a.rs\"\n"), one("target-elsewhere"));
        assert_eq!(core_with("[[bin]]\nname = \"b\"\npath = \"../b.rs\"\n"), one("target-elsewhere"));
        assert_eq!(
            broken_by(&[("Cargo.toml", &ROOT.replace("crates/*", "crates/*\", \"scripts/x"))]),
            one("target-elsewhere")
        );
        for (path, rule) in
            [("src/a.c", "file-kind"), ("src/a.json", "file-kind"), ("a.so", "file-kind"), ("other/a.rs", "file-kind")]
        {
            assert_eq!(broken_by(&[(&format!("crates/outbox-core/{path}"), "")]), one(rule), "{path}");
        }
        let linked = Tree::of(&[("crates/outbox-core/Cargo.toml", MANIFEST), ("crates/outbox-core/src/a.rs", "")])
            .with_link("crates/outbox-core/src/a.rs");
        assert!(core_boundary_is_kept(&linked).iter().any(|finding| finding.what == "file-kind: a symbolic link"));
    }

    #[test]
    fn text_that_is_put_in_from_outside_is_refused() {
        for (code, rule) in [
            ("include!(\"a.rs\");", "include-code"),
            ("fn f() { std::include!(concat!(env!(\"OUT_DIR\"), \"/a.rs\")); }", "include-code"),
            ("const A: &str = include_str!(\"../../../scripts/a.txt\");", "include-from-outside"),
            ("const A: &[u8] = core::include_bytes!(\"/etc/passwd\");", "include-from-outside"),
            ("const A: &str = include_str!(concat!(\"a\", \"b\"));", "include-from-outside"),
            ("m! { const A: &str = include_str!(\"../../x\"); }", "include-from-outside"),
            ("#[path = \"../../../scripts/a.rs\"] mod a;", "module-path"),
            ("#[cfg_attr(unix, path = \"a.rs\")] mod a;", "module-path"),
            ("const A: &str = env!(\"HOME\");", "build-environment"),
            ("const A: Option<&str> = option_env!(\"X\");", "build-environment"),
            ("#![allow(unsafe_code)]", "lints-not-inherited"),
            ("#[link(name = \"evil\")] extern \"C\" {}", "foreign-code"),
        ] {
            assert!(broken_by(&[("crates/outbox-core/src/lib.rs", code)]).contains(rule), "{code}");
            assert_eq!(broken_by(&[("crates/rail-sim/src/lib.rs", code)]), BTreeSet::new(), "{code}");
        }
    }

    #[test]
    fn what_sends_names_no_library_but_those_listed() {
        for code in [
            "use clap::Parser;",
            "use ::clap as c;",
            "fn f(x: clap::Arg) {}",
            "fn f() { clap::parse(); }",
            "extern crate clap;",
            "fn f() { m!(clap::x) }",
        ] {
            assert_eq!(broken_by(&[("crates/outboxd/src/dispatch/lane.rs", code)]), one("dispatch-names"), "{code}");
        }
        assert_eq!(
            broken_by(&[("crates/outboxd/src/dispatch/lane.rs", "#[cfg(test)]\nmod tests {\nuse clap::Parser;\n}\n")]),
            BTreeSet::new()
        );
    }

    #[test]
    fn unsafe_code_stays_forbidden() {
        assert_eq!(
            broken_by(&[("crates/outbox-core/Cargo.toml", &MANIFEST.replace("workspace = true\n[dep", "[dep"))]),
            one("lints-not-inherited")
        );
        assert_eq!(broken_by(&[("Cargo.toml", &ROOT.replace("forbid", "warn"))]), one("lints-not-inherited"));
    }
}
