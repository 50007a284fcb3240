//! The canonical form of a policy's document: keys in order of their bytes, no blanks, integers only. Equal documents
//! are equal bytes, and so have equal checksums.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// `value` in canonical form.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut keys: Vec<&String> = members.keys().collect();
            keys.sort_unstable();
            text.push('{');
            for (place, key) in keys.into_iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write(&Value::String(key.clone()), text);
                text.push(':');
                write(&members[key], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        // As serde_json writes them: the shortest escapes, and no others.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

/// The SHA-256 of a document.
#[must_use]
pub fn checksum(document: &str) -> [u8; 32] {
    Sha256::digest(document).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_document_has_one_form_whatever_the_order_and_the_blanks() {
        let texts = [
            "{\"b\": [1, null, true],\n \"a\": {\"z\": \"\\u0041\\n\", \"\\u00e9\": 0}}",
            "{\"a\":{\"é\":0,\"z\":\"A\\u000a\"},\"b\":[1,null,true]}",
        ];
        let forms = texts.map(|text| canonical(&serde_json::from_str(text).unwrap()));
        assert_eq!(forms[0], "{\"a\":{\"z\":\"A\\n\",\"é\":0},\"b\":[1,null,true]}");
        assert_eq!(forms[0], forms[1]);
        assert_eq!(canonical(&serde_json::from_str(&forms[0]).unwrap()), forms[0]);
    }

    #[test]
    fn the_checksum_is_sha_256_of_the_bytes() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(crate::hex::encode(&checksum("abc")), known);
    }
}
