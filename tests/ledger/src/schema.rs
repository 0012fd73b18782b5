//! The shipped SQL, as it is or with a defect put in on purpose.

use std::path::Path;

use pgrelay_test_support::Session;

/// The migrations in the order in which they are applied.
#[derive(Debug, Clone)]
pub struct Schema(Vec<String>);

/// A text in a shipped definition and the one that takes its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edit {
    /// How the statement begins, after `create`.
    pub(crate) statement: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// How often the text is there.
    pub(crate) times: usize,
}

impl Schema {
    /// The files of `sql/pgrelay`.
    pub fn shipped() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql/pgrelay");
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .filter(|file| file.extension().is_some_and(|kind| kind == "sql"))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "no migrations in {}", folder.display());
        Self(
            files
                .iter()
                .map(|file| std::fs::read_to_string(file).unwrap())
                .collect(),
        )
    }

    /// # Panics
    /// When the text to replace is not there as often as expected: a definition that has changed must not disarm a defect in
    /// silence.
    pub(crate) fn edited(&self, edit: &Edit) -> Self {
        let head = format!("\ncreate {}", edit.statement);
        let mut files = self.0.clone();
        let mut edited = 0;
        for file in &mut files {
            let Some(start) = file.find(&head) else {
                continue;
            };
            let rest = &file[start + 1..];
            let length = rest.find("\ncreate ").unwrap_or(rest.len());
            let (body, after) = rest.split_at(length);
            let occurrences = body.matches(edit.from).count();
            assert_eq!(
                occurrences, edit.times,
                "create {} contains {occurrences} times: {}",
                edit.statement, edit.from
            );
            let body = body.replace(edit.from, edit.to);
            let text = format!("{}\n{body}{after}", &file[..start]);
            *file = text;
            edited += 1;
        }
        assert_eq!(edited, 1, "statements: create {}", edit.statement);
        Self(files)
    }

    /// Applies the migrations, each in a transaction.
    pub async fn install(&self, session: &Session) {
        // A role belongs to the whole server, where other tests migrate at the same moment.
        session
            .run(
                "do $$ begin create role pgrelay_capture nologin noinherit;
                 exception when duplicate_object or unique_violation then null; end $$",
            )
            .await;
        for file in &self.0 {
            session.run(&format!("begin;\n{file};\ncommit")).await;
        }
    }
}
