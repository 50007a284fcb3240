//! An answer of OpenBao or Vault: a secret is the text at its one place in a whole answer, and no error shows any of it. The
//! An answer of two readings may be read in either: who can write there can write any secret. The
//! first line says to what it is an answer (`login`, `kv1`, `kv2`) and with which status; the rest is the body.

use outbox_secrets::{KvVersion, Place, SecretsError, Wanted, read_field, read_login};
use secrecy::{ExposeSecret as _, SecretString};

use crate::CANARY;
use crate::json::{self, Json};

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(first) = std::str::from_utf8(&data[..end]) else { return };
    let body = &data[end + 1..];
    let status: u16 = first.split(' ').find_map(|word| word.parse().ok()).unwrap_or(200);
    let (got, path): (Result<SecretString, SecretsError>, &[&str]) = if first.starts_with("login") {
        (read_login(status, body, "approle"), &["auth", "client_token"])
    } else if first.starts_with("kv1") {
        (read_field(status, body, &wanted(KvVersion::One)), &["data", "field"])
    } else {
        (read_field(status, body, &wanted(KvVersion::Two)), &["data", "data", "field"])
    };
    let json = json::read(body);
    let at_its_place = json.as_ref().and_then(|json| path.iter().try_fold(json, |json, name| json.member(name)));
    let text = at_its_place.and_then(Json::text);
    match got {
        Ok(secret) => {
            assert_eq!(status, 200);
            let has_one_reading = outbox_rail::has_one_reading(body);
            assert!(text == Some(secret.expose_secret()) || !has_one_reading, "a secret that is not at its place");
            let is_sendable = secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic());
            assert!(path[0] != "auth" || is_sendable && !secret.expose_secret().is_empty(), "no header takes it");
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(CANARY), "an error shows what was read: {shown}");
            let is_plain =
                text.is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()));
            let repeats = json.as_ref().is_some_and(Json::has_two_readings);
            assert!(status != 200 || !is_plain || repeats, "a secret at its place was not read: {shown}");
        }
    }
}

fn wanted(version: KvVersion) -> Wanted {
    let place = Place { mount: "kv".to_owned(), version, path: "outboxd/rail".to_owned() };
    Wanted { place, field: "field".to_owned() }
}
