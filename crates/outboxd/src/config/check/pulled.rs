//! Checks of the file that says which secrets are pulled: from a tree of values to [`PulledConfig`], every fault at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use outbox_core::Millis;
use outbox_rail::PlainHttp;
use outbox_secrets::{KvVersion, Place, Wanted, is_file_name};
use serde_json::Value;

use super::super::fault::{Fault, KeyPath, Origins};
use super::super::policy::Reader;
use super::super::pulled::{APPROLE_MOUNT, PulledConfig, PulledFile, TIMEOUT};
use super::findings::Findings;
use super::{Holds, Host, NamedFile, SecretKeys};

/// What the file is called where a key does not belong to it.
const KIND: &str = "a file of secrets to pull";
/// Longer, and a start hangs on a server that does not answer.
const TIMEOUT_MAX: Millis = Millis(120_000);

/// Checks `value`; `address` is the server's where the file names none.
pub(in crate::config) fn check(
    value: &Value,
    origins: &Origins,
    host: &Host,
    address: Option<String>,
) -> (Option<PulledConfig>, Vec<Fault>, Vec<NamedFile>) {
    let mut findings = Findings::new(origins, host);
    let mut reader = Reader::new(KeyPath::default(), value, &mut findings);
    let server = reader.value("server").unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let tables = reader.named_tables("files");
    if tables.is_empty() {
        reader.findings.add(&KeyPath::of(&["files"]), "no file is asked for; add a table [files.NAME]");
    }
    let files = tables.into_iter().map(|(name, path, value)| {
        let key = path.clone();
        (check_file(name, Reader::new(path, &value, reader.findings)), key)
    });
    let files: Vec<(Option<PulledFile>, KeyPath)> = files.collect();
    check_keys(&files, reader.findings);
    let config = check_server(Reader::new(KeyPath::of(&["server"]), &server, reader.findings), address);
    reader.finish_as(KIND);
    let config =
        config.map(|config| PulledConfig { files: files.into_iter().filter_map(|(file, _)| file).collect(), ..config });
    let (faults, named) = findings.into_parts();
    (config, faults, named)
}

/// The server and the role, without files; nothing where something of it has a fault.
fn check_server(mut reader: Reader<'_, '_>, address: Option<String>) -> Option<PulledConfig> {
    let key = |reader: &Reader<'_, '_>, name: &str| reader.path.join(name);
    let plain_http = match reader.flag("allow_plain_http", false) {
        true => PlainHttp::Anywhere,
        false => PlainHttp::LoopbackOnly,
    };
    let given = reader.text("address").or(address);
    let address_key = key(&reader, "address");
    let address = match given {
        Some(given) => check_address(&given, plain_http, &address_key, reader.findings),
        None => {
            reader.findings.add(&address_key, "is missing, and neither BAO_ADDR nor VAULT_ADDR is set");
            None
        }
    };
    let ca_file = reader.text("ca_file").map(PathBuf::from);
    let ca_file = ca_file.and_then(|path| {
        let key = reader.path.join("ca_file");
        reader.findings.file(&key, &path, Holds::Authorities)
    });
    let namespace = reader.text("namespace");
    if namespace.as_ref().is_some_and(|name| !is_path(name)) {
        let key = key(&reader, "namespace");
        reader.findings.add(&key, NOT_A_PATH);
    }
    let approle_mount = reader.text("approle_mount").unwrap_or_else(|| APPROLE_MOUNT.to_owned());
    if !is_path(&approle_mount) {
        let key = key(&reader, "approle_mount");
        reader.findings.add(&key, NOT_A_PATH);
    }
    let timeout = check_timeout(&mut reader);
    let role_id = check_credential(&mut reader, "role_id");
    let secret_id = check_credential(&mut reader, "secret_id");
    reader.finish_as(KIND);
    Some(PulledConfig {
        address: address?,
        ca_file,
        namespace,
        timeout,
        approle_mount,
        role_id: role_id?,
        secret_id: secret_id?,
        files: Vec::new(),
    })
}

const NOT_A_PATH: &str =
    "must be a path such as team/secret: printable ASCII, without \"..\", \"//\", and \"/\" at its ends";

