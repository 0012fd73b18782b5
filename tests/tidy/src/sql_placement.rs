//! SQL lives in few places, so that it can be reviewed as SQL.

use crate::rust_source::literals;

/// Product files that may contain SQL; migrations are under sql/.
const SQL_FILES: [&str; 10] = [
    "crates/capture/src/predicate.rs",
    "crates/capture/src/statements/administration.rs",
    "crates/capture/src/statements/catalog.rs",
    "crates/capture/src/statements/ledger.rs",
    "crates/capture/src/statements/messages.rs",
    "crates/capture/src/statements/session.rs",
    "crates/capture/src/statements/sessions.rs",
    "crates/chat/src/doctor.rs",
    "crates/chat/src/schema.rs",
    "crates/chat/src/store.rs",
];

/// How a statement begins, in lower case with single blanks.
const BEGINNINGS: [&str; 25] = [
    "select ",
    "insert into ",
    "delete from ",
    "create table ",
    "create or replace ",
    "create function ",
    "create publication ",
    "create trigger ",
    "create role ",
    "create schema ",
    "create index ",
    "alter table ",
    "alter publication ",
    "alter role ",
    "drop table ",
    "drop schema ",
    "drop trigger ",
    "drop function ",
    "truncate ",
    "grant ",
    "revoke ",
    "lock table ",
    "with recursive ",
    "set local ",
    "do $$",
];

/// Words that are a statement of their own, or begin one that looks like prose in lower case.
const WORDS: [&str; 4] = ["LISTEN ", "NOTIFY ", "BEGIN", "COMMIT"];

fn is_sql(literal: &str) -> bool {
    let text = literal.split_whitespace().collect::<Vec<_>>().join(" ");
    let lower = text.to_lowercase();
    BEGINNINGS
        .iter()
        .any(|beginning| lower.starts_with(beginning))
        || WORDS.iter().any(|word| text.starts_with(word))
        || (lower.starts_with("update ") && lower.contains(" set "))
}

fn offences(file: &str, text: &str, listed: bool) -> Vec<String> {
    let statements: Vec<_> = literals(file, text)
        .into_iter()
        .filter(|text| is_sql(text))
        .collect();
    if listed && statements.is_empty() {
        return vec![format!("{file} has no SQL any more: take it off the list")];
    }
    if listed {
        return Vec::new();
    }
    statements
        .iter()
        .map(|statement| format!("{file}: {statement:.60}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_clean;
    use crate::tree::{Tree, is_test};

    #[test]
    fn tells_sql_from_prose() {
        for sql in [
            "select 1",
            "\n  INSERT\n INTO t values (1)",
            "update t set a = 1",
            "LISTEN pgrelay",
        ] {
            assert!(is_sql(sql), "{sql}");
        }
        for prose in [
            "selected table",
            "update the client",
            "listening",
            "insert",
            "begin at the start",
        ] {
            assert!(!is_sql(prose), "{prose}");
        }
    }

    #[test]
    fn sql_in_the_wrong_file_is_an_offence() {
        let text = "const A: &str = \"delete from t\";";
        assert_eq!(offences("a.rs", text, false).len(), 1);
        assert!(offences("a.rs", text, true).is_empty());
        assert_eq!(offences("a.rs", "", true).len(), 1);
    }

    #[test]
    fn sql_stays_in_its_files() {
        let tree = Tree::open();
        let product =
            |file: &str| file.starts_with("crates/") && file.ends_with(".rs") && !is_test(file);
        let mut found = Vec::new();
        for (file, text) in tree.texts(product) {
            found.extend(offences(file, &text, SQL_FILES.contains(&file)));
        }
        for file in SQL_FILES {
            if tree.files(|other| other == file).is_empty() {
                found.push(format!("{file} is gone: take it off the list"));
            }
        }
        assert_clean(
            "SQL outside the files for it (the list is in tests/tidy/src/sql_placement.rs)",
            &found,
        );
    }
}
