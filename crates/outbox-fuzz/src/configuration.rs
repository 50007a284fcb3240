//! The daemon's configuration: any text gives a configuration, or faults that each have a place and show no secret. One that is
//! accepted says the same when it is read again, and rails can be made of it. `#set KEY=VALUE` and `#env NAME=VALUE` in a line
//! stand for the flag and the environment.

use std::path::{Path, PathBuf};

use outbox_rail::HttpRail;
use outboxd::config::model::{Config, Rail};
use outboxd::config::{Faults, Host, Place, Sources, describe, parse, sha256};
use outboxd::settings::http_rails;

use crate::CANARY;

pub(crate) const FILE: &str = "outboxd.toml";

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let sources = sources(text);
    match parse(&sources, text) {
        Ok(config) => accepted(&config, &sources, text),
        Err(faults) => refused(&faults, text),
    }
    no_secret_is_shown(&sources, text);
}

pub(crate) fn host() -> Host {
    Host {
        name: "pay-1".to_owned(),
        credentials_directory: Some(PathBuf::from("/run/credentials")),
        state_directory: None,
    }
}

fn sources(text: &str) -> Sources {
    let given = |mark: &str| text.lines().filter_map(move |line| line.strip_prefix(mark)).map(str::to_owned).collect();
    let assignments: Vec<String> = given("#set ");
    let environment: Vec<String> = given("#env ");
    let pair = |line: &String| line.split_once('=').map(|(name, value)| (name.into(), value.into()));
    Sources {
        file: PathBuf::from(FILE),
        environment: environment.iter().filter_map(pair).collect(),
        assignments,
        host: host(),
    }
}

/// Each fault of a file has a place in it, and can be shown on a terminal.
pub(crate) fn refused(faults: &Faults, text: &str) {
    assert!(faults.iter().count() > 0, "refused without a fault");
    for fault in faults.iter() {
        if let Place::File { path, line } = &fault.place {
            assert_eq!(path, Path::new(FILE));
            assert!(*line <= text.split('\n').count(), "line {line} of {}: {fault}", text.split('\n').count());
        }
        let shown = fault.to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "control characters in a message: {shown:?}");
    }
}

fn accepted(config: &Config, sources: &Sources, text: &str) {
    assert!(toml::from_str::<toml::Table>(text).is_ok(), "accepted, and is no TOML");
    let (lines, hash) = (describe(config), sha256(config));
    for again in [text.to_owned(), format!("{text}\n# a comment")] {
        let again = parse(sources, &again).expect("what was accepted");
        assert_eq!(
            (describe(&again), sha256(&again)),
            (lines.clone(), hash.clone()),
            "read again it says something else"
        );
    }
    assert!(!config.rails.is_empty());
    for rail in config.rails.values() {
        rail_can_be_made(rail, config);
    }
}

fn rail_can_be_made(rail: &Rail, config: &Config) {
    let headers = rail.headers.iter().chain(&rail.possible_duplicate);
    for (name, value) in headers {
        assert!(value.to_str().is_ok(), "{name} is not visible ASCII: {value:?}");
    }
    // Files do not exist here; what they hold is another target's.
    let plain = Rail { secret_headers: Vec::new(), tls: Default::default(), ..rail.clone() };
    let sans = vec![None; 1 + rail.fallback_urls.len()];
    for settings in http_rails(&plain, &sans, config.credentials) {
        let url = settings.url.clone();
        let is_tls = url.starts_with("https:");
        if !is_tls {
            let made = HttpRail::new(settings);
            assert!(made.is_ok(), "accepted, and no rail can be made of {url}: {:?}", made.err());
        }
    }
}

/// A key that nobody knows may hold a secret that was put in the wrong place.
fn no_secret_is_shown(sources: &Sources, text: &str) {
    let with = format!("{text}\ncanary_of_nobody = \"{CANARY}\"\n");
    if text.contains(CANARY) {
        return;
    }
    if let Err(faults) = parse(sources, &with) {
        assert!(!faults.to_string().contains(CANARY), "a value that may be a secret is shown: {faults}");
    }
}
