//! Finds out which statement a client's frame executes, and to which answer of the server it belongs. It
//! neither parses SQL nor follows portals. An answer ends with "ready for query"; the one case where a
//! client's sync has none, COPY in the extended protocol, is not understood.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::pg_frames::Frame;

/// The statements that one client has prepared, by name, and how far it has asked.
#[derive(Debug)]
pub(crate) struct Statements {
    prepared: HashMap<Vec<u8>, Prepared>,
    answers_asked: u64,
}

#[derive(Debug)]
struct Prepared {
    text: String,
    executed: bool,
}

/// A statement that runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executed<'a> {
    /// Its text.
    pub(crate) text: Cow<'a, str>,
    /// Whether this preparation of it has run before.
    pub(crate) again: bool,
    /// Which answer of the server will be its own, counted from the one to the startup, which is 0.
    pub(crate) answer: u64,
}

impl Default for Statements {
    fn default() -> Self {
        Self { prepared: HashMap::new(), answers_asked: 1 }
    }
}

impl Statements {
    /// Takes note of a client's frame and returns the statement if the frame makes it run.
    pub(crate) fn executed_by<'a>(&'a mut self, frame: &Frame<'a>) -> Option<Executed<'a>> {
        let answer = self.answers_asked;
        match frame.tag {
            b'Q' => {
                self.answers_asked += 1;
                Some(Executed { text: String::from_utf8_lossy(parts(frame.body).0), again: false, answer })
            }
            // Sync and FunctionCall end what is asked, as a simple query does.
            b'S' | b'F' => {
                self.answers_asked += 1;
                None
            }
            b'P' => {
                let (name, text) = parts(frame.body);
                let text = String::from_utf8_lossy(text).into_owned();
                self.prepared.insert(name.to_vec(), Prepared { text, executed: false });
                None
            }
            // Close of a statement.
            b'C' if frame.body.first() == Some(&b'S') => {
                self.prepared.remove(parts(&frame.body[1..]).0);
                None
            }
            // Bind names the portal first, then the statement.
            b'B' => {
                let prepared = self.prepared.get_mut(parts(frame.body).1)?;
                let again = std::mem::replace(&mut prepared.executed, true);
                Some(Executed { text: Cow::Borrowed(&prepared.text), again, answer })
            }
            _ => None,
        }
    }
}

/// The first two of the strings in a body, each ended by a zero.
fn parts(body: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = body.split(|byte| *byte == 0);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(statements: &mut Statements, tag: u8, body: &[u8]) -> Option<(String, bool, u64)> {
        let executed = statements.executed_by(&Frame { tag, body })?;
        Some((executed.text.into_owned(), executed.again, executed.answer))
    }

    #[test]
    fn only_bind_and_simple_query_run_a_statement() {
        let mut statements = Statements::default();
        assert_eq!(run(&mut statements, b'P', b"s1\0select f($1)\0\0\0"), None);
        assert_eq!(run(&mut statements, b'B', b"\0s1\0rest"), Some(("select f($1)".to_owned(), false, 1)));
        assert_eq!(run(&mut statements, b'B', b"\0s1\0rest"), Some(("select f($1)".to_owned(), true, 1)));
        assert_eq!(run(&mut statements, b'B', b"\0s2\0rest"), None);
        assert_eq!(run(&mut statements, b'S', b""), None);
        assert_eq!(run(&mut statements, b'Q', b"commit\0"), Some(("commit".to_owned(), false, 2)));
    }

    #[test]
    fn closed_statement_is_forgotten_and_a_closed_portal_is_not_it() {
        let mut statements = Statements::default();
        run(&mut statements, b'P', b"s1\0select 1\0\0\0");
        run(&mut statements, b'C', b"Ps1\0");
        assert!(run(&mut statements, b'B', b"\0s1\0").is_some());
        run(&mut statements, b'C', b"Ss1\0");
        assert_eq!(run(&mut statements, b'B', b"\0s1\0"), None);
    }
}
