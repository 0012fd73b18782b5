//! The real binary as a child process, with its log read and judged.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, PipeReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::json;

use crate::http::Request;
use crate::process::{Process, mortal};
use crate::wait::wait_for;
use crate::{DatabaseUrl, SECRET, TestDatabase, token};

/// `pgrelay serve` on a port of its own.
///
/// When it is dropped it is asked to stop (SIGTERM), and the test fails if it does not end well or if it ever logged a WARN or
/// an ERROR that the test did not announce with [`RelayBuilder::allow`].
#[derive(Debug)]
pub struct Relay {
    process: Process,
    log: Log,
    allowed: Vec<String>,
    address: SocketAddr,
    /// Whether an end with success is still owed.
    judged: bool,
}

/// What a relay is started with.
#[derive(Debug, Clone)]
pub struct RelayBuilder {
    program: String,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    allowed: Vec<String>,
}

impl Relay {
    /// A relay on `database` that migrates it first, ready when this returns.
    pub async fn start(database: &TestDatabase) -> Self {
        Self::builder(database.url()).start().await
    }

    /// A relay with other settings.
    pub fn builder(database: &DatabaseUrl) -> RelayBuilder {
        let settings = [
            ("DATABASE_URL", database.to_string().as_str()),
            ("PGRELAY_LISTEN", "127.0.0.1:0"),
            ("PGRELAY_JWT_SECRET", SECRET),
            ("PGRELAY_AUTO_MIGRATE", "true"),
            ("PGRELAY_LOG", "info"),
            ("NO_COLOR", "1"),
            ("RUST_BACKTRACE", "1"),
        ]
        .map(|(key, value)| (String::from(key), String::from(value)));
        RelayBuilder {
            program: "pgrelay".into(),
            arguments: vec!["serve".into()],
            environment: settings.into(),
            allowed: Vec::new(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>` with this path behind it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The process id, for tests that look at the process from outside.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A key with role `anon`.
    pub fn anon_key(&self) -> String {
        token(&json!({"role": "anon"}))
    }

    /// A key with role `service_role`.
    pub fn service_key(&self) -> String {
        token(&json!({"role": "service_role"}))
    }

    /// One value of `/metrics`: the sum of the samples of this name whose labels contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = Request::get(&self.url("/metrics")).send().await.text();
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(sample, _)| {
                let rest = sample.strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                    && sample.contains(labels)
            })
            .filter_map(|(_, value)| value.parse::<f64>().ok())
            .sum()
    }

    /// Waits for `/readyz` to answer with this status.
    pub async fn wait_ready(&self, status: u16) {
        let url = self.url("/readyz");
        wait_for(&format!("{url} to answer {status}"), async || {
            let response = Request::get(&url).try_send().await.ok()?;
            (response.status == status).then_some(())
        })
        .await;
    }

    /// What it has logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits for a log line that contains `text`.
    pub async fn wait_log(&self, text: &str) -> String {
        self.log.wait(text).await
    }

    /// Asks it to stop and waits until it has; its log is judged here.
    pub async fn stop(mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        let status = self.process.end("the relay to stop").await;
        self.judged = true;
        self.log.judge(&self.allowed);
        status
    }

    /// Kills it, as a crash would; what it was doing is left as it was.
    pub async fn kill(mut self) {
        self.judged = true;
        self.process.signal(Signal::KILL);
        self.process.end("the killed relay to end").await;
    }

    /// Stops the process in its tracks; it keeps its connections.
    pub fn freeze(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&mut self) {
        self.process.signal(Signal::CONT);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.judged {
            return;
        }
        self.process.signal(Signal::CONT);
        let status = self.process.stop(Signal::TERM);
        if std::thread::panicking() {
            eprintln!("the relay said:\n{}", self.log.lines().join("\n"));
            return;
        }
        self.log.judge(&self.allowed);
        assert!(
            status.is_some_and(|status| status.success()),
            "the relay was asked to stop and ended with {status:?} (none: it had to be killed):\n{}",
            self.log.lines().join("\n")
        );
    }
}

impl RelayBuilder {
    /// Sets an environment variable.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.environment.insert(key.into(), value.into());
        self
    }

    /// Runs another program of the same build.
    #[must_use]
    pub fn program(mut self, name: &str) -> Self {
        self.program = name.into();
        self
    }

    /// Unsets an environment variable.
    #[must_use]
    pub fn unset(mut self, key: &str) -> Self {
        self.environment.remove(key);
        self
    }

    /// Runs another long-lived command instead of `serve`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&argument| argument.into()).collect();
        self
    }

    /// Announces a WARN or ERROR line: one that contains `text` is expected.
    #[must_use]
    pub fn allow(mut self, text: &str) -> Self {
        self.allowed.push(text.into());
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Relay {
        let relay = self.launch().await;
        relay.wait_ready(200).await;
        relay
    }

    /// Starts it and waits until it listens; it need not be ready.
    pub async fn launch(self) -> Relay {
        let (mut process, log) = self.spawn(&self.arguments);
        let address = wait_for("the relay to listen", async || {
            if let Some(status) = process.ended() {
                panic!("the relay ended with {status}:\n{}", log.lines().join("\n"));
            }
            log.lines().iter().find_map(|line| listening_at(line))
        })
        .await;
        Relay {
            process,
            log,
            allowed: self.allowed,
            address,
            judged: false,
        }
    }

    /// Runs `pgrelay` with these arguments and these settings to its end: its status and all it printed.
    pub async fn run(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let (mut process, log) = self.spawn(arguments);
        let status = process.end(&format!("pgrelay {arguments:?}")).await;
        log.wait_end().await;
        (status, log.lines().join("\n"))
    }

    fn spawn(&self, arguments: &[impl AsRef<OsStr>]) -> (Process, Log) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = mortal("KILL");
        command
            .arg(binary(&self.program))
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(std::process::Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        // The command goes out of scope here, so that the log ends when the child does.
        (Process::spawn(&mut command), Log::read(reader))
    }
}

/// The address in a line such as `... listening ... 127.0.0.1:40123 ...` or `http://127.0.0.1:40123`.
fn listening_at(line: &str) -> Option<SocketAddr> {
    const HOST: &str = "127.0.0.1:";
    let start = line.find("listening").or_else(|| line.find("http://"))?;
    let address = &line[start + line[start..].find(HOST)?..];
    let port = address[HOST.len()..]
        .split(|c: char| !c.is_ascii_digit())
        .next()?;
    format!("{HOST}{port}").parse().ok()
}

/// Lines of a child, collected by a thread so that nothing the test does can block the child.
#[derive(Debug, Clone)]
struct Log(Arc<Mutex<Collected>>);

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn read(pipe: PipeReader) -> Self {
        let log = Self(Arc::default());
        let collected = Arc::clone(&log.0);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                collected.lock().unwrap().lines.push(line);
            }
            collected.lock().unwrap().ended = true;
        });
        log
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().lines.clone()
    }

