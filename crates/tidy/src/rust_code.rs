//! What the rules need to know of a Rust file: its functions with their length and attributes, which
//! lines are test code, and where something sleeps. Read from the syntax, so that text in strings and
//! comments counts for nothing.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::Visit;

/// One function.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line of its `fn`.
    pub line: usize,
    /// Lines from its `fn` to its closing brace, both counted.
    pub length: usize,
    /// Whether an attribute whose path ends in `test` stands over it.
    pub is_test: bool,
    /// Whether its body holds no statement.
    pub is_empty: bool,
    /// Last words of its attributes' paths.
    pub attributes: Vec<String>,
}

/// What was found in one file.
#[derive(Debug, Clone, Default)]
pub struct RustCode {
    /// Functions at any depth, in order.
    pub functions: Vec<Function>,
    /// Lines of calls named `sleep` or `sleep_until`, in macros as well.
    pub sleeps: Vec<usize>,
    test_lines: Vec<(usize, usize)>,
}

impl RustCode {
    /// Parses a file.
    ///
    /// # Errors
    /// The line and the reason when it is not Rust.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let file = syn::parse_file(text).map_err(|error| (error.span().start().line, error.to_string()))?;
        let mut code = Self::default();
        code.visit_file(&file);
        // The same text has just parsed as a file, so it is a token stream.
        if let Ok(tokens) = text.parse() {
            collect_sleeps(tokens, &mut code.sleeps);
        }
        Ok(code)
    }

    /// Whether a line lies in a module under `#[cfg(test)]`.
    #[must_use]
    pub fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }

    fn add(&mut self, signature: &syn::Signature, attributes: &[syn::Attribute], block: &syn::Block) {
        let line = signature.fn_token.span.start().line;
        let names: Vec<String> = attributes.iter().filter_map(last_word).collect();
        self.functions.push(Function {
            name: signature.ident.to_string(),
            line,
            length: block.brace_token.span.close().end().line + 1 - line,
            is_test: names.iter().any(|name| name == "test"),
            is_empty: block.stmts.is_empty(),
            attributes: names,
        });
    }
}

impl<'ast> Visit<'ast> for RustCode {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.attrs, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.attrs, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.sig, &item.attrs, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if let (Some((braces, _)), true) = (&item.content, item.attrs.iter().any(is_cfg_test)) {
            self.test_lines.push((item.mod_token.span.start().line, braces.span.close().end().line));
        }
        syn::visit::visit_item_mod(self, item);
    }
}

fn last_word(attribute: &syn::Attribute) -> Option<String> {
    attribute.path().segments.last().map(|segment| segment.ident.to_string())
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test")
}

fn collect_sleeps(tokens: TokenStream, lines: &mut Vec<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut after_fn = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => collect_sleeps(group.stream(), lines),
            TokenTree::Ident(word) => {
                let called =
                    matches!(tokens.peek(), Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis);
                if called && !after_fn && (word == "sleep" || word == "sleep_until") {
                    lines.push(word.span().start().line);
                }
                after_fn = word == "fn";
            }
            _ => after_fn = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_sleeps_and_test_lines_are_found() {
        let text = "\
fn long() {
    one();
    select! { _ = tokio::time::sleep(x) => {} }
}
trait T { fn given(&self) { nap() } fn wanted(&self); }
#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn claim() { thread::sleep(y); }
    fn sleep(x: u8) {}
}
";
        let code = RustCode::parse(text).unwrap();
        let names: Vec<_> = code.functions.iter().map(|f| (f.name.as_str(), f.length, f.is_test)).collect();
        assert_eq!(names, [("long", 4, false), ("given", 1, false), ("claim", 1, true), ("sleep", 1, false)]);
        assert_eq!(code.sleeps, [3, 9]);
        assert!(!code.is_test_line(3) && code.is_test_line(9));
    }

    #[test]
    fn broken_rust_is_reported_with_its_line() {
        assert_eq!(RustCode::parse("fn a() {}\nfn b( {}\n").unwrap_err().0, 2);
    }
}
