//! Every Rust file is part of something that is built.

use std::collections::{BTreeMap, BTreeSet};

use crate::rust_source::declared_modules;

/// Files that no crate root reaches. `sources` are paths and contents.
fn unreached(sources: &BTreeMap<&str, String>) -> Vec<String> {
    let mut waiting: Vec<String> = sources
        .keys()
        .filter(|file| is_root(file))
        .map(|&file| file.into())
        .collect();
    let mut reached = BTreeSet::new();
    while let Some(file) = waiting.pop() {
        let Some(text) = sources.get(file.as_str()) else {
            continue;
        };
        for name in declared_modules(&file, text) {
            waiting.push(format!("{}/{name}.rs", folder_of_children(&file)));
        }
        reached.insert(file);
    }
    sources
        .keys()
        .filter(|file| !reached.contains(**file))
        .map(|file| format!("{file} is part of nothing"))
        .collect()
}

/// Whether cargo takes a file for a crate's root.
fn is_root(file: &str) -> bool {
    let parts: Vec<&str> = file.split('/').collect();
    matches!(
        parts.as_slice(),
        [.., "src", "lib.rs" | "main.rs"]
            | [.., "build.rs"]
            | [.., "src", "bin", _]
            | [.., "fuzz_targets", _]
            | [_, _, "tests" | "benches" | "examples", _]
            | [_, _, "tests" | "benches" | "examples", _, "main.rs"]
    )
}

fn folder_of_children(file: &str) -> &str {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    if is_root(file) || name == "main.rs" {
        folder
    } else {
        file.trim_end_matches(".rs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::Tree;

    #[test]
    fn a_forgotten_file_is_an_offence() {
        let sources = [
            ("crates/a/src/lib.rs", "mod one;"),
            ("crates/a/src/one.rs", "mod two;"),
            ("crates/a/src/one/two.rs", ""),
            ("crates/a/src/two.rs", ""),
            ("crates/a/tests/sim.rs", "mod script;"),
            ("crates/a/tests/sim/script.rs", ""),
        ]
        .map(|(file, text)| (file, String::from(text)));
        assert_eq!(
            unreached(&sources.into()),
            [
                "crates/a/src/two.rs is part of nothing",
                "crates/a/tests/sim/script.rs is part of nothing",
            ]
        );
    }

    #[test]
    fn every_rust_file_is_built() {
        let tree = Tree::open();
        let sources = tree
            .texts(|file| file.ends_with(".rs"))
            .into_iter()
            .collect();
        assert_clean("dead files", &unreached(&sources));
    }
}
