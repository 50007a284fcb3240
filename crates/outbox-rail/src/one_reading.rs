//! Whether a JSON text can be read in one way only. RFC 8259 leaves open which of two members of one name counts, and the
//! library in use takes certain names for markers of its own: whoever wrote such a text may have meant something else.

use std::collections::HashSet;

/// What begins the names by which serde_json passes numbers and raw values through its own map interface.
const MARKER: &str = "$serde_json::private::";

/// Whether no object of `json`, which serde_json has read, has a name twice or one that serde_json takes for a marker.
#[must_use]
pub fn has_one_reading(json: &[u8]) -> bool {
    // The names of each object that is open; a list has none.
    let mut open: Vec<HashSet<String>> = Vec::new();
    let mut place = 0;
    while let Some(byte) = json.get(place) {
        match byte {
            b'{' | b'[' => open.push(HashSet::new()),
            b'}' | b']' => drop(open.pop()),
            b'"' => {
                let end = end_of_text(json, place);
                if json[end..].trim_ascii_start().starts_with(b":") {
                    let Ok(name) = serde_json::from_slice::<String>(&json[place..end]) else { return false };
                    let is_new = !name.starts_with(MARKER) && open.last_mut().is_some_and(|names| names.insert(name));
                    if !is_new {
                        return false;
                    }
                }
                place = end;
                continue;
            }
            _ => {}
        }
        place += 1;
    }
    true
}

/// Behind the quote that ends the text whose first quote is at `begin`.
fn end_of_text(json: &[u8], begin: usize) -> usize {
    let mut place = begin + 1;
    loop {
        match json.get(place) {
            None => return json.len(),
            Some(b'"') => return place + 1,
            Some(b'\\') => place = (place + 2).min(json.len()),
            Some(_) => place += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_twice_in_one_object_has_two_readings_and_in_two_objects_one() {
        for (json, is_one) in [
            (r#"{"a":1,"b":{"a":2},"c":[{"a":3},{"a":4}]}"#, true),
            (r#"{"a":"a\":","b":"{\"a\":1}"}"#, true),
            (r#"["a","a",{}]"#, true),
            (r#"{"a":1,"b":2,"a":1}"#, false),
            (r#"{"a":1,"\u0061" : 2}"#, false),
            (r#"[{"b":{"a\\":[],"a\\":{}}}]"#, false),
            (r#"{"id":{"$serde_json::private::Number":"7"}}"#, false),
            (r#"{"\u0024serde_json::private::RawValue":"7"}"#, false),
        ] {
            assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{json}");
            assert_eq!(has_one_reading(json.as_bytes()), is_one, "{json}");
        }
    }
}
