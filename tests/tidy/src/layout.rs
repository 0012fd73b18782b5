//! Sizes and names of files.

use crate::tree::is_test;

/// A longer file has usually begun to know everything.
const LINES_MAX: usize = 500;

/// Files that may be longer, each with its reason. The list may only shrink.
const LONG_FILES: [(&str, &str); 0] = [];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "util", "utils", "common", "types", "helper", "helpers", "manager", "misc",
];

fn size_offence(file: &str, text: &str, exempt: bool) -> Option<String> {
    let lines = product_lines(file, text);
    match (lines > LINES_MAX, exempt) {
        (true, false) => Some(format!("{file} has {lines} lines, more than {LINES_MAX}")),
        (false, true) => Some(format!("{file} is short enough: take it off the list")),
        _ => None,
    }
}

/// The lines before the tests at the end of the file.
fn product_lines(file: &str, text: &str) -> usize {
    let is_rust = file.ends_with(".rs");
    text.lines()
        .take_while(|line| !is_rust || *line != "#[cfg(test)]")
        .count()
}

fn name_offence(file: &str) -> Option<String> {
    let name = file.rsplit('/').next()?;
    let (stem, kind) = name.split_once('.')?;
    if !["rs", "ts", "tsx", "mjs", "sql"].contains(&kind) {
        return None;
    }
    if name == "mod.rs" {
        return Some(format!("{file}: write foo.rs beside foo/"));
    }
    EMPTY_NAMES
        .contains(&stem)
        .then(|| format!("{file}: name what is inside"))
}

/// A test must not be switched off, nor be the only one that runs.
fn switched_off(file: &str, text: &str) -> Option<String> {
    let marks: &[&str] = match file.rsplit('.').next()? {
        "rs" => &["#[ignore", "todo!", "unimplemented!"],
        "ts" | "tsx" | "mjs" => &[".only(", ".skip(", ".todo(", "skip: true", "only: true"],
        _ => return None,
    };
    let is_here = file == "tests/tidy/src/layout.rs";
    let mark = marks
        .iter()
        .find(|mark| text.contains(**mark) && !is_here)?;
    Some(format!("{file} contains {mark}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::Tree;

    #[test]
    fn a_long_file_is_an_offence_unless_listed() {
        let long = "x\n".repeat(501);
        let short_with_tests = format!("x\n#[cfg(test)]\n{long}");
        assert!(size_offence("a.rs", &long, false).is_some());
        assert!(size_offence("a.rs", &long, true).is_none());
        assert!(size_offence("a.rs", "x", true).is_some());
        assert!(size_offence("a.rs", &short_with_tests, false).is_none());
        assert!(size_offence("a.ts", &short_with_tests, false).is_some());
    }

    #[test]
    fn an_empty_name_is_an_offence() {
        for file in [
            "crates/a/src/utils.rs",
            "crates/a/src/b/mod.rs",
            "x/types.ts",
        ] {
            assert!(name_offence(file).is_some(), "{file}");
        }
        for file in ["crates/a/src/topic.rs", "docs/types.md"] {
            assert!(name_offence(file).is_none(), "{file}");
        }
    }

    #[test]
    fn a_switched_off_test_is_an_offence() {
        assert!(switched_off("a.rs", "#[ignore = \"slow\"]").is_some());
        assert!(switched_off("a.mjs", "test.skip('x')").is_some());
        assert!(switched_off("a.rs", "iter.skip(1)").is_none());
    }

    #[test]
    fn files_are_short_and_well_named() {
        let tree = Tree::open();
        let code = |file: &str| {
            [".rs", ".ts", ".tsx", ".mjs", ".sql"]
                .iter()
                .any(|end| file.ends_with(end))
        };
        let mut found = Vec::new();
        for (file, text) in tree.texts(code) {
            let exempt = LONG_FILES.iter().any(|(long, _)| *long == file);
            if !is_test(file) {
                found.extend(size_offence(file, &text, exempt));
            }
            found.extend(name_offence(file));
            found.extend(switched_off(file, &text));
        }
        assert_clean("files", &found);
    }

    #[test]
    fn ci_does_what_the_readme_promises_and_nothing_else() {
        let script = Tree::open().read(".ci/run");
        let commands: Vec<_> = script
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert_eq!(
            commands,
            ["set -e", "cd \"$(dirname \"$0\")/..\"", "make test"]
        );
    }

    #[test]
    fn test_targets_have_names_of_their_own() {
        // scripts/test picks integration tests by name, across the workspace.
        let tree = Tree::open();
        let mut names: Vec<_> = tree
            .files(|file| file.contains("/tests/") && file.ends_with(".rs"))
            .into_iter()
            .filter(|file| file.split('/').count() == 4)
            .filter_map(|file| file.rsplit('/').next())
            .collect();
        names.sort_unstable();
        let repeated: Vec<_> = names
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0].to_owned())
            .collect();
        assert_clean("integration tests with one name", &repeated);
    }
}
