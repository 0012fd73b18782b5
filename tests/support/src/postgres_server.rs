//! A PostgreSQL server of the test's own: with settings of its own, with TLS, or to be stopped and killed.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use uuid::Uuid;

use crate::database::server_url;
use crate::process::{Process, mortal};
use crate::wait::wait_for;
use crate::{Certificates, DatabaseUrl, Session};

/// The user `nobody` and its group, which runs servers when the test runs as root.
const NOBODY: u32 = 65534;

/// A server made for one test and removed with it.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    certificates: Option<Certificates>,
    process: Option<Process>,
}

/// What a server is started with.
#[derive(Debug, Default)]
pub struct PostgresServerBuilder {
    settings: String,
    tls: bool,
}

impl PostgresServer {
    /// A server with settings of the test's own.
    pub fn builder() -> PostgresServerBuilder {
        PostgresServerBuilder::default()
    }

    /// The superuser's URL. It works without TLS even where everybody else needs it.
    pub fn url(&self) -> DatabaseUrl {
        DatabaseUrl::parse(&format!("postgresql://postgres@{}/postgres", self.address))
    }

    /// The certificates of a server with TLS.
    ///
    /// # Panics
    /// When it has none.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("a server with TLS")
    }

    /// Starts it again after [`Self::stop`] or [`Self::crash`], on the same port.
    pub async fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let mut command = unprivileged(mortal("INT"));
        command
            .arg(self.programs.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut process = Process::spawn(&mut command);
        let status_file = self.data().join("postmaster.pid");
        wait_for("PostgreSQL to start", async || {
            if let Some(status) = process.ended() {
                let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
                panic!("PostgreSQL ended with {status}:\n{log}");
            }
            let text = std::fs::read_to_string(&status_file).ok()?;
            let state = text.lines().nth(7)?.trim();
            (state == "ready" || state == "standby").then_some(())
        })
        .await;
        self.process = Some(process);
    }

    /// Stops it in good order, ending every connection.
    pub async fn stop(&mut self) {
        self.end(Signal::INT).await;
    }

    /// Ends it without a checkpoint, as a crash would: what was committed is recovered at the next start.
    pub async fn crash(&mut self) {
        self.end(Signal::QUIT).await;
    }

    /// Kills it. Its children notice and end by themselves, which [`Self::start`] may have to wait for.
    pub async fn kill(&mut self) {
        self.end(Signal::KILL).await;
        let status_file = self.data().join("postmaster.pid");
        let text = std::fs::read_to_string(&status_file).unwrap();
        // The key and id of the shared memory, which lives as long as somebody uses it.
        let id = text
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1));
        let id = id.map(String::from).unwrap_or_default();
        wait_for("the killed server's children to end", async || {
            let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
            let users = segments.lines().find_map(|line| {
                let mut fields = line.split_whitespace();
                (fields.nth(1)? == id).then(|| fields.nth(4).map(String::from))?
            });
            users.is_none_or(|users| users == "0").then_some(())
        })
        .await;
    }

    /// A standby that streams from this server, running.
    pub async fn standby(&self) -> Self {
        let mut standby = Self {
            programs: self.programs.clone(),
            folder: new_folder(),
            address: free_address(),
            certificates: None,
            process: None,
        };
        let mut command = unprivileged(Command::new("setpriv"));
        command
            .arg(self.programs.join("pg_basebackup"))
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .args(["--wal-method=stream", "--dbname", &self.url().to_string()])
            .arg("--pgdata")
            .arg(standby.data())
            .current_dir("/");
        let mut backup = Process::spawn(&mut command);
        let status = backup.end("the base backup").await;
        assert!(status.success(), "pg_basebackup ended with {status}");
        let port = format!("port = {}\n", standby.address.port());
        append(&standby.data().join("postgresql.conf"), &port);
        standby.start().await;
        standby
    }

    /// A copy of this server, which must be stopped: the same data at another address, to be started.
    ///
    /// # Panics
    /// When it runs, or speaks TLS.
    pub fn copy(&self) -> Self {
        assert!(
            self.process.is_none(),
            "a server is copied while it is stopped"
        );
        assert!(self.certificates.is_none(), "certificates are not copied");
        let copy = Self {
            programs: self.programs.clone(),
            folder: new_folder(),
            address: free_address(),
            certificates: None,
            process: None,
        };
        let output = Command::new("cp")
            .args(["-a", "--"])
            .arg(self.data())
            .arg(copy.data())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "cp: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let port = format!("port = {}\n", copy.address.port());
        append(&copy.data().join("postgresql.conf"), &port);
        copy
    }

    /// Whether it runs, as far as this value knows.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// A connection as superuser, without TLS.
    pub async fn connect(&self) -> Session {
        Session::connect(&self.url()).await
    }

    async fn end(&mut self, signal: Signal) {
        let mut process = self.process.take().expect("a server that runs");
        process.signal(signal);
        process.end("PostgreSQL to end").await;
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::QUIT);
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("{} stays: {error}", self.folder.display());
        }
    }
}

