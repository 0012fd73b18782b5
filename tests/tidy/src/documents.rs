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

/// What a client may meet in the literals of a source file: whole texts, cut at placeholders, or quoted words inside JSON.
fn words(literal: &str) -> Vec<String> {
    let is_word =
        |text: &&str| text.len() > 2 && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if literal.contains('"') {
        return literal
            .split('"')
            .filter(is_word)
            .map(String::from)
            .collect();
    }
    literal
        .split(['{', '}'])
        .step_by(2)
        .map(str::trim)
        .filter(|text| text.chars().filter(char::is_ascii_alphabetic).count() > 2)
        .map(String::from)
        .collect()
}

/// Words of `text` that `document` does not say. Blanks and line ends are alike.
fn unsaid(file: &str, text: &str, document: &str) -> Vec<String> {
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let document = flat(document);
    literals(file, text)
        .iter()
        .flat_map(|literal| words(literal))
        .filter(|word| !document.contains(&flat(word)))
        .map(|word| format!("{word:?} of {file}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::Tree;

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
        "#;
        let document = "`status`, Token has\nexpired <n> seconds ago";
        assert_eq!(
            unsaid("a.rs", source, document),
            ["\"retention\" of a.rs", "\"recovered\" of a.rs"]
        );
    }

    #[test]
    fn readme_has_every_setting_and_no_other() {
        let tree = Tree::open();
        let mut read = BTreeSet::new();
        for (file, text) in tree.texts(|file| file.starts_with("crates/server/src/config")) {
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
        for file in ["code.rs", "client_frame.rs", "server_frame.rs"] {
            let file = format!("crates/protocol/src/{file}");
            found.extend(unsaid(&file, &tree.read(&file), &document));
        }
        assert_clean("not in PROTOCOL.md", &found);
    }
}
