//! Nothing committed names a place of one machine, or a host that packages were fetched from: both are
//! true for one person on one day only.

use crate::tree::{Finding, Tree};

/// Parts of paths that exist on somebody's machine.
const PLACES: [&str; 6] = ["/work/", "/tmp/", "/root/", "/home/", "../shared", "shared/design"];
/// Hosts of package registries.
const HOSTS: [&str; 7] = [
    "index.crates.io",
    "static.crates.io",
    "static.rust-lang.org",
    "pypi.org",
    "files.pythonhosted.org",
    "npmjs.org",
    "deb.debian.org",
];

/// Committed files name no machine's path and no registry's host.
#[must_use]
pub fn files_name_no_machine(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The lock file names cargo's registry by design; this file names what it looks for.
    let looked_at = tree.files().filter(|(path, _)| *path != "Cargo.lock" && *path != "crates/tidy/src/machines.rs");
    for (path, text) in looked_at {
        for (index, line) in text.lines().enumerate() {
            for named in PLACES.iter().chain(&HOSTS).filter(|named| line.contains(**named)) {
                findings.push(Finding::at(path, index + 1, format!("names {named}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_hosts_are_found() {
        let text = "see /work/x\nfrom https://pypi.org/simple\nrun /usr/bin/outboxd\n";
        let lines: Vec<_> = files_name_no_machine(&Tree::of(&[("a.md", text)])).iter().map(|f| f.line).collect();
        assert_eq!(lines, [1, 2]);
    }
}