    async fn wait(&self, text: &str) -> String {
        wait_for(&format!("the log to say {text:?}"), async || {
            self.lines().into_iter().find(|line| line.contains(text))
        })
        .await
    }

    async fn wait_end(&self) {
        wait_for("the log to end", async || {
            self.0.lock().unwrap().ended.then_some(())
        })
        .await;
    }

    fn judge(&self, allowed: &[String]) {
        let unexpected: Vec<_> = self
            .lines()
            .into_iter()
            .filter(|line| is_alarm(line) && !allowed.iter().any(|text| line.contains(text)))
            .collect();
        assert!(
            unexpected.is_empty(),
            "the relay logged what the test did not expect:\n{}",
            unexpected.join("\n")
        );
    }
}

fn is_alarm(line: &str) -> bool {
    line.contains("panicked at")
        || line
            .split_whitespace()
            .take(3)
            .any(|word| word == "WARN" || word == "ERROR")
}

/// The binary beside this test or program, of the same build.
fn binary(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let mut folders = here.ancestors().skip(1).take(2);
    let binary = folders
        .find_map(|folder| Some(folder.join(name)).filter(|binary| binary.is_file()))
        .unwrap_or_else(|| panic!("{name} is not built; run: {}", cure(name)));
    if let Some(source) = newer_source(&binary) {
        panic!("{name} is older than {source}; run: {}", cure(name));
    }
    binary
}

/// How a program is built.
fn cure(name: &str) -> &'static str {
    match name {
        "pgrelay" => "cargo build --workspace --all-targets",
        _ => "scripts/broken-build",
    }
}

/// A source file, by cargo's own list, that changed after the binary was built.
fn newer_source(binary: &Path) -> Option<String> {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let built = modified(binary)?;
    let list = std::fs::read_to_string(binary.with_extension("d")).ok()?;
    let (_, sources) = list.split_once(": ")?;
    sources
        .split_whitespace()
        .find(|source| modified(Path::new(source)).is_some_and(|time| time > built))
        .map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address_in_the_log() {
        let line = "2026-01-01T00:00:00Z  INFO pgrelay: listening address=127.0.0.1:40123 shards=2";
        assert_eq!(listening_at(line).unwrap().port(), 40123);
        assert_eq!(
            listening_at("open http://127.0.0.1:4000/ in a browser")
                .unwrap()
                .port(),
            4000
        );
        assert_eq!(listening_at("connected to 127.0.0.1:5432"), None);
    }

    #[test]
    fn only_levels_and_panics_are_alarms() {
        assert!(is_alarm(
            "2026-01-01T00:00:00Z  WARN capture: lost the connection"
        ));
        assert!(is_alarm("2026-01-01T00:00:00Z ERROR capture: gave up"));
        assert!(is_alarm("thread 'shard-0' panicked at src/lib.rs:1:1:"));
        assert!(!is_alarm(
            "2026-01-01T00:00:00Z  INFO capture: no WARN in here"
        ));
    }
}
