//! What every scenario needs: places, processes, and how large a run is.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock;

/// The processor that a measured server has for itself; the generator and PostgreSQL have the other one.
const SERVER_CPU: &str = "0";
const GENERATOR_CPU: &str = "1";
const BOTH_CPUS: &str = "0-1";
/// How long a process may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a process may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the server's processor alone, so that its cost is a share of one core.
    Server,
    /// Beside the generator.
    Generator,
    /// Wherever the kernel likes.
    Anywhere,
}

impl Place {
    fn processors(self) -> &'static str {
        match self {
            Self::Server => SERVER_CPU,
            Self::Generator => GENERATOR_CPU,
            Self::Anywhere => BOTH_CPUS,
        }
    }
}

/// The places of a run.
#[derive(Debug)]
pub(crate) struct Lab {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Logs and data of this run.
    pub(crate) work: PathBuf,
    /// A short run: sizes are smaller, everything is done once, and only the floor and Bun stand beside us.
    pub(crate) quick: bool,
    /// Divides the sizes further, for trying out the harness; figures of such a run mean nothing.
    pub(crate) tiny: bool,
}

impl Lab {
    pub(crate) fn open(quick: bool, tiny: bool) -> Result<Self> {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let work = PathBuf::from(format!("/tmp/pgrelay-bench.{}", std::process::id()));
        fs::create_dir(&work).with_context(|| format!("create {}", work.display()))?;
        Ok(Self {
            root: root.canonicalize()?,
            work,
            quick,
            tiny,
        })
    }

    /// The size for this run.
    pub(crate) fn size(&self, full: usize, quick: usize) -> usize {
        match (self.quick, self.tiny) {
            (false, _) => full,
            (true, false) => quick,
            (true, true) => (quick / 20).max(10),
        }
    }

    /// How long something is measured.
    pub(crate) fn seconds(&self, full: u64, quick: u64) -> u64 {
        match (self.quick, self.tiny) {
            (false, _) => full,
            (true, false) => quick,
            (true, true) => 1,
        }
    }

    /// How often everything is done.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { 5 }
    }

    /// The relay's binary, of the same build as this one.
    pub(crate) fn pgrelay() -> Result<PathBuf> {
        let binary = std::env::current_exe()?.with_file_name("pgrelay");
        ensure!(
            binary.exists(),
            "{} is not built; run: make bench",
            binary.display()
        );
        Ok(binary)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What cannot be removed lies in the folder for temporary files.
        drop(fs::remove_dir_all(&self.work));
    }
}

/// A child process that ends with this value, and with the generator whatever happens.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` there; `name` is that of its log.
    pub(crate) fn start(lab: &Lab, place: Place, name: &str, command: &Command) -> Result<Self> {
        let log = lab.work.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "KILL", "taskset", "-c", place.processors()]);
        wrapped.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                wrapped.env(key, value);
            }
        }
        let child = wrapped
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("run {wrapped:?}"))?;
        Ok(Self { child, log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready`, while the process lives.
    pub(crate) fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = clock::now() + u64::try_from(PATIENCE.as_nanos())?;
        while !ready() {
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("{what}: the process ended with {status}:\n{}", log());
            }
            ensure!(
                clock::now() < deadline,
                "{what}: not after {PATIENCE:?}:\n{}",
                log()
            );
            clock::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs no signal.
        let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = clock::now() + 10 * clock::SECOND;
        while let Ok(None) = self.child.try_wait() {
            if clock::now() > deadline {
                drop(self.child.kill());
                drop(self.child.wait());
                return;
            }
            clock::sleep(Duration::from_millis(5));
        }
    }
}

/// An address that is free now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Whether somebody accepts connections there.
pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// The body of `GET path`, where the answer is 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200")?;
    Some(body.into())
}

/// What a command prints; it must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

/// A script of the repository.
pub(crate) fn script(root: &Path, name: &str) -> Command {
    Command::new(root.join("scripts").join(name))
}

/// Keeps the generator off the server's processor, or lets it run anywhere.
pub(crate) fn settle_generator(place: Place) -> Result<()> {
    let mut cpus = rustix::thread::CpuSet::new();
    for cpu in place.processors().split('-') {
        cpus.set(cpu.parse()?);
    }
    rustix::thread::sched_setaffinity(None, &cpus).context("settle on a processor")?;
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)).context("sleep precisely")
}
