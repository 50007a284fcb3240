//! Names and short words from outside: hashes, months, names of rails, media types, paths of inquiries, names of files of
//! secrets. Each against a rule written out here.

use http::HeaderValue;
use outbox_core::{RailName, is_media_type};
use outbox_rail::check_inquiry_path;
use outbox_secrets::is_file_name;
use outboxd::parsers::{month, sha256};

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let only = |allowed: &str| text.chars().all(|c| allowed.contains(c));
    const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789_";
    const ANY: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    assert_eq!(RailName::new(text).is_ok(), (1..=40).contains(&text.len()) && only(LOWER), "the name of a rail");
    let is_name = (1..=128).contains(&text.len()) && only(ANY) && !text.starts_with(['.', '-']);
    assert_eq!(is_file_name(text), is_name, "the name of a file");
    if let Some(hash) = sha256(text) {
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let pairs: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!([digits, pairs.join(":")].contains(&text.to_lowercase()), "another hash");
    }
    if let Ok(first) = month(text) {
        assert_eq!(format!("{:04}-{:02}", first.year(), u8::from(first.month())), text, "another month");
        assert_eq!(first.day(), 1);
    }
    if is_media_type(text) {
        assert!(text.len() <= 128 && text.contains('/') && text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        assert!(HeaderValue::from_str(text).is_ok(), "recorded, and cannot be sent");
    }
    if check_inquiry_path(text).is_ok() {
        assert!(text.starts_with('/') && text.matches("{key}").count() == 1 && !text.contains('#'));
        let key = "0190a0c6-7e6f-7cc2-8000-000000000000";
        let asked: http::Uri = format!("https://rail.example{}", text.replace("{key}", key)).parse().expect("accepted");
        assert_eq!((asked.host(), asked.scheme_str()), (Some("rail.example"), Some("https")), "another host is asked");
        assert!(asked.to_string().contains(key), "the key is not asked for");
    }
}
