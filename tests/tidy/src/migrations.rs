//! A released migration never changes; the next one has the next number.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};

/// Checks `sql/released.sha256` (lines as `sha256sum` prints them) against the files themselves.
fn changed(released: &str, content: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<String> {
    let mut found = Vec::new();
    for line in released.lines() {
        let Some((expected, file)) = line.split_once("  ") else {
            found.push(format!("no line of sha256sum: {line}"));
            continue;
        };
        match content(file) {
            None => found.push(format!("{file} was released and is gone")),
            Some(bytes) if hex(digest(&SHA256, &bytes).as_ref()) != expected => {
                found.push(format!(
                    "{file} was released and has changed: write a new migration"
                ));
            }
            Some(_) => {}
        }
    }
    found
}

/// Each folder's migrations are `0001_name.sql`, `0002_name.sql` and so on, without gap or repetition.
fn misnumbered(files: &[&str]) -> Vec<String> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        folders.entry(folder).or_default().push(name);
    }
    let mut found = Vec::new();
    for (folder, mut names) in folders {
        names.sort_unstable();
        for (index, name) in names.iter().enumerate() {
            let number = format!("{:04}_", index + 1);
            if !name.starts_with(&number) {
                found.push(format!("{folder}/{name} should begin with {number}"));
            }
        }
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::Tree;

    #[test]
    fn a_changed_release_is_an_offence() {
        // printf abc | sha256sum
        let line =
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  sql/a/0001_x.sql";
        assert!(changed(line, |_| Some(b"abc".to_vec())).is_empty());
        assert_eq!(changed(line, |_| Some(b"abd".to_vec())).len(), 1);
        assert_eq!(changed(line, |_| None).len(), 1);
        assert_eq!(changed("rubbish", |_| None).len(), 1);
    }

    #[test]
    fn a_gap_or_a_repetition_is_an_offence() {
        assert!(misnumbered(&["a/0002_y.sql", "a/0001_x.sql", "b/0001_z.sql"]).is_empty());
        assert_eq!(misnumbered(&["a/0001_x.sql", "a/0003_y.sql"]).len(), 1);
        assert_eq!(misnumbered(&["a/0001_x.sql", "a/0001_y.sql"]).len(), 1);
    }

    #[test]
    fn released_migrations_are_as_released() {
        let tree = Tree::open();
        let content = |file: &str| {
            let exists = !tree.files(|other| other == file).is_empty();
            exists.then(|| tree.read(file).into_bytes())
        };
        assert_clean(
            "migrations",
            &changed(&tree.read("sql/released.sha256"), content),
        );
    }

    #[test]
    fn migrations_are_numbered() {
        let tree = Tree::open();
        let files = tree.files(|file| file.starts_with("sql/") && file.ends_with(".sql"));
        assert!(!files.is_empty());
        assert_clean("migrations", &misnumbered(&files));
    }
}