impl PostgresServerBuilder {
    /// A line of `postgresql.conf`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        writeln!(self.settings, "{name} = '{value}'").unwrap();
        self
    }

    /// Speaks TLS, and refuses everybody but the superuser who does not. [`Certificates::CLIENT`] must show a certificate.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Makes the server and starts it. Its programs are those of the server of `PGRELAY_TEST_DATABASE_URL`.
    pub async fn start(self) -> PostgresServer {
        let mut server = PostgresServer {
            programs: programs().await,
            address: free_address(),
            certificates: None,
            process: None,
            folder: new_folder(),
        };
        initialise(&server.programs, &server.data());
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\nmax_connections = 200\n\
             timezone = 'UTC'\n{}",
            server.address.port(),
            self.settings
        );
        if self.tls {
            server.certificates = Some(use_tls(&server, &mut settings));
        }
        append(&server.data().join("postgresql.conf"), &settings);
        server.start().await;
        server
    }
}

/// Certificates beside the data, the settings that use them, and the rules who needs them.
fn use_tls(server: &PostgresServer, settings: &mut String) -> Certificates {
    let folder = server.folder.join("tls");
    let certificates = Certificates::make(&folder);
    give_away(&folder, 0o755);
    let (certificate, key) = certificates.server();
    give_away(&key, 0o600);
    let authority = certificates.authority();
    for (name, value) in [
        ("ssl_cert_file", &certificate),
        ("ssl_key_file", &key),
        ("ssl_ca_file", &authority),
    ] {
        writeln!(settings, "{name} = '{}'", value.display()).unwrap();
    }
    settings.push_str("ssl = on\n");
    let rules = server.data().join("pg_hba.conf");
    let text = format!(
        "host all postgres 127.0.0.1/32 trust\n\
         hostssl all {} 127.0.0.1/32 cert\n\
         hostssl all all 127.0.0.1/32 trust\n",
        Certificates::CLIENT
    );
    std::fs::write(&rules, text).unwrap();
    certificates
}

/// A folder for a server and its log.
fn new_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pg-{}", Uuid::new_v4().simple()));
    std::fs::create_dir(&folder).unwrap();
    give_away(&folder, 0o755);
    folder
}

fn initialise(programs: &Path, data: &Path) {
    let output = unprivileged(Command::new("setpriv"))
        .arg(programs.join("initdb"))
        .args(["-U", "postgres", "--auth=trust", "-E", "UTF8"])
        .args(["--locale=C.UTF-8", "--no-sync", "-D"])
        .arg(data)
        .current_dir("/")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Where the shared server's programs are, asked of itself.
async fn programs() -> PathBuf {
    let url = server_url();
    let folder = Session::connect(&url)
        .await
        .value("select setting from pg_config() where name = 'BINDIR'")
        .await;
    let folder = PathBuf::from(folder);
    assert!(
        folder.join("initdb").exists(),
        "this test starts a PostgreSQL of its own and needs {}: use a server on this machine (scripts/postgres)",
        folder.display()
    );
    folder
}

/// `setpriv` told to leave root where the test is root; the program and its arguments come next.
fn unprivileged(mut setpriv: Command) -> Command {
    if is_root() {
        setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    } else {
        setpriv.arg("--no-new-privs");
    }
    setpriv
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Hands a file to the user who runs the server.
fn give_away(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn append(file: &Path, text: &str) {
    let old = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, old + text).unwrap();
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
