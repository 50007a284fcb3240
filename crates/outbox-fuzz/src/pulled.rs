//! The file of `outboxd secrets pull`: faults with places, or files that stay in their directory and come from paths that stay
//! below their mount.

use std::path::Path;

use outboxd::config::pulled::{PulledConfig, parse};

use crate::CANARY;
use crate::configuration::{FILE, host, refused};
use crate::policy::is_exact;

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read(text) {
        Ok(config) => {
            let table = toml::from_str::<toml::Table>(text).expect("accepted, and is no TOML");
            assert!(table.values().all(is_exact), "a value that no key takes was passed over");
            accepted(&config);
            let again = read(&format!("{text}\n# a comment")).expect("what was accepted");
            assert_eq!(format!("{again:?}"), format!("{config:?}"), "read again it says something else");
        }
        Err(faults) => refused(&faults, text),
    }
    if let Err(faults) = read(&format!("{text}\ncanary_of_nobody = \"{CANARY}\"\n")) {
        assert!(text.contains(CANARY) || !faults.to_string().contains(CANARY), "a secret is shown: {faults}");
    }
}

fn read(text: &str) -> Result<PulledConfig, outboxd::config::Faults> {
    parse(Path::new(FILE), text, &host(), None)
}

fn accepted(config: &PulledConfig) {
    assert!(!config.files.is_empty());
    let url = url::Url::parse(&config.address).expect("the address of a server is a URL");
    assert!(url.path() == "/" && url.query().is_none() && url.username().is_empty(), "{}", config.address);
    for file in &config.files {
        assert!(!file.name.starts_with(['.', '-']) && !file.name.contains('/'), "{:?}", file.name);
        let place = &file.wanted.place;
        for path in [&place.mount, &place.path] {
            let stays = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            assert!(stays && path.is_ascii() && !path.contains(char::is_whitespace), "{path:?}");
        }
    }
}
