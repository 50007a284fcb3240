//! The corpus: what was found once, and what shows a rule. Each of its files must hold in each build.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use outbox_fuzz::TARGETS;

use super::quietly::fault_of;

pub(crate) fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files of a target, by name.
pub(crate) fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target);
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("an entry of the corpus");
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        (name, fs::read(entry.path()).expect("a file of the corpus"))
    };
    let mut inputs: Vec<_> = fs::read_dir(&folder).expect("a folder for each target").map(read).collect();
    inputs.sort();
    inputs
}

#[test]
fn what_was_found_once_holds() {
    let mut broken = Vec::new();
    for target in TARGETS {
        for (name, bytes) in inputs(target.name) {
            broken.extend(fault_of(target.check, &bytes).map(|fault| format!("{}/{name}: {fault}", target.name)));
        }
    }
    assert!(broken.is_empty(), "{} of the corpus do not hold:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_target_has_a_corpus_and_every_folder_of_it_a_target() {
    let read =
        |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string().expect("UTF-8");
    let folders: BTreeSet<String> = fs::read_dir(corpus()).expect("the corpus").map(read).collect();
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(folders, names);
    for target in TARGETS {
        assert!(inputs(target.name).len() >= 5, "{} is tried on next to nothing", target.name);
    }
}
