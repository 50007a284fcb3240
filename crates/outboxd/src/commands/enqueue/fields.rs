//! One JSON object with known keys: texts, and an amount. Strict: unknown and repeated keys and values
//! of another type are refused. Messages name the key and the column, never the value.

use std::collections::BTreeMap;
use std::fmt;

use outbox_rail::has_one_reading;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// The key whose value is a number.
const AMOUNT: &str = "amount_minor";

/// An unknown key is shown up to this length: it may be anything.
const KEY_SHOWN_MAX: usize = 40;

/// What an object says.
#[derive(Debug, Default)]
pub(super) struct Fields {
    texts: BTreeMap<&'static str, String>,
    /// The amount in minor units.
    pub(super) amount_minor: Option<i64>,
}

/// Why bytes are not such an object, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadObject {
    /// The line, from 1.
    pub(super) line: usize,
    /// The byte in the line, from 1.
    pub(super) column: usize,
    /// The reason.
    pub(super) what: String,
}

impl Fields {
    /// Reads `json`, an object whose keys are among `known`; a null is as if the key were not there.
    pub(super) fn parse(json: &[u8], known: &'static [&'static str]) -> Result<Self, BadObject> {
        if json.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(BadObject { line: 1, column: 1, what: "is not a JSON object".to_owned() });
        }
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let fields = Keys(known).deserialize(&mut deserializer);
        let fields = fields.and_then(|fields| deserializer.end().map(|()| fields)).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let text = error.to_string();
            let what = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
            BadObject { line, column, what: what.to_owned() }
        })?;
        // An object may have been taken for a number or a text.
        if has_one_reading(json) {
            Ok(fields)
        } else {
            Err(BadObject { line: 1, column: 1, what: "a value can be read in two ways".to_owned() })
        }
    }

    /// Takes the text of `key` out.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.texts.remove(key)
    }

    /// Takes the time of `key` out.
    pub(super) fn time(&mut self, key: &'static str) -> Result<Option<OffsetDateTime>, String> {
        let parse = |text: String| {
            OffsetDateTime::parse(&text, &Rfc3339)
                .map_err(|_| format!("{key} must be an RFC 3339 time, such as 2026-01-31T08:00:00Z"))
        };
        self.text(key).map(parse).transpose()
    }

    /// Takes the UUID of `key` out.
    pub(super) fn uuid(&mut self, key: &'static str) -> Result<Option<Uuid>, String> {
        let parse = |text: String| Uuid::try_parse(&text).map_err(|_| format!("{key} must be a UUID"));
        self.text(key).map(parse).transpose()
    }
}

struct Keys(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Keys {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Keys {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        let mut seen = Vec::new();
        while let Some(given) = map.next_key::<String>()? {
            let Some(key) = self.0.iter().copied().find(|key| *key == given) else {
                let shown: String = given.chars().take(KEY_SHOWN_MAX).collect();
                let known = self.0.join(", ");
                return Err(Error::custom(format!("unknown key `{}`; known are {known}", shown.escape_debug())));
            };
            if seen.contains(&key) {
                return Err(Error::custom(format!("{key} is there twice")));
            }
            seen.push(key);
            match map.next_value::<Value>()? {
                Value::Null => {}
                Value::Number(number) if key == AMOUNT => {
                    let amount = number.as_i64();
                    let amount = amount.ok_or_else(|| Error::custom(format!("{key} must be a whole number")))?;
                    fields.amount_minor = Some(amount);
                }
                Value::String(text) if key != AMOUNT => {
                    fields.texts.insert(key, text);
                }
                _ if key == AMOUNT => return Err(Error::custom(format!("{key} must be a whole number"))),
                _ => return Err(Error::custom(format!("{key} must be a string"))),
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["payload", AMOUNT, "not_after"];

    fn refusal(json: &str) -> (usize, usize, String) {
        let bad = Fields::parse(json.as_bytes(), KNOWN).unwrap_err();
        (bad.line, bad.column, bad.what)
    }

    #[test]
    fn an_object_gives_its_texts_and_its_amount() {
        let json = br#"{"payload": "a\u0000\r\n", "amount_minor": 12, "not_after": "2026-01-31T08:00:00+01:00"}"#;
        let mut fields = Fields::parse(json, KNOWN).unwrap();
        assert_eq!(fields.text("payload").as_deref(), Some("a\0\r\n"));
        assert_eq!(fields.amount_minor, Some(12));
        assert_eq!(fields.time("not_after"), Ok(Some(time::macros::datetime!(2026-01-31 07:00 UTC))));
    }

    #[test]
    fn a_wrong_type_is_named_by_its_key_and_never_shown() {
        for (json, key) in [
            (r#"{"payload": 4711}"#, "payload must be a string"),
            (r#"{"payload": {"canary": 1}}"#, "payload must be a string"),
            (r#"{"amount_minor": "4711"}"#, "amount_minor must be a whole number"),
            (r#"{"amount_minor": 47.11}"#, "amount_minor must be a whole number"),
            (r#"{"amount_minor": 99999999999999999999}"#, "amount_minor must be a whole number"),
        ] {
            let (line, column, what) = refusal(json);
            assert_eq!((line, what.as_str()), (1, key));
            assert!(column > 10, "{column}");
        }
        assert_eq!(refusal("\"canary\"").2, "is not a JSON object");
    }

    #[test]
    fn unknown_and_repeated_keys_are_refused() {
        assert!(refusal(r#"{"payloads": "x"}"#).2.starts_with("unknown key `payloads`; known are payload"));
        assert_eq!(refusal(r#"{"payload": "x", "payload": null}"#).2, "payload is there twice");
    }

    #[test]
    fn an_object_is_never_taken_for_a_text_or_a_number() {
        for json in [
            r#"{"payload": {"$serde_json::private::RawValue": "\"x\""}}"#,
            r#"{"amount_minor": {"$serde_json::private::Number": "12"}}"#,
            r#"{"amount_minor": {"\u0024serde_json::private::Number": "12"}}"#,
        ] {
            assert_eq!(refusal(json), (1, 1, "a value can be read in two ways".to_owned()), "{json}");
        }
    }

    #[test]
    fn what_is_no_json_is_found_in_its_column() {
        assert_eq!(refusal(r#"{"payload": "x" "y"}"#).1, 17);
        assert_eq!(refusal("{\n\"payload\": \"x\"}}").0, 2);
        assert!(Fields::parse(b"{\"payload\": \"\xff\"}", KNOWN).is_err());
        // Half of a surrogate pair is no character, so it has no UTF-8 bytes.
        assert!(Fields::parse(br#"{"payload": "\ud800"}"#, KNOWN).is_err());
    }
}
