//! Payments from a directory, one a file, byte for byte. The list of names is in memory, and one file
//! at a time. What is not plainly a message or the amount of one is refused before anything is sent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use outbox_core::RailName;
use outbox_store::NewPayment;

use super::fault::Fault;
use super::fields::Fields;
use super::ndjson::without_nul;
use super::{FAULTS_SHOWN_MAX, Located, PAYLOAD_MAX_BYTES};

/// The keys of a `STEM.json` beside a message.
const KEYS: &[&str] =
    &["amount_minor", "currency", "not_before", "not_after", "ordering_key", "traceparent", "attestation_id"];

/// Such a file is a hundred bytes long.
const BESIDE_MAX_BYTES: usize = 65_536;

/// What all payments of the directory have in common.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Who pays.
    pub(super) participant_id: String,
    /// Over which rail.
    pub(super) rail: RailName,
    /// The media type of all; `None`: by the extension.
    pub(super) content_type: Option<String>,
    /// Whether the contract of the rail requires an amount.
    pub(super) amount_required: bool,
}

/// The payments of a directory, by name.
#[derive(Debug)]
pub(super) struct Directory {
    messages: IntoIter<Message>,
    letter: Letter,
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    stem: String,
    path: PathBuf,
    /// The file with its amount.
    beside: Option<PathBuf>,
}

impl Directory {
    /// Lists the messages in `path`.
    ///
    /// # Errors
    /// All that is no message.
    pub(super) fn open(path: &Path, letter: Letter) -> Result<Self, Vec<Fault>> {
        let messages = list(path)?;
        Ok(Self { messages: messages.into_iter(), letter })
    }

    /// How many payments are still to come.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

impl Iterator for Directory {
    type Item = Result<Located, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = self.messages.next()?;
        let place = message.path.display().to_string();
        Some(payment(message, &self.letter).map(|payment| Located { place, payment }))
    }
}

fn list(directory: &Path) -> Result<Vec<Message>, Vec<Fault>> {
    let unreadable = |error| vec![Fault::unreadable(directory.display().to_string(), error)];
    let mut names = Vec::new();
    let mut faults = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        match name_of(&path) {
            Ok(Some(name)) => names.push(name),
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    names.sort();
    let messages = pair(directory, &names, &mut faults);
    if faults.is_empty() {
        return Ok(messages);
    }
    faults.truncate(FAULTS_SHOWN_MAX);
    Err(faults)
}

/// The name of a file that counts, `None` for a hidden one.
fn name_of(path: &Path) -> Result<Option<String>, Fault> {
    let place = || path.display().to_string();
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(Fault::data(place(), "the name is not UTF-8, so it cannot be an instruction_id"));
    };
    if name.starts_with('.') {
        return Ok(None);
    }
    let metadata = path.metadata().map_err(|error| Fault::unreadable(place(), error))?;
    if !metadata.is_file() {
        return Err(Fault::data(place(), "is not a file; a directory of messages has nothing else in it"));
    }
    Ok(Some(name.to_owned()))
}

fn pair(directory: &Path, names: &[String], faults: &mut Vec<Fault>) -> Vec<Message> {
    let mut by_stem: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for name in names {
        by_stem.entry(stem_of(name)).or_default().push(name);
    }
    let mut messages = Vec::new();
    for (stem, names) in by_stem {
        let beside_name = format!("{stem}.json");
        match names.as_slice() {
            [only] => messages.push(Message { path: directory.join(only), beside: None, stem }),
            [one, other] if **one == beside_name || **other == beside_name => {
                let (beside, message) = if **one == beside_name { (one, other) } else { (other, one) };
                let beside = Some(directory.join(beside));
                messages.push(Message { path: directory.join(message), beside, stem });
            }
            [first, .., last] => {
                let what = format!("has the stem of {first} as well: which of them is instruction {stem}?");
                faults.push(Fault::data(directory.join(last).display().to_string(), what));
            }
            [] => {}
        }
    }
    messages.sort_by(|one, other| one.path.cmp(&other.path));
    messages
}

fn stem_of(name: &str) -> String {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

fn payment(message: Message, letter: &Letter) -> Result<NewPayment, Fault> {
    let place = message.path.display().to_string();
    let payload = read(&message.path, PAYLOAD_MAX_BYTES)?;
    if payload.is_empty() {
        return Err(Fault::data(place, "the file is empty; is it still being written?"));
    }
    let (mut fields, beside) = match &message.beside {
        Some(beside) => (read_beside(beside)?, beside.display().to_string()),
        None => (without_beside(&message, &payload, letter)?, place.clone()),
    };
    let mut time = |key| fields.time(key).map_err(|what| Fault::data(beside.clone(), what));
    let (not_before, not_after) = (time("not_before")?, time("not_after")?);
    let attestation_id = fields.uuid("attestation_id").map_err(|what| Fault::data(beside.clone(), what))?;
    if letter.amount_required && fields.amount_minor.is_none() {
        return Err(Fault::data(beside, "amount_minor is missing, and the contract of the rail requires an amount"));
    }
    let payment = NewPayment {
        participant_id: letter.participant_id.clone(),
        instruction_id: message.stem.clone(),
        idempotency_key: message.stem,
        rail: letter.rail.clone(),
        payload,
        content_type: letter.content_type.clone().unwrap_or_else(|| content_type_of(&message.path).to_owned()),
        amount_minor: fields.amount_minor,
        currency: fields.text("currency"),
        not_before,
        not_after,
        ordering_key: fields.text("ordering_key"),
        traceparent: fields.text("traceparent"),
        attestation_id,
    };
    without_nul(&payment).map_err(|what| Fault::data(place, what))?;
    Ok(payment)
}

fn read_beside(path: &Path) -> Result<Fields, Fault> {
    let json = read(path, BESIDE_MAX_BYTES)?;
    let place = path.display();
    Fields::parse(&json, KEYS).map_err(|bad| Fault::data(format!("{place}:{}:{}", bad.line, bad.column), bad.what))
}

/// A message without a `STEM.json`. A lone one must not be sent as if it were a message itself.
fn without_beside(message: &Message, payload: &[u8], letter: &Letter) -> Result<Fields, Fault> {
    let place = message.path.display().to_string();
    let is_json = message.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json && Fields::parse(payload, KEYS).is_ok_and(|fields| fields.amount_minor.is_some()) {
        return Err(Fault::data(place, "is the amount of a message that is not there"));
    }
    if letter.amount_required {
        let what = format!(
            "the contract of the rail requires an amount: {}.json must say amount_minor and currency{}",
            message.stem,
            if is_json { "; a JSON message that needs an amount goes in a line of NDJSON" } else { "" }
        );
        return Err(Fault::data(place, what));
    }
    Ok(Fields::default())
}

fn read(path: &Path, max_bytes: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(max_bytes as u64 + 1).read_to_end(&mut bytes));
    file.map_err(|error| Fault::unreadable(path.display().to_string(), error))?;
    if bytes.len() > max_bytes {
        return Err(Fault::data(path.display().to_string(), format!("has more than {max_bytes} bytes")));
    }
    Ok(bytes)
}

