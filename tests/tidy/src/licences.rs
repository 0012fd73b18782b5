//! What comes in from outside: from the default registry only, under permissive licences only.

use serde_json::Value;

use crate::cargo::{list, text};

/// The licences in `.deny.toml`: the lines between `allow = [` and `]`.
fn allowed_licences(deny: &str) -> Vec<String> {
    deny.lines()
        .skip_while(|line| *line != "allow = [")
        .take_while(|line| *line != "]")
        .filter_map(|line| line.split('"').nth(1))
        .map(String::from)
        .collect()
}

fn offences(metadata: &Value, deny: &str) -> Vec<String> {
    let allowed = allowed_licences(deny);
    let mut found = Vec::new();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]);
        let licence = text(&package["license"]);
        if !permits(licence, &allowed) {
            found.push(format!("{name} is under {licence:?}"));
        }
        if !matches!(package["source"].as_str(), None | Some(REGISTRY)) {
            found.push(format!("{name} comes from {}", package["source"]));
        }
    }
    found
}

/// The registry that cargo uses where nothing else is said, as `Cargo.lock` spells it.
const REGISTRY: &str = concat!(
    "registry+https://github.com/rust-lang/",
    "crates",
    ".io-index"
);

/// Whether a licence expression can be satisfied with the allowed licences alone. AND binds tighter than OR.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut permitted = all_of(rest, allowed);
    while let Some(after) = rest.strip_prefix(&["OR"]) {
        *rest = after;
        permitted |= all_of(rest, allowed);
    }
    permitted
}

fn all_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut permitted = one(rest, allowed);
    while let Some(after) = rest.strip_prefix(&["AND"]) {
        *rest = after;
        permitted &= one(rest, allowed);
    }
    permitted
}

fn one(rest: &mut &[&str], allowed: &[String]) -> bool {
    let Some((&word, after)) = rest.split_first() else {
        return false;
    };
    *rest = after;
    if word == "(" {
        let permitted = any_of(rest, allowed);
        *rest = rest.strip_prefix(&[")"]).unwrap_or(rest);
        return permitted;
    }
    // An exception only adds permissions.
    if let ["WITH", _, after @ ..] = rest {
        *rest = after;
    }
    allowed.iter().any(|licence| licence == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::cargo::metadata;
    use crate::tree::Tree;
    use serde_json::json;

    #[test]
    fn reads_licence_expressions() {
        let allowed = ["MIT".into(), "ISC".into()];
        for (expression, permitted) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("ISC AND (GPL-3.0 OR MIT)", true),
            ("GPL-3.0 AND ISC OR MIT", true),
            ("GPL-3.0 AND (ISC OR MIT)", false),
            ("MIT WITH LLVM-exception AND ISC", true),
        ] {
            assert_eq!(permits(expression, &allowed), permitted, "{expression}");
        }
    }

    #[test]
    fn a_stranger_is_an_offence() {
        let deny = "allow = [\n  \"MIT\",\n]\nskip = [\n  \"GPL-3.0\",\n]";
        let package = |name: &str, licence: &str, source: Value| json!({"name": name, "license": licence, "source": source});
        let metadata = json!({"packages": [
            package("a", "GPL-3.0", Value::Null),
            package("b", "MIT", json!("git+https://example.org/b")),
            package("c", "MIT", json!(REGISTRY)),
        ]});
        let found = offences(&metadata, deny);
        let names: Vec<_> = found.iter().map(|offence| &offence[..1]).collect();
        assert_eq!(names, ["a", "b"], "{found:?}");
    }

    #[test]
    fn everything_from_outside_is_permitted() {
        let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
        let deny = Tree::open().read(".deny.toml");
        assert_clean("dependencies from outside", &offences(&metadata, &deny));
    }
}
