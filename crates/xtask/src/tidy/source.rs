use std::path::PathBuf;

use anyhow::{Context, Result};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// A Rust file, parsed once, with its tests told apart.
#[derive(Debug)]
pub(super) struct Source {
    /// From the root of the repository.
    pub(super) path: PathBuf,
    /// Lines, those of `#[cfg(test)]` items apart.
    pub(super) lines: usize,
    /// Functions outside tests.
    pub(super) functions: Vec<Function>,
    /// Paths such as `std::time::Instant::now` outside tests, imports written out, each with its line.
    pub(super) paths: Vec<(String, usize)>,
    /// Names of macros called and attributes used anywhere, tests included, each with its line.
    pub(super) markers: Vec<(String, usize)>,
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// The line of its signature.
    pub(super) line: usize,
    /// From its signature to its closing brace.
    pub(super) lines: usize,
}

impl Source {
    pub(super) fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let file = syn::parse_file(text).with_context(|| path.display().to_string())?;
        let in_tests = path.iter().any(|part| part == "tests" || part == "benches" || part == "fuzz");
        let mut reader = Reader { test_depth: usize::from(in_tests), ..Reader::default() };
        reader.visit_file(&file);
        let lines = text.lines().count().saturating_sub(reader.test_lines);
        let Reader { functions, paths, markers, .. } = reader;
        Ok(Self { path, lines, functions, paths, markers })
    }

    /// Whether the whole file is a test.
    pub(super) fn is_test(&self) -> bool {
        self.path.iter().any(|part| part == "tests" || part == "benches" || part == "fuzz")
    }

    /// The path with a line, for findings.
    pub(super) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

#[derive(Default)]
struct Reader {
    test_depth: usize,
    test_lines: usize,
    functions: Vec<Function>,
    paths: Vec<(String, usize)>,
    markers: Vec<(String, usize)>,
}

impl Reader {
    /// Visits an item or a method; `within` goes on into it.
    fn item(&mut self, attributes: &[syn::Attribute], span: proc_macro2::Span, within: impl FnOnce(&mut Self)) {
        let is_test = attributes.iter().any(is_test_attribute);
        if is_test && self.test_depth == 0 {
            let first = attributes.first().map_or(span, Spanned::span);
            self.test_lines += lines_between(first, span);
        }
        self.test_depth += usize::from(is_test);
        within(self);
        self.test_depth -= usize::from(is_test);
    }

    fn function(&mut self, name: &syn::Ident, signature: proc_macro2::Span, block: &syn::Block) {
        if self.test_depth == 0 {
            let lines = lines_between(signature, block.span());
            self.functions.push(Function { name: name.to_string(), line: signature.start().line, lines });
        }
    }

    fn import(&mut self, prefix: &str, tree: &syn::UseTree) {
        let joined = |name: &syn::Ident| if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") };
        match tree {
            syn::UseTree::Path(path) => self.import(&joined(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.import(prefix, item)),
            syn::UseTree::Name(name) => self.paths.push((joined(&name.ident), name.span().start().line)),
            syn::UseTree::Rename(name) => self.paths.push((joined(&name.ident), name.span().start().line)),
            syn::UseTree::Glob(glob) => self.paths.push((format!("{prefix}::*"), glob.span().start().line)),
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes: &[syn::Attribute] = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Enum(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Static(item) => &item.attrs,
            syn::Item::Trait(item) => &item.attrs,
            syn::Item::Type(item) => &item.attrs,
            syn::Item::Macro(item) => &item.attrs,
            _ => &[],
        };
        self.item(attributes, item.span(), |reader| syn::visit::visit_item(reader, item));
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes: &[syn::Attribute] = match item {
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Const(item) => &item.attrs,
            _ => &[],
        };
        self.item(attributes, item.span(), |reader| syn::visit::visit_impl_item(reader, item));
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig.ident, function.sig.span(), &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig.ident, function.sig.span(), &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig.ident, function.sig.span(), block);
        }
        syn::visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        if self.test_depth == 0 {
            self.import("", &import.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if self.test_depth == 0 {
            self.paths.push((path_text(path), path.span().start().line));
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.markers.push((format!("{}!", path_text(&call.path)), call.path.span().start().line));
        // What stands within a macro is only tokens, so a marker hidden there is found by its name and the `!`.
        tokens_of(call.tokens.clone(), &mut self.markers);
        syn::visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let text = path_text(attribute.path());
        self.markers.push((format!("#[{text}]"), attribute.span().start().line));
        syn::visit::visit_attribute(self, attribute);
    }
}

fn tokens_of(tokens: proc_macro2::TokenStream, markers: &mut Vec<(String, usize)>) {
    let mut before: Option<proc_macro2::Ident> = None;
    for token in tokens {
        match (&token, before.take()) {
            (proc_macro2::TokenTree::Punct(punct), Some(name)) if punct.as_char() == '!' => {
                markers.push((format!("{name}!"), name.span().start().line));
            }
            (proc_macro2::TokenTree::Group(group), _) => tokens_of(group.stream(), markers),
            (proc_macro2::TokenTree::Ident(name), _) => before = Some(name.clone()),
            _ => {}
        }
    }
}

fn path_text(path: &syn::Path) -> String {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>().join("::")
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`; not `#[cfg(not(test))]`.
fn is_test_attribute(attribute: &syn::Attribute) -> bool {
    if attribute.path().is_ident("cfg") {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        return list.tokens.to_string() == "test";
    }
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
}

fn lines_between(first: proc_macro2::Span, last: proc_macro2::Span) -> usize {
    last.end().line + 1 - first.start().line
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "use std::{fs, time::Instant as Clock};\n\
        fn long() {\n    let _ = std::net::TcpStream::connect(\"x\");\n}\n\
        #[cfg(test)]\nmod tests {\n    use std::io;\n    fn helper() { todo!() }\n}\n\
        struct S;\nimpl S {\n    fn short() { vec![todo!()]; }\n}\n";

    #[test]
    fn tests_are_told_apart() {
        let source = Source::parse("crates/a/src/lib.rs".into(), TEXT).unwrap();
        assert_eq!(source.lines, TEXT.lines().count() - 5);
        let function = |name: &str, line, lines| Function { name: name.into(), line, lines };
        assert_eq!(source.functions, [function("long", 2, 3), function("short", 12, 1)]);
        let has = |path: &str| source.paths.iter().any(|(found, _)| found == path);
        assert!(has("std::fs") && has("std::time::Instant") && has("std::net::TcpStream::connect") && !has("std::io"));
        let markers: Vec<_> =
            source.markers.iter().filter(|(name, _)| name == "todo!").map(|(_, line)| *line).collect();
        assert_eq!(markers, [8, 12], "in tests and within other macros too");

        let all = Source::parse("crates/a/tests/it/main.rs".into(), TEXT).unwrap();
        assert!(all.is_test() && all.functions.is_empty());
    }
}
