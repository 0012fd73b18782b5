//! What must not be written anywhere: places on somebody's machine, hosts of package registries, work left open.

/// A file and the only texts it may contain nevertheless, with the reason.
const EXEMPT: [(&str, &str); 1] = [
    // Cargo writes the default registry's name into every lock file.
    ("Cargo.lock", concat!("crates", ".io-index")),
];

/// Put together here, so that this file does not offend itself.
const FORBIDDEN: [&str; 15] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("registry.", "npmjs"),
    concat!("registry.", "yarnpkg"),
    concat!("npmjs", ".com"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("debian", ".org"),
    concat!("proxy.", "golang"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("HA", "CK:"),
];

fn offences(file: &str, text: &str) -> Vec<String> {
    let exempt = EXEMPT.iter().find(|(exempt, _)| *exempt == file);
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = match exempt {
            Some((_, permitted)) => line.replace(permitted, ""),
            None => line.to_owned(),
        };
        for word in FORBIDDEN.iter().filter(|word| line.contains(**word)) {
            found.push(format!("{file}:{}: {word}", index + 1));
        }
    }
    found
}

/// A lock file of npm that says where a package was downloaded ties everybody to that place.
fn recorded_downloads(file: &str, text: &str) -> Option<String> {
    let recorded = file.ends_with("package-lock.json") && text.contains("\"resolved\": \"http");
    recorded
        .then(|| format!("{file} records download addresses: set omit-lockfile-registry-resolved"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::Tree;

    #[test]
    fn a_forbidden_word_is_an_offence() {
        for word in FORBIDDEN {
            assert_eq!(
                offences("a.md", &format!("x\nsee {word} there")).len(),
                1,
                "{word}"
            );
        }
        assert!(offences("Cargo.lock", concat!("a crates", ".io-index b")).is_empty());
        assert!(offences("a.md", concat!("a crates", ".io-index b")).len() == 1);
    }

    #[test]
    fn a_recorded_download_is_an_offence() {
        let text = "\"resolved\": \"https://example.org/x.tgz\"";
        assert!(recorded_downloads("x/package-lock.json", text).is_some());
        assert!(recorded_downloads("x/notes.json", text).is_none());
    }

    #[test]
    fn nothing_forbidden_is_written() {
        let tree = Tree::open();
        let mut found = Vec::new();
        for (file, text) in tree.texts(|_| true) {
            found.extend(offences(file, &text));
            found.extend(recorded_downloads(file, &text));
        }
        assert_clean("not to be written", &found);
    }
}