/// Whether `path` stays what it is in a URL and in a header.
fn is_path(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_graphic()) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn check_address(given: &str, plain_http: PlainHttp, key: &KeyPath, findings: &mut Findings<'_>) -> Option<String> {
    let uri = match outbox_rail::parse_url(given, plain_http) {
        Ok(uri) => uri,
        Err(outbox_rail::UrlFault::Credentials) => {
            findings.add(key, "must not hold a user or password");
            return None;
        }
        Err(fault) => {
            findings.add(key, fault.to_string());
            return None;
        }
    };
    if !matches!(uri.path_and_query().map(|rest| rest.as_str()), None | Some("/")) {
        findings.add(key, "must end after host and port: the version of the API and the paths are added to it");
        return None;
    }
    Some(given.trim_end_matches('/').to_owned())
}

fn check_timeout(reader: &mut Reader<'_, '_>) -> Duration {
    let key = reader.path.join("timeout");
    let given = reader.text("timeout").and_then(|text| {
        let parsed = humantime::parse_duration(&text).ok();
        if parsed.is_none() {
            reader.findings.add(&key, "must be a length of time such as 10s");
        }
        parsed
    });
    reader.findings.time(&key, given, TIMEOUT, Millis(1)..=TIMEOUT_MAX).into()
}

/// What logs in: a file, or a systemd credential. Neither an argument nor a value of this file.
fn check_credential(reader: &mut Reader<'_, '_>, what: &str) -> Option<PathBuf> {
    let (file_name, credential_name) = (format!("{what}_file"), format!("{what}_credential"));
    let (file, credential) = (reader.text(&file_name).map(PathBuf::from), reader.text(&credential_name));
    let keys = SecretKeys {
        file_key: reader.path.join(&file_name),
        file: file.as_ref(),
        credential_key: reader.path.join(&credential_name),
        credential: credential.as_deref(),
        holds: Holds::SecretLine,
    };
    if file.is_none() && credential.is_none() {
        let message = format!("is missing; name a file, or a systemd credential with {credential_name}");
        reader.findings.add(&keys.file_key, message);
    }
    keys.source(reader.findings).map(|source| source.path)
}

fn check_file(name: String, mut reader: Reader<'_, '_>) -> Option<PulledFile> {
    if !is_file_name(&name) {
        let path = reader.path.clone();
        let message =
            "is no name for a file of secrets: 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', and not '.' or '-' first";
        reader.findings.add(&path, message);
    }
    let version = match reader.number("kv", (1, 2)) {
        Some(1) => KvVersion::One,
        _ => KvVersion::Two,
    };
    let mount = check_path(&mut reader, "mount");
    let path = check_path(&mut reader, "path");
    let field = reader.text("field").filter(|field| !field.is_empty());
    if field.is_none() {
        let key = reader.path.join("field");
        reader.findings.add(&key, "is missing");
    }
    let key_of = reader.text("key_of");
    let holds = match reader.text("holds").as_deref() {
        None | Some("line") => Some(Holds::SecretLine),
        Some("certificates") => Some(Holds::Certificate),
        Some("authorities") => Some(Holds::Authorities),
        Some("key") => Some(Holds::Key { of: None }),
        Some(_) => {
            let key = reader.path.join("holds");
            reader.findings.add(&key, "must be \"line\", \"certificates\", \"authorities\" or \"key\"");
            None
        }
    };
    if key_of.is_some() && !matches!(holds, None | Some(Holds::Key { .. })) {
        let key = reader.path.join("key_of");
        reader.findings.add(&key, "belongs to a file that holds a key");
    }
    reader.finish_as(KIND);
    let place = Place { mount: mount?, version, path: path? };
    Some(PulledFile { name, wanted: Wanted { place, field: field? }, holds: holds?, key_of })
}

fn check_path(reader: &mut Reader<'_, '_>, name: &str) -> Option<String> {
    let key = reader.path.join(name);
    match reader.text(name) {
        Some(path) if is_path(&path) => Some(path),
        Some(_) => {
            reader.findings.add(&key, NOT_A_PATH);
            None
        }
        None => {
            reader.findings.add(&key, "is missing");
            None
        }
    }
}

/// A key that names its certificate names a file of certificates that is pulled with it.
fn check_keys(files: &[(Option<PulledFile>, KeyPath)], findings: &mut Findings<'_>) {
    let known: BTreeMap<&str, &Holds> =
        files.iter().flat_map(|(file, _)| file).map(|file| (file.name.as_str(), &file.holds)).collect();
    for (file, path) in files {
        let Some(of) = file.as_ref().and_then(|file| file.key_of.as_deref()) else { continue };
        if known.get(of) != Some(&&Holds::Certificate) {
            findings.add(&path.join("key_of"), "must be the name of a file here that holds certificates");
        }
    }
}
