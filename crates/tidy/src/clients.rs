//! Which crate's code asks over HTTP. Features are one for a whole build, so what the rail's crate has of
//! `hyper` every crate has: the manifests alone do not tell.

use syn::visit::Visit;

use crate::tree::{Finding, Tree};

/// The modules with which one asks.
const CLIENTS: [[&str; 2]; 2] = [["hyper", "client"], ["hyper_util", "client"]];

/// No crate but the rail's asks over HTTP. Tests may.
#[must_use]
pub fn only_the_rail_asks_over_http(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let is_asked =
            path.starts_with("crates/") && path.contains("/src/") && !path.starts_with("crates/outbox-rail/");
        let Some(file) = is_asked.then(|| syn::parse_file(text).ok()).flatten() else { continue };
        let mut uses = Uses::default();
        uses.visit_file(&file);
        findings.extend(uses.lines.into_iter().map(|line| Finding::at(path, line, "only outbox-rail asks over HTTP")));
    }
    findings
}

/// Lines on which a client is named.
#[derive(Default)]
struct Uses {
    lines: Vec<usize>,
}

impl Uses {
    fn note(&mut self, words: &[&syn::Ident]) {
        if let [first, second, ..] = words
            && CLIENTS.iter().any(|[library, client]| *first == library && *second == client)
        {
            self.lines.push(second.span().start().line);
        }
    }

    fn tree<'ast>(&mut self, tree: &'ast syn::UseTree, mut before: Vec<&'ast syn::Ident>) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(&path.ident);
                self.tree(&path.tree, before);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before.clone())),
            syn::UseTree::Name(name) => {
                before.push(&name.ident);
                self.note(&before);
            }
            syn::UseTree::Rename(rename) => {
                before.push(&rename.ident);
                self.note(&before);
            }
            syn::UseTree::Glob(_) => self.note(&before),
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.note(&path.segments.iter().map(|segment| &segment.ident).collect::<Vec<_>>());
        syn::visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, code: &str) -> Vec<usize> {
        only_the_rail_asks_over_http(&Tree::of(&[(path, code)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_client_is_found_however_it_is_named() {
        for code in [
            "use hyper::client::conn::http1;",
            "use hyper::{Method, client::conn};",
            "use hyper::client as c;",
            "use hyper_util::client::*;",
            "fn f() { let _ = hyper::client::conn::http1::handshake(io); }",
            "fn f(sender: ::hyper::client::conn::http1::SendRequest<()>) {}",
        ] {
            assert_eq!(check("crates/outboxd/src/a.rs", code), [1], "{code}");
            assert_eq!(check("crates/outbox-rail/src/a.rs", code), [0; 0], "{code}");
            assert_eq!(check("crates/outboxd/tests/it/a.rs", code), [0; 0], "{code}");
        }
        let served = "use hyper::server::conn::http1;\nuse crate::client::hyper;\nfn f(client: hyper::Method) {}";
        assert_eq!(check("crates/outboxd/src/a.rs", served), [0; 0]);
    }
}
