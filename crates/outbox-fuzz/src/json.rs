//! A reader of JSON by RFC 8259 and nothing more, as an oracle: it shares no code with the one in use, keeps every name of
//! an object, repeated ones too, and numbers as they are written. It is short, not fast.

use std::iter::Peekable;
use std::str::Chars;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The reader in use goes no deeper.
const DEPTH_MAX: usize = 127;

/// The value that `bytes` are, if they are one.
pub(crate) fn read(bytes: &[u8]) -> Option<Json> {
    let mut reader = Reader { left: std::str::from_utf8(bytes).ok()?.chars().peekable(), depth: 0 };
    let value = reader.value()?;
    reader.blanks();
    reader.left.next().is_none().then_some(value)
}

impl Json {
    /// The members, of an object in which no name is there twice.
    pub(crate) fn members(&self) -> Option<&[(String, Json)]> {
        let Self::Object(members) = self else { return None };
        let is_first = |place: usize| members[..place].iter().all(|(name, _)| *name != members[place].0);
        (0..members.len()).all(is_first).then_some(members)
    }

    /// The member of this name, if there is exactly one.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        let mut of_name = members.iter().filter(|(given, _)| given == name);
        let only = of_name.next().filter(|_| of_name.next().is_none())?;
        Some(&only.1)
    }

    /// The text, of a text.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Whether any object in it has a name twice, or one that a library takes for a marker of its own.
    pub(crate) fn has_two_readings(&self) -> bool {
        match self {
            Self::Object(members) => {
                let has =
                    |(name, value): &(String, Self)| name.starts_with("$serde_json::") || value.has_two_readings();
                self.members().is_none() || members.iter().any(has)
            }
            Self::List(items) => items.iter().any(Self::has_two_readings),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => false,
        }
    }
}

/// `text` as JSON writes it.
pub(crate) fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c < ' ' => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

struct Reader<'t> {
    left: Peekable<Chars<'t>>,
    depth: usize,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        while self.left.next_if(|c| " \t\n\r".contains(*c)).is_some() {}
    }

    fn takes(&mut self, wanted: char) -> bool {
        self.left.next_if_eq(&wanted).is_some()
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        word.chars().all(|c| self.takes(c)).then_some(value)
    }

    fn value(&mut self) -> Option<Json> {
        self.blanks();
        match *self.left.peek()? {
            'n' => self.word("null", Json::Null),
            't' => self.word("true", Json::Bool(true)),
            'f' => self.word("false", Json::Bool(false)),
            '"' => self.string().map(Json::Text),
            '[' => self.list(),
            '{' => self.object(),
            _ => self.number(),
        }
    }

    fn list(&mut self) -> Option<Json> {
        let mut items = Vec::new();
        self.enclosed('[', ']', |reader| {
            items.push(reader.value()?);
            Some(())
        })?;
        Some(Json::List(items))
    }

    fn object(&mut self) -> Option<Json> {
        let mut members = Vec::new();
        self.enclosed('{', '}', |reader| {
            reader.blanks();
            let name = reader.string()?;
            reader.blanks();
            if !reader.takes(':') {
                return None;
            }
            members.push((name, reader.value()?));
            Some(())
        })?;
        Some(Json::Object(members))
    }

    fn enclosed(&mut self, open: char, close: char, mut one: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX || !self.takes(open) {
            return None;
        }
        self.blanks();
        let mut is_first = true;
        while !self.takes(close) {
            if !is_first && !self.takes(',') {
                return None;
            }
            is_first = false;
            one(self)?;
            self.blanks();
        }
        self.depth -= 1;
        Some(())
    }

    fn digits(&mut self, into: &mut String) -> Option<()> {
        let before = into.len();
        while let Some(digit) = self.left.next_if(char::is_ascii_digit) {
            into.push(digit);
        }
        (into.len() > before).then_some(())
    }

    fn number(&mut self) -> Option<Json> {
        let mut text = String::new();
        if self.takes('-') {
            text.push('-');
        }
        if self.takes('0') {
            text.push('0')
        } else {
            self.digits(&mut text)?
        }
        if self.takes('.') {
            text.push('.');
            self.digits(&mut text)?;
        }
        if let Some(exponent) = self.left.next_if(|c| "eE".contains(*c)) {
            text.push(exponent);
            text.extend(self.left.next_if(|c| "+-".contains(*c)));
            self.digits(&mut text)?;
        }
        Some(Json::Number(text))
    }

    fn string(&mut self) -> Option<String> {
        if !self.takes('"') {
            return None;
        }
        let mut text = String::new();
        loop {
            match self.left.next()? {
                '"' => return Some(text),
                '\\' => text.push(self.escape()?),
                c if c < ' ' => return None,
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.left.next()? {
            c @ ('"' | '\\' | '/') => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => match self.unit()? {
                high @ 0xd800..=0xdbff if self.takes('\\') && self.takes('u') => {
                    let low = self.unit().filter(|low| (0xdc00..=0xdfff).contains(low))?;
                    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?
                }
                unit => char::from_u32(unit)?,
            },
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |unit, _| Some(unit * 16 + self.left.next()?.to_digit(16)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_reads_what_rfc_8259_says_and_nothing_else() {
        for bad in [
            "",
            "01",
            "1.",
            ".5",
            "+1",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "\"\\ud800\"",
            "\"\n\"",
            "1 2",
            "nul",
            "[",
            "\"\\x\"",
            "\u{feff}1",
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        let text = read(b" {\"a\" : [1e+2, -0, true, null], \"a\":\"\\ud83d\\ude00\\u0041/\"} ").expect("JSON");
        let Json::Object(members) = &text else { panic!("{text:?}") };
        assert_eq!(members[1].1.text(), Some("\u{1f600}A/"));
        assert!(text.has_two_readings() && text.member("a").is_none() && text.members().is_none());
        assert_eq!(read(quoted("a\"\\\n\u{1}é").as_bytes()), Some(Json::Text("a\"\\\n\u{1}é".to_owned())));
    }
}
