//! What the rules want to know about a Rust file, by its tokens.

use std::str::FromStr as _;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The text of every string literal outside attributes, documentation and `#[cfg(test)]` items.
pub(crate) fn literals(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect_literals(tokens(file, text), &mut found);
    found
}

/// The names in `mod name;`, wherever they stand.
pub(crate) fn declared_modules(file: &str, text: &str) -> Vec<String> {
    let flat: Vec<_> = tokens(file, text).into_iter().collect();
    let declared = |window: &[TokenTree]| match window {
        [
            TokenTree::Ident(word),
            TokenTree::Ident(name),
            TokenTree::Punct(end),
        ] if *word == "mod" && end.as_char() == ';' => Some(name.to_string()),
        _ => None,
    };
    flat.windows(3).filter_map(declared).collect()
}

fn tokens(file: &str, text: &str) -> TokenStream {
    TokenStream::from_str(text).unwrap_or_else(|error| panic!("{file} is no Rust: {error}"))
}

fn collect_literals(stream: TokenStream, found: &mut Vec<String>) {
    let mut tokens = stream.into_iter().peekable();
    let mut skips_item = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                tokens.next_if(
                    |next| matches!(next, TokenTree::Punct(mark) if mark.as_char() == '!'),
                );
                if let Some(TokenTree::Group(attribute)) = tokens.next_if(is_bracket) {
                    skips_item |= is_test_attribute(&attribute);
                }
            }
            TokenTree::Punct(mark) if mark.as_char() == ';' => skips_item = false,
            TokenTree::Group(group) => {
                let is_body = group.delimiter() == Delimiter::Brace;
                if !skips_item {
                    collect_literals(group.stream(), found);
                }
                skips_item &= !is_body;
            }
            TokenTree::Literal(literal) if !skips_item => {
                found.extend(unquote(&literal.to_string()));
            }
            TokenTree::Literal(_) | TokenTree::Punct(_) | TokenTree::Ident(_) => {}
        }
    }
}

fn is_bracket(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket)
}

fn is_test_attribute(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text == "cfg(test)" || text == "test" || text == "tokio::test"
}

/// What stands between the quotes of a string literal; escapes of quotes are undone, a continued line is joined.
fn unquote(literal: &str) -> Option<String> {
    let quoted = literal.trim_start_matches(['b', 'c']);
    if let Some(raw) = quoted.strip_prefix('r') {
        let text = raw.trim_matches('#');
        return Some(text.strip_prefix('"')?.strip_suffix('"')?.into());
    }
    let text = quoted.strip_prefix('"')?.strip_suffix('"')?;
    Some(text.replace("\\\n", " ").replace("\\\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_literals_of_the_product_only() {
        let text = r###"
            //! "documentation"
            #![allow(x, reason = "an attribute")]
            /// More "documentation".
            const A: &str = "select 1";
            fn f() { g(r#"raw "text""#, "two \
                lines", 'c', 1, b"bytes", "\"escaped\""); }
            #[cfg(test)]
            mod tests { const B: &str = "a test"; }
            const C: &str = "after";
            #[cfg(test)]
            mod other;
            #[cfg(test)]
            const D: &str = "a test";
        "###;
        assert_eq!(
            literals("x.rs", text),
            [
                "select 1",
                "raw \"text\"",
                "two                  lines",
                "bytes",
                "\"escaped\"",
                "after"
            ]
        );
    }

    #[test]
    fn finds_declared_modules() {
        let text = "pub(crate) mod a; mod b { fn f() {} } #[cfg(test)] mod tests; struct S;";
        assert_eq!(declared_modules("x.rs", text), ["a", "tests"]);
    }
}
