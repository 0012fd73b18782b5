//! Every task and thread of the process, by name.
//!
//! Nothing in the workspace spawns by itself: `relay` and `capture` expose futures, and the
//! composition root hands them to [`Tasks`], which is passed on as a value. Tasks belong to a
//! [`Group`]; groups are stopped one after the other, from the edge inward (`shutdown.rs`).

use std::{
    collections::BTreeMap,
    fmt, io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::Instrument as _;

use crate::chain::Chain;

/// What stops together. The order of the variants is the order of stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// What lets new clients in.
    Accept,
    /// HTTP connections and what serves one client. Ending is normal for these.
    Session,
    /// What reads the database.
    Capture,
    /// The threads that own sockets.
    Shard,
}

impl Group {
    /// All groups, in the order of stopping.
    pub const ALL: [Self; 4] = [Self::Accept, Self::Session, Self::Capture, Self::Shard];

    /// Whether the process cannot go on without one of these.
    fn is_critical(self) -> bool {
        match self {
            Self::Accept | Self::Capture | Self::Shard => true,
            Self::Session => false,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Accept => 0,
            Self::Session => 1,
            Self::Capture => 2,
            Self::Shard => 3,
        }
    }
}

/// Why a task ended with an error. Its text is for the log.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// A critical task ended that should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Name of the task.
    pub task: String,
    /// What happened to it.
    pub cause: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} {}", self.task, self.cause)
    }
}

impl std::error::Error for Failure {}

/// Spawns tasks and knows those that run. Cheap to clone.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    groups: [Members; 4],
    failure: watch::Sender<Option<Failure>>,
}

struct Members {
    stop: CancellationToken,
    tracker: TaskTracker,
    /// Names and how many run under each. Locked for one map update per task, never across I/O.
    names: Mutex<BTreeMap<String, usize>>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(Group::ALL.map(|group| (group, self.running(group))))
            .finish()
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        let root = CancellationToken::new();
        let members = || Members {
            stop: root.child_token(),
            tracker: TaskTracker::new(),
            names: Mutex::default(),
        };
        let groups = [members(), members(), members(), members()];
        Self(Arc::new(Inner {
            groups,
            failure: watch::Sender::new(None),
        }))
    }

    fn members(&self, group: Group) -> &Members {
        &self.0.groups[group.index()]
    }

    /// Cancelled when `group` must stop.
    pub fn stop_token(&self, group: Group) -> CancellationToken {
        self.members(group).stop.clone()
    }

    /// Runs `future` on the current runtime under `name`, which is also its span. If `group` is a
    /// critical one, an end before its stop is a [`Failure`]; a panic is logged in any case.
    pub fn spawn<F>(&self, group: Group, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let running = Running::new(self, group, name.to_owned());
        let span = tracing::info_span!("task", name);
        let work = async move {
            let ended = AssertUnwindSafe(future).catch_unwind().await;
            running.end(ended);
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that spawns"
        )]
        drop(tokio::spawn(work.instrument(span)));
    }

    /// Runs the future that `work` makes on a thread and a single-threaded runtime of its own.
    ///
    /// # Errors
    /// If the system gives no thread or no runtime.
    pub fn spawn_thread<W, F>(&self, group: Group, name: String, work: W) -> io::Result<()>
    where
        W: FnOnce(CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let stop = self.stop_token(group);
        let running = Running::new(self, group, name.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let span = tracing::info_span!("task", name);
                let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    runtime.block_on(work(stop).instrument(span));
                }));
                running.end(ended.map(Ok));
            })?;
        Ok(())
    }

    /// Waits for the first failure of a critical task.
    pub async fn failed(&self) -> Failure {
        let mut failure = self.0.failure.subscribe();
        match failure
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|failure| failure.clone())
        {
            Some(failure) => failure,
            // The sender lives in `self`; there is nothing to wait for without it.
            None => std::future::pending().await,
        }
    }

    /// Waits until no task of `group` runs.
    pub async fn wait(&self, group: Group) {
        let tracker = &self.members(group).tracker;
        tracker.close();
        tracker.wait().await;
        tracker.reopen();
    }

    /// Names and numbers of what runs in `group`.
    pub fn running(&self, group: Group) -> BTreeMap<String, usize> {
        self.members(group)
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Counts one task for as long as it runs.
struct Running {
    tasks: Tasks,
    group: Group,
    name: String,
    _tracked: TaskTrackerToken,
}

impl Running {
    fn new(tasks: &Tasks, group: Group, name: String) -> Self {
        let members = tasks.members(group);
        let mut names = members.names.lock().unwrap_or_else(PoisonError::into_inner);
        *names.entry(name.clone()).or_default() += 1;
        drop(names);
        Self {
            tasks: tasks.clone(),
            group,
            name,
            _tracked: members.tracker.token(),
        }
    }

    fn end(self, ended: Result<Result<(), TaskError>, Box<dyn std::any::Any + Send>>) {
        let name = &self.name;
        let cause = match ended {
            Ok(Ok(())) => "ended".to_owned(),
            Ok(Err(error)) => {
                tracing::error!(name, error = %Chain(&*error), "task failed");
                format!("failed: {}", Chain(&*error))
            }
            Err(panic) => {
                let message = panic_message(&*panic);
                tracing::error!(name, message, "task panicked");
                format!("panicked: {message}")
            }
        };
        let expected = self.tasks.members(self.group).stop.is_cancelled();
        if self.group.is_critical() && !expected {
            self.tasks.0.failure.send_if_modified(|failure| {
                let first = failure.is_none();
                failure.get_or_insert(Failure {
                    task: name.clone(),
                    cause,
                });
                first
            });
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let members = self.tasks.members(self.group);
        let mut names = members.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = names.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                names.remove(&self.name);
            }
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_early_end_of_a_critical_task_is_a_failure() {
        let tasks = Tasks::new();
        tasks.spawn(Group::Capture, "capture", async {
            Err("out of reach".into())
        });
        let failure = tasks.failed().await;
        assert_eq!(failure.to_string(), "task capture failed: out of reach");
    }

    #[tokio::test]
    async fn a_panic_on_a_shard_thread_is_a_failure() {
        let tasks = Tasks::new();
        tasks
            .spawn_thread(Group::Shard, "shard-0".to_owned(), |_| async {
                panic!("broken")
            })
            .unwrap();
        assert_eq!(
            tasks.failed().await.to_string(),
            "task shard-0 panicked: broken"
        );
    }

    #[tokio::test]
    async fn sessions_may_end_and_even_panic() {
        let tasks = Tasks::new();
        tasks.spawn(Group::Session, "request", async { Ok(()) });
        tasks.spawn(Group::Session, "request", async {
            panic!("one client's trouble")
        });
        tasks.wait(Group::Session).await;
        assert!(tasks.failed().now_or_never().is_none());
        assert!(tasks.running(Group::Session).is_empty());
    }

    #[tokio::test]
    async fn running_tasks_are_known_by_name() {
        let tasks = Tasks::new();
        for _ in 0..2 {
            let stop = tasks.stop_token(Group::Session);
            tasks.spawn(Group::Session, "request", async move {
                stop.cancelled().await;
                Ok(())
            });
        }
        assert_eq!(
            tasks.running(Group::Session),
            BTreeMap::from([("request".to_owned(), 2)])
        );
        tasks.stop_token(Group::Session).cancel();
        tasks.wait(Group::Session).await;
        assert!(tasks.failed().now_or_never().is_none());
    }
}
