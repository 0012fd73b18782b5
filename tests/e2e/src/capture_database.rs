//! A database of its own with schema `pgrelay` in it, and the log as a test wants to see it.

use std::path::Path;

use pgrelay_test_support::{DatabaseUrl, Role, Session, TestDatabase};

use crate::Listener;

/// A fresh database to which the files of the schema were applied.
#[derive(Debug)]
pub struct CaptureDatabase {
    database: TestDatabase,
    session: Session,
    needs: Vec<String>,
}

/// What a test looks at in a row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// `I`, `U`, `D` or `H`.
    pub op: String,
    /// The table, without its schema; empty for a hole in any table.
    pub table: String,
    /// Whether the images hold the key only.
    pub oversize: bool,
    /// The row after the change, as JSON text; empty where there is none.
    pub new: String,
    /// The row before the change, as JSON text; empty where there is none.
    pub old: String,
}

impl CaptureDatabase {
    /// On the shared server, as the role that this run of the tests is about.
    pub async fn create() -> Self {
        Self::install(TestDatabase::create().await).await
    }

    /// On the shared server, as a role of the test's choice.
    pub async fn create_as(role: Role) -> Self {
        Self::install(TestDatabase::create_as(role).await).await
    }

    /// On a server of the test's own, as superuser.
    pub async fn create_on(server: &DatabaseUrl) -> Self {
        Self::install(TestDatabase::create_on(server, Role::Superuser).await).await
    }

    /// Applies the schema to a database that the test has prepared.
    pub async fn install(database: TestDatabase) -> Self {
        let mut migration = Listener::connect(database.url()).await;
        for sql in files_of_the_schema() {
            migration
                .run(&format!("begin; {sql}; commit"))
                .await
                .unwrap_or_else(|error| panic!("the schema cannot be applied: {error:?}"));
        }
        let needs = migration
            .notices()
            .iter()
            .filter_map(|notice| notice.strip_prefix("pgrelay-needs: "))
            .map(String::from)
            .collect();
        let session = database.connect().await;
        Self {
            database,
            session,
            needs,
        }
    }

    /// Makes tables and captures them, whatever the role may do by itself.
    pub async fn capture(&self, definitions: &str, tables: &str) {
        self.session.run(definitions).await;
        self.session
            .run(&format!(
                "alter publication supabase_realtime add table {tables}"
            ))
            .await;
        let rest = self
            .session
            .rows("select name, action, error from pgrelay.sync() where action <> 'attached'")
            .await;
        assert!(rest.is_empty(), "not attached: {rest:?}");
    }

    /// The session of the role that installed the schema.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// One more session of that role.
    pub async fn another_session(&self) -> Session {
        self.database.connect().await
    }

    /// The role whose rights the triggers have.
    pub async fn definer(&self) -> String {
        self.session
            .value("select proowner::regrole from pg_proc where oid = 'pgrelay.capture()'::regprocedure")
            .await
    }

    /// The database underneath.
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// The statements that the migration announced as needing more rights.
    pub fn needs(&self) -> &[String] {
        &self.needs
    }

    /// The server's version, as in `150018`.
    pub async fn version(&self) -> u32 {
        let version = self
            .session
            .value("select current_setting('server_version_num')")
            .await;
        version.parse().unwrap()
    }

    /// What this role sees in the log, in the order of `seq`.
    pub async fn log(&self) -> Vec<LogRow> {
        let rows = self
            .session
            .rows(
                "select g.op, coalesce(c.relname, ''), g.oversize, coalesce(g.new_row, ''), coalesce(g.old_row, '')
                   from pgrelay.log g left join pg_class c on c.oid = g.relid order by g.seq",
            )
            .await;
        rows.into_iter()
            .map(|row| {
                let [op, table, oversize, new, old] = <[Option<String>; 5]>::try_from(row)
                    .unwrap()
                    .map(Option::unwrap);
                LogRow {
                    op,
                    table,
                    oversize: oversize == "t",
                    new,
                    old,
                }
            })
            .collect()
    }

    /// The log in short: operation and table of each row.
    pub async fn told(&self) -> Vec<String> {
        let rows = self.log().await;
        rows.iter()
            .map(|row| format!("{} {}", row.op, row.table).trim_end().to_owned())
            .collect()
    }

    /// How many holes were counted outside of transactions.
    pub async fn holes_counted(&self) -> String {
        self.session
            .value("select last_value from pgrelay.log_holes")
            .await
    }

    /// The SQLSTATE with which a statement fails.
    pub async fn refusal(session: &Session, sql: &str) -> String {
        match session.batch_execute(sql).await {
            Ok(()) => panic!("this must fail: {sql}"),
            Err(error) => error.code().unwrap().code().to_owned(),
        }
    }
}

/// The files of `sql/pgrelay`, in the order in which they are applied.
pub fn files_of_the_schema() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql/pgrelay");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect()
}
