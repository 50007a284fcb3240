//! What an answer of the server means: a function of its status and body. Of the body only what is asked for is read, so that
//! servers which leave fields out are understood as well.

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::error::SecretsError;
use crate::session::{Place, Wanted};

/// Which of Vault's two engines for keys and values a mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KvVersion {
    /// Values as they were written last.
    One,
    /// Values with versions, below `data/`.
    Two,
}

impl KvVersion {
    /// As it is written.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// The fields of one secret.
pub(crate) type Fields = Map<String, Value>;

/// What is the same for every request: the server cannot serve, or sends us elsewhere.
pub(crate) fn unserved(status: u16, body: &[u8], address: &str, what: &str) -> Option<SecretsError> {
    let address = address.to_owned();
    match status {
        // Both servers say so in the text of their 503, and another proxy's 503 does not.
        503 if contains(body, b"sealed") => Some(SecretsError::Sealed { address }),
        412 | 429 | 500..=599 => Some(SecretsError::Unwell { address, status }),
        300..=399 => Some(SecretsError::Redirected { address, what: what.to_owned(), status }),
        _ => None,
    }
}

/// The token of a login.
pub(crate) fn token(status: u16, body: &[u8], mount: &str) -> Result<SecretString, SecretsError> {
    if status != 200 {
        return Err(SecretsError::LoginRefused { mount: mount.to_owned(), status });
    }
    let misread = |reason| SecretsError::NotUnderstood { what: format!("login at auth/{mount}"), reason };
    let mut answer = object(body).ok_or_else(|| misread("it is no JSON object of a login"))?;
    let Some(Value::Object(mut auth)) = answer.remove("auth") else { return Err(misread("it has no auth")) };
    let Some(Value::String(token)) = auth.remove("client_token") else { return Err(misread("its auth has no token")) };
    // It becomes a header.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(misread("its token cannot be sent in a header"));
    }
    Ok(SecretString::from(token))
}

/// The fields of the secret at `place`.
pub(crate) fn fields(status: u16, body: &[u8], place: &Place) -> Result<Fields, SecretsError> {
    let version = place.version.number();
    match status {
        200 => {}
        // A deleted version is a 404 too, with what is left of it.
        404 => return Err(SecretsError::NoSecret { path: place.to_string(), version }),
        _ => return Err(SecretsError::Refused { what: format!("reading {place}"), status }),
    }
    let misread = |reason| SecretsError::NotUnderstood { what: format!("reading {place}"), reason };
    let nothing = || SecretsError::NoSecret { path: place.to_string(), version };
    let within = |mut outer: Fields, reason| match outer.remove("data") {
        Some(Value::Object(inner)) => Ok(inner),
        Some(Value::Null) | None => Err(nothing()),
        Some(_) => Err(misread(reason)),
    };
    let answer = object(body).ok_or_else(|| misread("it is no JSON object"))?;
    let data = within(answer, "it has no object data")?;
    match place.version {
        KvVersion::One => Ok(data),
        KvVersion::Two => within(data, "it has no object data.data"),
    }
}

/// The members of an answer. A parser's error may quote what it read, so none is kept.
fn object(body: &[u8]) -> Option<Fields> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

/// The text of `field`.
pub(crate) fn field(fields: &Fields, place: &Place, field: &str) -> Result<SecretString, SecretsError> {
    let (path, field) = (place.to_string(), field.to_owned());
    match fields.get(&field) {
        None => Err(SecretsError::NoField { path, field }),
        Some(Value::String(text)) => Ok(SecretString::from(text.as_str())),
        Some(_) => Err(SecretsError::NotText { path, field }),
    }
}

/// What an answer to a login says.
///
/// # Errors
/// [`SecretsError`]; it holds nothing of the answer.
pub fn read_login(status: u16, body: &[u8], mount: &str) -> Result<SecretString, SecretsError> {
    match unserved(status, body, "server", "login") {
        Some(error) => Err(error),
        None => token(status, body, mount),
    }
}

