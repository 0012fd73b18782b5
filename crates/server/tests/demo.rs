//! `pgrelay demo` as a person meets it: the real binary, a PostgreSQL of its own, the printed lines.
//! Needs PostgreSQL's programs on this machine, as the demo itself does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
    time::{sleep, timeout},
};

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(60);

struct Demo {
    child: Child,
    url: String,
    service_key: String,
    client_token: String,
    operator_token: String,
    tail_line: String,
}

fn pgrelay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgrelay"));
    command
        .env_clear()
        .env("PATH", std::env!("PATH"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A folder that PostgreSQL's user can enter.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The value behind `label` in the lines the demo prints.
fn value(lines: &[String], label: &str) -> String {
    let line = lines
        .iter()
        .find(|line| line.trim_start().starts_with(label));
    line.unwrap_or_else(|| panic!("{label} in {lines:?}"))
        .split_whitespace()
        .last()
        .unwrap()
        .to_owned()
}

/// The token in the link on a line.
fn link_token(lines: &[String], name: &str) -> String {
    let link = value(lines, name);
    link.split_once("#token=").unwrap().1.to_owned()
}

async fn until_last(lines: &mut Lines<BufReader<ChildStdout>>) -> Vec<String> {
    let mut read = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let last = line.starts_with("Stop with");
        read.push(line);
        if last {
            return read;
        }
    }
    panic!("the demo ended: {read:?}");
}

impl Demo {
    async fn start(folder: &Path) -> Self {
        let mut child = pgrelay()
            .args(["demo", "--listen", "127.0.0.1:0", "--dir"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines = timeout(DEADLINE, until_last(&mut lines))
            .await
            .expect("the demo to say where it is");
        let tail_line = lines
            .iter()
            .find(|line| line.contains("' tail "))
            .unwrap()
            .trim()
            .to_owned();
        Self {
            child,
            url: value(&lines, "url"),
            service_key: value(&lines, "service key"),
            client_token: link_token(&lines, "client "),
            operator_token: link_token(&lines, "operator "),
            tail_line,
        }
    }

    async fn wait_ready(&self) {
        let ready = async {
            while !self.get("/readyz", "").await.starts_with("HTTP/1.1 200") {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, ready)
            .await
            .expect("the demo to be ready");
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        self.request(&format!("GET {path} HTTP/1.1\r\n{headers}"), "")
            .await
    }

    /// Sends a request; the whole answer.
    async fn request(&self, head: &str, body: &str) -> String {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let text =
            format!("{head}host: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// What the printed curl line sends.
    async fn send(&self, token: &str, booking: &str, content: &str) -> String {
        let head = format!(
            "POST /api/messages HTTP/1.1\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
        );
        self.request(
            &head,
            &format!(r#"{{"bookingId":"{booking}","content":"{content}"}}"#),
        )
        .await
    }

    /// The printed tail line, for one event: its lines.
    fn tail(&self) -> (Child, Lines<BufReader<ChildStderr>>) {
        let words: Vec<_> = self.tail_line.split(' ').skip(2).collect();
        let mut child = pgrelay()
            .arg("tail")
            .args(&words)
            .args(["--count", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let notes = BufReader::new(child.stderr.take().unwrap()).lines();
        (child, notes)
    }

    async fn stop(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        timeout(DEADLINE, self.child.wait())
            .await
            .expect("the demo to stop")
            .unwrap()
    }
}

/// Whether a server has its data below `folder` and runs.
fn server_runs(folder: &Path) -> bool {
    let data = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    data.filter_map(|data| fs::read_to_string(data.join("postmaster.pid")).ok())
        .filter_map(|text| Pid::from_raw(text.lines().next()?.parse().ok()?))
        .any(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// The booking of the printed curl line; the tail line follows it by its id.
const BOOKING: &str = "REQ1759286674249";

#[tokio::test]
async fn the_printed_lines_work_and_a_signal_ends_it_all() {
    let folder = folder();
    let demo = Demo::start(folder.path()).await;
    demo.wait_ready().await;
    let (mut tail, mut notes) = demo.tail();
    let subscribed = timeout(DEADLINE, notes.next_line())
        .await
        .expect("the tail to be live");
    assert!(subscribed.unwrap().unwrap().contains("Subscribed"));

    let sent = demo.send(&demo.client_token, BOOKING, "Hello").await;
    assert!(sent.starts_with("HTTP/1.1 201"), "{sent}");
    let inbox = format!(
        "GET /api/bookings HTTP/1.1\r\nauthorization: Bearer {}\r\n",
        demo.operator_token
    );
    let inbox = demo.request(&inbox, "").await;
    assert!(inbox.contains(BOOKING), "{inbox}");

    let mut event = String::new();
    let read = timeout(
        DEADLINE,
        tail.stdout.as_mut().unwrap().read_to_string(&mut event),
    );
    read.await.expect("the message to arrive").unwrap();
    assert!(event.contains(r#""content":"Hello""#), "{event}");
    assert!(tail.wait().await.unwrap().success());

    assert!(server_runs(folder.path()));
    assert!(demo.stop(Signal::TERM).await.success());
    assert!(!server_runs(folder.path()));
}

#[tokio::test]
async fn data_and_keys_outlive_a_run_even_a_killed_one() {
    let folder = folder();
    let first = Demo::start(folder.path()).await;
    first.wait_ready().await;
    let (service_key, client_token) = (first.service_key.clone(), first.client_token.clone());
    first.stop(Signal::KILL).await;

    let second = Demo::start(folder.path()).await;
    second.wait_ready().await;
    let sent = second.send(&client_token, BOOKING, "Again").await;
    assert!(sent.starts_with("HTTP/1.1 201"), "{sent}");
    let page = second.get("/", "").await;
    assert!(page.contains("public.messages") && page.contains(&second.client_token));
    // A key that is accepted gets as far as being told that this is no WebSocket.
    let socket = second
        .get(&format!("/socket/websocket?apikey={service_key}"), "")
        .await;
    assert!(socket.starts_with("HTTP/1.1 400"), "{socket}");
    assert!(second.stop(Signal::INT).await.success());
    assert!(!server_runs(folder.path()));
}
