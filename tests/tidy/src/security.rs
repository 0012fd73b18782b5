//! Every line of the list of attacks names a test that exists, or says why there is none.

use std::collections::BTreeSet;

/// What is wrong with the table, given the names of all tests.
fn offences(table: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut number = 0;
    for line in table.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(told) = cells.get(1).and_then(|cell| cell.parse::<u32>().ok()) else {
            continue;
        };
        number += 1;
        if told != number {
            found.push(format!("line {told} stands where {number} belongs"));
        }
        let shown = cells.get(3).copied().unwrap_or_default();
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        let is_test = |name: &&&str| {
            name.contains('_')
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let named: Vec<_> = names.iter().filter(is_test).collect();
        for name in &named {
            if !tests.contains(**name) {
                found.push(format!("line {told}: there is no test {name}"));
            }
        }
        let has_reason = shown
            .strip_prefix("no test: ")
            .is_some_and(|why| why.len() > 20);
        if named.is_empty() && !has_reason {
            found.push(format!("line {told} names no test and gives no reason"));
        }
    }
    found
}

/// Names of functions that follow a test attribute.
fn tests_of(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            names.insert(name.to_owned());
            is_test = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::Tree;

    #[test]
    fn a_line_without_a_test_or_a_reason_is_an_offence() {
        let tests = tests_of(
            "#[test]\nfn it_fails() {}\n#[tokio::test(flavor = \"x\")]\nasync fn it_is_refused() {}\nfn no_test() {}",
        );
        let line = |number: u32, shown: &str| format!("| {number} | attempt | {shown} |\n");
        let good = line(1, "`it_fails`, as `PGRELAY_X` says")
            + &line(2, "no test: because there is nothing to be shown");
        assert_eq!(offences(&good, &tests), Vec::<String>::new());
        for bad in [
            line(1, ""),
            line(1, "`no_test`"),
            line(1, "no test: "),
            line(2, "`it_is_refused`"),
        ] {
            assert_eq!(offences(&bad, &tests).len(), 1, "{bad}");
        }
    }

    #[test]
    fn every_attack_is_shown_to_fail() {
        let tree = Tree::open();
        let mut tests = BTreeSet::new();
        for (_, text) in tree.texts(|file| file.ends_with(".rs")) {
            tests.append(&mut tests_of(&text));
        }
        let table = tree.read("tests/e2e/SECURITY.md");
        assert!(table.contains("| 64 |"), "the list is not whole");
        assert_clean("tests/e2e/SECURITY.md", &offences(&table, &tests));
    }
}
