//! What may stand in `content_type`. One rule for the database, which refuses the rest at enqueue, and for the
//! rail, which must be able to send whatever was recorded.

/// The longest media type, in characters.
pub const MEDIA_TYPE_MAX: usize = 128;

/// Whether `text` is a media type, `type/subtype` with parameters or without (RFC 9110, 8.3.1), of visible ASCII
/// and at most [`MEDIA_TYPE_MAX`] characters. What the parameters say is the sender's affair.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = text.split_once(';').map_or((text, None), |(essence, rest)| (essence, Some(rest)));
    let essence = if parameters.is_some() { essence.trim_end_matches(' ') } else { essence };
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let sendable = |rest: &str| {
        let visible = rest.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        visible && !rest.is_empty() && !rest.ends_with(' ')
    };
    text.len() <= MEDIA_TYPE_MAX && is_token(kind) && is_token(subtype) && parameters.is_none_or(sendable)
}

/// A token of RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(may_stand)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_has_a_type_and_a_subtype() {
        for good in ["application/json", "application/xml; charset=utf-8", "text/plain ;a=\"b c\"", "a/b"] {
            assert!(is_media_type(good), "{good}");
        }
        let long = format!("a/{}", "b".repeat(127));
        for bad in [
            "",
            "json",
            "/json",
            "application/",
            "a/b/c",
            "a b/c",
            "a/b;",
            "a/b; ",
            "a/b\r\nX: 1",
            " a/b",
            "a/b ",
            "ä/b",
            &long,
        ] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }
}
