//! The documents are complete: every setting is in README.md, every word a client may read is in PROTOCOL.md.

use std::collections::BTreeSet;

use crate::rust_source::literals;

/// The settings that a source file names.
fn settings(file: &str, text: &str) -> BTreeSet<String> {
    let is_setting = |literal: &String| {
        literal == "DATABASE_URL"
            || literal.strip_prefix("PGRELAY_").is_some_and(|rest| {
                !rest.is_empty() && rest.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            })
    };
    literals(file, text)
        .into_iter()
        .filter(is_setting)
        .collect()
}

/// The settings in the first column of a README table.
fn documented(readme: &str) -> BTreeSet<String> {
    readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name == "DATABASE_URL" || name.starts_with("PGRELAY_"))
        .collect()
}

/// Names on the wire in a literal: it is one word, or words stand quoted in it, as in JSON.
fn names(literal: &str) -> Vec<String> {
    let is_name =
        |text: &&str| text.len() > 2 && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let parts = literal.split('"');
    parts.filter(is_name).map(String::from).collect()
}

/// A text for people, cut at its placeholders.
fn texts(literal: &str) -> Vec<String> {
    literal
        .split(['{', '}'])
        .step_by(2)
        .map(str::trim)
        .filter(|text| text.chars().filter(char::is_ascii_alphabetic).count() > 2)
        .map(String::from)
        .collect()
}

/// What a document does not say of that which is found in literals. Blanks and line ends are alike.
fn unsaid(
    document: &str,
    file: &str,
    text: &str,
    find: impl Fn(&str) -> Vec<String>,
) -> Vec<String> {
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let document = flat(document);
    literals(file, text)
        .iter()
        .flat_map(|literal| find(literal))
        .filter(|found| !document.contains(&flat(found)))
        .map(|found| format!("{found:?} of {file}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::{Tree, is_test};

    #[test]
    fn finds_settings_on_both_sides() {
        let source = "const A: [&str; 3] = [\"DATABASE_URL\", \"PGRELAY_LISTEN\", \"PGRELAY_\"];";
        let readme =
            "| `DATABASE_URL` | where |\n| `PGRELAY_LISTEN` | .. |\n| `other` | `PGRELAY_X` |";
        let both = BTreeSet::from(["DATABASE_URL".into(), "PGRELAY_LISTEN".into()]);
        assert_eq!(settings("a.rs", source), both);
        assert_eq!(documented(readme), both);
    }

    #[test]
    fn finds_what_is_unsaid() {
        let source = r#"
            const REASON: &str = "retention";
            fn text(n: u64) -> String { format!("Token has expired {n} seconds ago") }
            const JSON: &str = "{\"status\":\"ok\",\"recovered\":true}";
            fn debug() -> &'static str { "Join(" }
        "#;
        let document = "`status`, Token has\nexpired <n> seconds";
        assert_eq!(
            unsaid(document, "a.rs", source, names),
            ["\"retention\" of a.rs", "\"recovered\" of a.rs"]
        );
        let unsaid = unsaid(document, "a.rs", source, texts);
        assert!(unsaid.contains(&String::from("\"seconds ago\" of a.rs")));
        assert!(!unsaid.iter().any(|text| text.contains("expired")));
    }

    #[test]
    fn readme_has_every_setting_and_no_other() {
        let tree = Tree::open();
        let mut read = BTreeSet::new();
        let reads_settings =
            |file: &str| file.starts_with("crates/server/src/config") && !is_test(file);
        for (file, text) in tree.texts(reads_settings) {
            read.append(&mut settings(file, &text));
        }
        assert!(
            !read.is_empty(),
            "crates/server/src/config.rs names no setting"
        );
        assert_eq!(documented(&tree.read("README.md")), read);
    }

    #[test]
    fn protocol_document_says_every_word() {
        let tree = Tree::open();
        let document = tree.read("PROTOCOL.md");
        let mut found = Vec::new();
        let mut check = |file: &str, find: fn(&str) -> Vec<String>| {
            let file = format!("crates/protocol/src/{file}");
            found.extend(unsaid(&document, &file, &tree.read(&file), find));
        };
        for file in ["code.rs", "refusal.rs", "system.rs"] {
            check(file, texts);
        }
        for file in ["client_frame.rs", "server_frame.rs"] {
            check(file, names);
        }
        assert_clean("not in PROTOCOL.md", &found);
    }
}
