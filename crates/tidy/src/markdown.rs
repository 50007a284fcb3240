//! Reads of a Markdown document what the rules compare with the tree: link targets, and the code in it,
//! inline and in blocks. It renders nothing.

/// A piece of a document with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Line, from 1.
    pub line: usize,
    /// The text.
    pub text: String,
}

/// Lines of fenced blocks and spans between backticks.
#[must_use]
pub fn code(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut in_block = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let spans: Vec<&str> = if in_block { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        pieces.extend(spans.into_iter().map(|span| Piece { line: index + 1, text: span.to_owned() }));
    }
    pieces
}

/// Targets of links, without their fragment.
#[must_use]
pub fn links(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (_, rest) in line.match_indices("](").map(|(at, found)| line[at..].split_at(found.len())) {
            let target = rest.split(')').next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            pieces.push(Piece { line: index + 1, text: path.to_owned() });
        }
    }
    pieces
}

/// The lines under a `## ` heading up to the next one.
#[must_use]
pub fn section<'a>(text: &'a str, heading: &str) -> Vec<(usize, &'a str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let after = lines.skip_while(|(_, line)| *line != format!("## {heading}")).skip(1);
    after.take_while(|(_, line)| !line.starts_with("## ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_links_and_sections_are_found() {
        let text = "# T\nRun `a b` or `c`, see [d](e.md#f) and [g](#h).\n```sh\nx y\n```\n## One\n- i\n## Two\n- j\n";
        let lines_of = |pieces: Vec<Piece>| pieces.into_iter().map(|p| (p.line, p.text)).collect::<Vec<_>>();
        let expected = [(2, "a b"), (2, "c"), (4, "x y")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(lines_of(code(text)), expected);
        assert_eq!(lines_of(links(text)), [(2, "e.md".to_owned()), (2, String::new())]);
        assert_eq!(section(text, "One"), [(7, "- i")]);
    }
}