/// What an answer to a reading says of one field.
///
/// # Errors
/// [`SecretsError`]; it holds nothing of the answer.
pub fn read_field(status: u16, body: &[u8], wanted: &Wanted) -> Result<SecretString, SecretsError> {
    if let Some(error) = unserved(status, body, "server", "reading") {
        return Err(error);
    }
    field(&fields(status, body, &wanted.place)?, &wanted.place, &wanted.field)
}

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn place(version: KvVersion) -> Place {
        Place { mount: "kv".to_owned(), version, path: "a/b".to_owned() }
    }

    fn read(version: KvVersion, status: u16, body: &str) -> Result<String, String> {
        let place = place(version);
        let read = fields(status, body.as_bytes(), &place).and_then(|fields| field(&fields, &place, "f"));
        read.map(|text| text.expose_secret().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_two_versions_of_kv_are_read_where_each_has_its_fields() {
        assert_eq!(read(KvVersion::One, 200, r#"{"data":{"f":"v"}}"#).as_deref(), Ok("v"));
        assert_eq!(read(KvVersion::Two, 200, r#"{"data":{"data":{"f":"v"},"metadata":{}}}"#).as_deref(), Ok("v"));
        // One is not taken for the other.
        let other = read(KvVersion::One, 200, r#"{"data":{"data":{"f":"v"},"metadata":{}}}"#);
        assert_eq!(other, Err("kv/a/b: has no field f".to_owned()));
        let other = read(KvVersion::Two, 200, r#"{"data":{"f":"v"}}"#);
        assert!(other.is_err_and(|message| message.contains("nothing is there")));
    }

    #[test]
    fn what_is_not_there_is_said_with_path_and_field() {
        let deleted = r#"{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z"}}}"#;
        for (status, body, said) in [
            (404, deleted, "kv/a/b: nothing is there"),
            (200, deleted, "kv/a/b: nothing is there"),
            (404, "", "KV version 2"),
            (403, "", "reading kv/a/b is refused: HTTP 403"),
            (200, r#"{"data":{"data":{"g":"v"}}}"#, "kv/a/b: has no field f"),
            (200, r#"{"data":{"data":{"f":7}}}"#, "kv/a/b: field f is no text"),
            (200, "<html>", "reading kv/a/b: the answer is none of Vault's API"),
        ] {
            let read = read(KvVersion::Two, status, body);
            assert!(read.as_ref().is_err_and(|message| message.contains(said)), "{status} {body}: {read:?}");
        }
    }

    #[test]
    fn an_error_holds_nothing_of_an_answer() {
        let misread = [
            read(KvVersion::Two, 200, r#"{"data":{"data":"s3cret"}}"#),
            read(KvVersion::One, 200, r#"{"data":"s3cret"}"#),
            read(KvVersion::One, 200, r#"{"data":{"f":{"x":"s3cret"}}}"#),
            read(KvVersion::One, 403, "s3cret"),
            token(200, br#"{"auth":"s3cret"}"#, "approle").map(|_| String::new()).map_err(|e| format!("{e} {e:?}")),
            token(200, b"{\"auth\":{\"client_token\":\"s3cret\\n\"}}", "approle")
                .map(|_| String::new())
                .map_err(|e| format!("{e} {e:?}")),
            token(400, b"s3cret", "approle").map(|_| String::new()).map_err(|e| format!("{e} {e:?}")),
        ];
        for misread in misread {
            assert!(misread.as_ref().is_err_and(|message| !message.contains("s3cret")), "{misread:?}");
        }
    }

    #[test]
    fn a_server_that_cannot_serve_is_told_from_one_that_refuses() {
        let class = |status, body: &str| unserved(status, body.as_bytes(), "https://bao", "x").map(|e| e.to_string());
        assert_eq!(class(503, r#"{"errors":["Vault is sealed"]}"#).as_deref(), Some("https://bao is sealed"));
        assert_eq!(class(503, "busy").as_deref(), Some("https://bao does not serve now: HTTP 503"));
        assert!(class(429, "").is_some() && class(500, "").is_some());
        assert!(class(307, "").is_some_and(|message| message.contains("not followed")));
        assert!(class(200, "").is_none() && class(403, "").is_none() && class(404, "").is_none());
    }

    #[test]
    fn a_login_is_read_with_the_fewest_fields_that_a_server_gives() {
        let got = token(200, br#"{"auth":{"client_token":"t","policies":[]},"data":{}}"#, "approle");
        assert_eq!(got.map(|token| token.expose_secret().to_owned()).ok().as_deref(), Some("t"));
    }
}
