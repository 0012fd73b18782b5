//! A child process that is stopped and waited for, and dies with the test whatever happens.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::wait::wait_for;

/// How long a child may take to stop before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command`, which [`mortal`] made.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")),
        )
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its end, where it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.0), signal).unwrap();
        }
    }

    /// Waits for its end while the test's other tasks go on.
    pub(crate) async fn end(&mut self, what: &str) -> ExitStatus {
        wait_for(what, async || self.ended()).await
    }

    /// Sends a signal and waits for its end without a runtime, as a destructor must; `None` when it had to be killed.
    #[expect(
        clippy::disallowed_methods,
        reason = "a destructor cannot await; it looks at a condition until a deadline"
    )]
    pub(crate) fn stop(&mut self, signal: Signal) -> Option<ExitStatus> {
        let deadline = Instant::now() + STOP_DEADLINE;
        self.signal(signal);
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.signal(Signal::KILL);
        self.0.wait().unwrap();
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // Reaped here or by nobody.
        drop(self.0.wait());
    }
}

/// A command whose process gets `signal` when the thread that spawns it ends: no leftovers, even if the test is killed.
/// What runs, and more options of `setpriv` before it, are its arguments.
pub(crate) fn mortal(signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]);
    command
}