fn content_type_of(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "xml" => "application/xml",
        "json" => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(amount_required: bool) -> Letter {
        Letter {
            participant_id: "p".to_owned(),
            rail: RailName::new("r").unwrap(),
            content_type: None,
            amount_required,
        }
    }

    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    fn faults(files: &[(&str, &[u8])], amount_required: bool) -> Vec<String> {
        let dir = directory(files);
        let root = format!("{}/", dir.path().display());
        let found: Vec<Fault> = match Directory::open(dir.path(), letter(amount_required)) {
            Err(faults) => faults,
            Ok(directory) => directory.filter_map(Result::err).collect(),
        };
        found.iter().map(|fault| fault.to_string().replace(&root, "")).collect()
    }

    const AMOUNT: &[u8] = br#"{"amount_minor": 5, "currency": "EUR"}"#;

    #[test]
    fn a_message_and_its_amount_are_one_payment_in_the_order_of_names() {
        let files: &[(&str, &[u8])] = &[
            ("b.xml", b"\xef\xbb\xbf\r\n"),
            ("a.b.TXT", b"\0"),
            ("b.json", AMOUNT),
            (".hidden", b""),
            ("c.json", b"[]"),
        ];
        let dir = directory(files);
        let payments: Vec<NewPayment> =
            Directory::open(dir.path(), letter(false)).unwrap().map(|found| found.unwrap().payment).collect();
        let seen: Vec<_> = payments
            .iter()
            .map(|p| (p.instruction_id.as_str(), p.payload.as_slice(), p.content_type.as_str(), p.amount_minor))
            .collect();
        assert_eq!(
            seen,
            [
                ("a.b", &b"\0"[..], "application/octet-stream", None),
                ("b", b"\xef\xbb\xbf\r\n", "application/xml", Some(5)),
                ("c", b"[]", "application/json", None),
            ]
        );
        assert!(payments.iter().all(|p| p.idempotency_key == p.instruction_id));
    }

    #[test]
    fn two_messages_with_one_stem_are_refused_before_anything_is_sent() {
        let found = faults(&[("a.xml", b"x"), ("a.txt", b"y"), ("a.json", AMOUNT), ("b.json", AMOUNT)], false);
        assert_eq!(found, ["a.xml: has the stem of a.json as well: which of them is instruction a?"]);
        assert_eq!(faults(&[("a.xml", b"x"), ("a.JSON", AMOUNT)], false).len(), 1);
    }

    #[test]
    fn an_amount_without_its_message_is_not_taken_for_a_message() {
        assert_eq!(faults(&[("a.json", AMOUNT)], false), ["a.json: is the amount of a message that is not there"]);
        assert_eq!(faults(&[("a.json", br#"{"debit": 5}"#)], false), [""; 0]);
    }

    #[test]
    fn a_missing_amount_is_refused_only_where_the_contract_requires_it() {
        assert_eq!(faults(&[("a.xml", b"x")], false), [""; 0]);
        assert!(faults(&[("a.xml", b"x")], true)[0].contains("a.json must say amount_minor and currency"));
        assert!(faults(&[("a.xml", b"x"), ("a.json", b"{}")], true)[0].starts_with("a.json: amount_minor is missing"));
    }

    #[test]
    fn empty_and_oversized_files_and_faulty_amounts_are_named() {
        let large = vec![b'x'; PAYLOAD_MAX_BYTES + 1];
        let found =
            faults(&[("a.xml", b""), ("b.xml", &large), ("c.xml", b"x"), ("c.json", b"{\n\"amount\": 5}")], false);
        assert_eq!(found.len(), 3);
        assert!(found[0].starts_with("a.xml: the file is empty"), "{found:?}");
        assert_eq!(found[1], "b.xml: has more than 1048576 bytes");
        assert!(found[2].starts_with("c.json:2:") && found[2].contains("unknown key `amount`"), "{found:?}");
        assert_eq!(faults(&[("b.xml", &large[1..])], false), [""; 0]);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = directory(&[("a.xml", b"x")]);
        fs::create_dir(dir.path().join("done")).unwrap();
        let found = Directory::open(dir.path(), letter(false)).unwrap_err();
        assert!(found[0].to_string().contains("done: is not a file"), "{found:?}");
    }
}
