//! A PostgreSQL of the run's own, durable as in production, and SQL against it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use tokio::runtime;
use tokio_postgres::{Client, NoTls};

use crate::lab::{Lab, output, script};

/// A server that stops with this value.
#[derive(Debug)]
pub(crate) struct Postgres {
    scripts: PathBuf,
    folder: PathBuf,
    url: String,
}

impl Postgres {
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        // The server drops to another user, who has to get in.
        output(
            std::process::Command::new("chmod")
                .arg("755")
                .arg(&lab.work),
        )?;
        let folder = lab.work.join("pg");
        let url = output(
            script(&lab.root, "postgres")
                .args(["start", "15"])
                .arg(&folder),
        )?;
        let server = Self {
            scripts: lab.root.clone(),
            folder,
            url,
        };
        for setting in SETTINGS {
            server.execute(&format!("alter system set {setting}"))?;
        }
        server.execute("select pg_reload_conf()")?;
        Ok(server)
    }

    /// Where its database is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The folder of its programs.
    pub(crate) fn programs(&self) -> Result<PathBuf> {
        let path = std::fs::read_to_string(self.folder.join("bin"))?;
        Ok(path.trim().into())
    }

    /// Runs statements and forgets their results.
    pub(crate) fn execute(&self, sql: &str) -> Result<()> {
        run(&self.url, async |client| {
            Ok(client.batch_execute(sql).await?)
        })
        .with_context(|| format!("run {sql:.200}"))
    }
}

/// The price of a doorbell is paid at the flush, so there has to be one.
const SETTINGS: [&str; 4] = [
    "fsync = on",
    "full_page_writes = on",
    "max_wal_size = '4GB'",
    "checkpoint_timeout = '15min'",
];

impl Drop for Postgres {
    fn drop(&mut self) {
        let stopped = output(
            script(&self.scripts, "postgres")
                .arg("stop")
                .arg(&self.folder),
        );
        if let Err(error) = stopped {
            crate::report::say(&format!("PostgreSQL did not stop: {error:#}"));
        }
    }
}

/// Runs `work` on a connection of its own, on this thread alone.
pub(crate) fn run<T>(url: &str, work: impl AsyncFnOnce(&Client) -> Result<T>) -> Result<T> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::select! {
            biased;
            done = work(&client) => done,
            ended = connection => match ended {
                Ok(()) => bail!("the connection to PostgreSQL ended"),
                Err(error) => Err(error).context("the connection to PostgreSQL ended"),
            },
        }
    })
}
