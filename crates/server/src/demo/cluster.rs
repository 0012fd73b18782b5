//! The demo's own PostgreSQL server: made once, started for each run, gone with it.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::NoTls;

use super::{DemoError, account::Account, programs::Programs, state::State};
use crate::secret::Secret;

/// How long a start may take: recovery after a crash is slow on slow disks.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a fast shutdown may take before the server is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Time between two looks at a server that starts or stops.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// Another process may take the chosen port before the server does.
const PORT_TRIES: u32 = 3;
/// Of a failed program's output, this much is shown.
const OUTPUT_LINES_MAX: usize = 20;

/// A running server.
#[derive(Debug)]
pub(super) struct Cluster {
    child: Child,
    url: Secret,
}

impl Cluster {
    /// Starts a server on a free port of this machine, with the data in `state`.
    ///
    /// Must be awaited on a thread that lives as long as the process: the system stops the server
    /// when the thread that started it ends.
    pub(super) async fn start(
        programs: &Programs,
        account: &Account,
        state: &State,
        path: &str,
    ) -> Result<Self, DemoError> {
        let password = state.secret("password")?;
        let server = Server {
            programs,
            account,
            state,
            path,
        };
        let data = server.init(&password).await?;
        stop_leftover(&data).await;
        let mut tries = 1;
        loop {
            match server.launch(&data, &password).await {
                Err(DemoError::Program { output, .. })
                    if output.contains("Address already in use") && tries < PORT_TRIES =>
                {
                    tries += 1;
                }
                started => return started,
            }
        }
    }

    /// Connection URL of a superuser.
    pub(super) fn url(&self) -> &Secret {
        &self.url
    }

    /// Waits until the server has ended by itself.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Stops the server: open transactions are rolled back, clients are cut off.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = pid_of(&self.child) {
            signal(pid, Signal::INT);
        }
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            tracing::warn!("PostgreSQL is slow to stop and is killed");
        }
        // Dropping the child kills what still runs.
    }
}

/// What it takes to run the server's programs.
struct Server<'a> {
    programs: &'a Programs,
    account: &'a Account,
    state: &'a State,
    path: &'a str,
}

impl Server<'_> {
    async fn command(&self, program: &str) -> Command {
        self.account
            .command(&self.programs.bin.join(program), self.path)
            .await
    }

    /// The data folder, made by the first run with this major version.
    async fn init(&self, password: &Secret) -> Result<PathBuf, DemoError> {
        let folder = self.state.folder();
        let data = folder.join(format!("postgres-{}", self.programs.major));
        if data.join("PG_VERSION").exists() {
            return Ok(data);
        }
        tracing::info!(folder = %data.display(), "making a database");
        // Made aside and renamed: a run that is killed here leaves no half database.
        let aside = folder.join("postgres.new");
        let file = folder.join("initdb-password");
        let prepare = || {
            if aside.exists() {
                fs::remove_dir_all(&aside)?;
            }
            fs::create_dir(&aside)?;
            self.account.give(&aside)
        };
        prepare().map_err(DemoError::io(format!("create {}", aside.display())))?;
        self.state.write_private(&file, password.reveal())?;
        self.account
            .give(&file)
            .map_err(DemoError::io("hand over the password file"))?;
        let mut initdb = self.command("initdb").await;
        initdb
            .arg("--pgdata")
            .arg(&aside)
            .arg("--pwfile")
            .arg(&file);
        initdb.args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
        ]);
        initdb.args(["--no-locale", "--no-sync"]);
        let output = initdb.output().await.map_err(DemoError::io("run initdb"));
        fs::remove_file(&file).map_err(DemoError::io("remove the password file"))?;
        let output = output?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(failed("initdb", output.status, &text));
        }
        fs::rename(&aside, &data).map_err(DemoError::io(format!("create {}", data.display())))?;
        Ok(data)
    }

    async fn launch(&self, data: &Path, password: &Secret) -> Result<Cluster, DemoError> {
        let port = free_port().map_err(DemoError::io("find a free port"))?;
        let log = self.state.folder().join("postgres.log");
        let begin = || {
            let file = File::options()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (stdout, stderr) = begin().map_err(DemoError::io(format!("open {}", log.display())))?;
        let mut command = self.command("postgres").await;
        command.arg("-D").arg(data).arg("-p").arg(port.to_string());
        command.args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
        ]);
        command.args(["-c", "logging_collector=off", "-c", "timezone=UTC"]);
        command
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr));
        let child = command.spawn().map_err(DemoError::io("run postgres"))?;
        let url = format!(
            "postgres://postgres:{}@127.0.0.1:{port}/postgres",
            password.reveal()
        );
        let mut cluster = Cluster {
            child,
            url: Secret::new(url),
        };
        self.wait_ready(&mut cluster, &log).await?;
        self.state
            .write_private(&self.state.database_url_file(), cluster.url.reveal())?;
        Ok(cluster)
    }

    async fn wait_ready(&self, cluster: &mut Cluster, log: &Path) -> Result<(), DemoError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = cluster
                .child
                .try_wait()
                .map_err(DemoError::io("look at postgres"))?
            {
                let text = fs::read(log).unwrap_or_default();
                return Err(failed("postgres", status, &String::from_utf8_lossy(&text)));
            }
            if let Ok((client, connection)) =
                tokio_postgres::connect(cluster.url.reveal(), NoTls).await
            {
                drop((client, connection));
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
        Err(DemoError::NotReady(START_TIMEOUT))
    }
}

fn failed(program: &'static str, status: ExitStatus, output: &str) -> DemoError {
    let lines: Vec<_> = output.lines().collect();
    let output = lines[lines.len().saturating_sub(OUTPUT_LINES_MAX)..].join("\n");
    DemoError::Program {
        program,
        status: status.to_string(),
        output,
    }
}

/// A port that is free now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn pid_of(child: &Child) -> Option<Pid> {
    child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
}

fn signal(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, "PostgreSQL has ended already");
    }
}

/// Stops a server that a killed run left behind. The state's lock is ours, so nobody else uses it.
async fn stop_leftover(data: &Path) {
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else {
        return;
    };
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok())
        .and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    // The number may belong to another process by now.
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let ours = String::from_utf8_lossy(&line)
        .split('\0')
        .any(|argument| Path::new(argument) == data);
    if !ours {
        return;
    }
    tracing::info!("stopping the server that an earlier run left behind");
    signal(pid, Signal::INT);
    let deadline = Instant::now() + STOP_TIMEOUT;
    while test_kill_process(pid).is_ok() && Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
    }
}
