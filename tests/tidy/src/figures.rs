//! Every figure that a document names is one that is served.

use std::collections::BTreeSet;

use crate::rust_source::literals;

/// Names of figures in a document.
fn named(document: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    document
        .split(|c: char| !is_part(c))
        .filter(|word| {
            let parts = ["pgrelay_capture_", "pgrelay_relay_", "pgrelay_http_"];
            parts.iter().any(|part| word.starts_with(part))
        })
        .collect()
}

/// Names that `served` (of each crate its prefix and the literals of the file that registers them) does not have.
fn unserved<'a>(document: &'a str, served: &[(&str, Vec<String>)]) -> Vec<&'a str> {
    let is_served = |name: &&str| {
        served.iter().any(|(prefix, literals)| {
            let name = name.strip_prefix(prefix).map(|name| {
                name.trim_start_matches('_')
                    .trim_end_matches("_total")
                    .to_owned()
            });
            name.is_some_and(|name| literals.contains(&name))
        })
    };
    named(document)
        .into_iter()
        .filter(|name| !is_served(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::Tree;

    #[test]
    fn a_figure_that_nobody_serves_is_an_offence() {
        let served = [("pgrelay_relay", vec![String::from("overflows")])];
        let document = "`pgrelay_relay_overflows_total` and `pgrelay_relay_dreams{a=\"b\"}`";
        assert_eq!(unserved(document, &served), ["pgrelay_relay_dreams"]);
    }

    #[test]
    fn documents_name_figures_that_are_served() {
        let tree = Tree::open();
        let registers = [
            ("pgrelay_capture", "crates/capture/src/metrics.rs"),
            ("pgrelay_relay", "crates/relay/src/metrics.rs"),
            ("pgrelay_http", "crates/server/src/http/metrics.rs"),
        ];
        let served = registers.map(|(prefix, file)| (prefix, literals(file, &tree.read(file))));
        let mut found = Vec::new();
        for (file, text) in tree.texts(|file| file.ends_with(".md")) {
            let names = unserved(&text, &served);
            found.extend(names.iter().map(|name| format!("{name} in {file}")));
        }
        assert_clean("figures that are not served", &found);
    }
}
