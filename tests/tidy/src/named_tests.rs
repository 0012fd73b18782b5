//! Every test that a document names exists, under that name and in that file.

/// A test that a document names: in the last column of a table, `` `file`: name ``, several after one another.
fn named(document: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let Some(cell) = line.trim_end_matches(" |").rsplit(" | ").next() else {
            continue;
        };
        // A name may contain what separates two of them; a file in backticks begins the next.
        for part in cell.split("; `") {
            if let Some((file, name)) = part.trim_start_matches('`').split_once("`: ") {
                found.push((file.to_owned(), name.to_owned()));
            }
        }
    }
    found
}

/// Whether a file's text has a test of this name.
fn has_test(file: &str, text: &str, name: &str) -> bool {
    if file.ends_with(".rs") {
        return text.contains(&format!("fn {name}("));
    }
    ["'", "\"", "`"]
        .iter()
        .any(|quote| text.contains(&format!("({quote}{name}{quote},")))
}

/// What is wrong with the tests that a document names. `files` are paths and contents.
fn missing(document: &str, files: &[(&str, String)]) -> Vec<String> {
    let is_there = |file: &str, name: &str| {
        files
            .iter()
            .any(|(path, text)| path.ends_with(&format!("/{file}")) && has_test(file, text, name))
    };
    named(document)
        .into_iter()
        .filter(|(file, name)| !is_there(file, name))
        .map(|(file, name)| format!("{file} has no test {name:?}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::Tree;

    #[test]
    fn a_test_that_is_not_there_is_an_offence() {
        let files = [
            ("a/b.test.ts", "it('says; so', async () => {})".to_owned()),
            ("a/c.rs", "async fn holds() {}".to_owned()),
        ];
        let document =
            "| what | shown by |\n|---|---|\n| x | `b.test.ts`: says; so; `c.rs`: holds |";
        assert_eq!(named(document).len(), 2);
        assert!(missing(document, &files).is_empty());
        let document = "| x | `b.test.ts`: says; `c.rs`: hold; `d.rs`: holds |";
        assert_eq!(missing(document, &files).len(), 3);
    }

    #[test]
    fn every_named_test_exists() {
        let tree = Tree::open();
        let document = tree.read("docs/requirements.md");
        assert!(named(&document).len() > 50);
        let files = tree
            .texts(|file| file.starts_with("tests/") || file.starts_with("clients/typescript/"));
        assert_clean(
            "tests that docs/requirements.md names",
            &missing(&document, &files),
        );
    }
}
