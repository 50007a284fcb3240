//! A reader of CSV by RFC 4180, character by character, as an oracle. It takes texts that are CSV; what is none is read
//! somehow, so that only what the reader in use has accepted may be compared with it.

/// The line in which a record begins, from 1, and its fields; those that are not quoted without blanks around them.
pub(crate) type Record = (usize, Vec<String>);

/// The records of `text`, blank lines left out.
pub(crate) fn records(text: &str) -> Vec<Record> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut records, mut line, mut begins) = (Vec::new(), 1, 1);
    let mut fields: Vec<(String, bool)> = vec![(String::new(), false)];
    let mut is_quoted = false;
    let mut left = text.chars().peekable();
    while let Some(c) = left.next() {
        line += usize::from(c == '\n');
        let (field, was_quoted) = fields.last_mut().expect("there is always one");
        match c {
            '"' if is_quoted && left.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => {
                is_quoted = !is_quoted;
                *was_quoted = true;
            }
            ',' if !is_quoted => fields.push((String::new(), false)),
            '\n' if !is_quoted => {
                end(&mut records, begins, std::mem::replace(&mut fields, vec![(String::new(), false)]));
                begins = line;
            }
            '\r' if !is_quoted && left.peek() == Some(&'\n') => {}
            c => field.push(c),
        }
    }
    // The last line may end with CR alone.
    let (field, _) = fields.last_mut().expect("there is always one");
    *field = field.strip_suffix('\r').unwrap_or(field).to_owned();
    end(&mut records, begins, fields);
    records
}

fn end(records: &mut Vec<Record>, begins: usize, fields: Vec<(String, bool)>) {
    let is_blank = fields.len() == 1 && !fields[0].1 && fields[0].0.trim_matches([' ', '\t']).is_empty();
    if !is_blank {
        let texts = fields.into_iter();
        let texts = texts.map(|(text, was_quoted)| if was_quoted { text } else { text.trim().to_owned() });
        records.push((begins, texts.collect()));
    }
}

/// One record, every field quoted, with CRLF.
pub(crate) fn written(fields: &[&str]) -> String {
    let quoted: Vec<String> = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
    format!("{}\r\n", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_reads_quotes_line_ends_and_blank_lines_as_rfc_4180_says() {
        let text = "\u{feff}a , b\r\n\r\n\"x\r\n\"\"y\",\n \t\nlast,1";
        let expected: Vec<Record> = [(1, ["a", "b"]), (3, ["x\r\n\"y", ""]), (6, ["last", "1"])]
            .map(|(line, fields)| (line, fields.map(str::to_owned).to_vec()))
            .to_vec();
        assert_eq!(records(text), expected);
        assert_eq!(records(&written(&["a\"b", "c,\n"])), [(1, vec!["a\"b".to_owned(), "c,\n".to_owned()])]);
    }
}
