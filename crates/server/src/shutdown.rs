//! Stopping, from the edge inward, inside one deadline.
//!
//! 1. Nobody new: `/readyz` fails and the accept loop ends.
//! 2. Those who are here are told: the relay closes its sockets in batches, requests in flight
//!    finish, event streams end.
//! 3. Capture stops, then the shards once they have sent what they hold.
//! 4. At the deadline, whatever is left is named.

use std::{fmt, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::tasks::{Group, Tasks};

/// What still ran at the deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftovers(Vec<(Group, String, usize)>);

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("still running at the deadline:")?;
        self.0
            .iter()
            .try_for_each(|(_, name, count)| write!(f, " {name} x{count}"))
    }
}

impl std::error::Error for Leftovers {}

/// Share of the time that clients get to leave by themselves.
const GOODBYE_SHARE: f64 = 0.5;
/// Share of the time that each of the other phases gets.
const PHASE_SHARE: f64 = 0.15;

/// Stops every group of `tasks` in order within `budget`. `drain` is called once nobody new can
/// come in: it tells the clients to leave.
///
/// # Errors
/// Names what did not stop in time. Its tasks are still running then.
pub async fn stop(tasks: &Tasks, budget: Duration, drain: impl FnOnce()) -> Result<(), Leftovers> {
    let deadline = Instant::now() + budget;
    stop_group(
        tasks,
        Group::Accept,
        deadline.min(Instant::now() + budget.mul_f64(PHASE_SHARE)),
    )
    .await;

    drain();
    let goodbye = deadline.min(Instant::now() + budget.mul_f64(GOODBYE_SHARE));
    stop_group(tasks, Group::Session, goodbye).await;

    stop_group(
        tasks,
        Group::Capture,
        deadline.min(Instant::now() + budget.mul_f64(PHASE_SHARE)),
    )
    .await;
    // The shards end by themselves once their sockets are gone; only late ones are cancelled.
    let drained = goodbye.max(Instant::now());
    let _late = timeout_at(drained, tasks.wait(Group::Shard)).await;
    stop_group(tasks, Group::Shard, deadline).await;

    let left: Vec<_> = Group::ALL
        .into_iter()
        .flat_map(|group| {
            tasks
                .running(group)
                .into_iter()
                .map(move |(name, count)| (group, name, count))
        })
        .collect();
    if left.is_empty() {
        Ok(())
    } else {
        Err(Leftovers(left))
    }
}

async fn stop_group(tasks: &Tasks, group: Group, until: Instant) {
    tasks.stop_token(group).cancel();
    if timeout_at(until, tasks.wait(group)).await.is_err() {
        tracing::warn!(?group, running = ?tasks.running(group), "slow to stop");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    type Journal = Arc<Mutex<Vec<&'static str>>>;

    fn note(journal: &Journal, what: &'static str) {
        journal.lock().unwrap().push(what);
    }

    fn spawn(tasks: &Tasks, journal: &Journal, group: Group, name: &'static str) {
        let (stop, journal) = (tasks.stop_token(group), Arc::clone(journal));
        tasks.spawn(group, name, async move {
            stop.cancelled().await;
            // A task that needs a while: the next group must not be told before it is done.
            tokio::time::sleep(Duration::from_millis(100)).await;
            note(&journal, name);
            Ok(())
        });
    }

    #[tokio::test(start_paused = true)]
    async fn groups_stop_from_the_edge_inward() {
        let (tasks, journal) = (Tasks::new(), Journal::default());
        spawn(&tasks, &journal, Group::Shard, "shard");
        spawn(&tasks, &journal, Group::Capture, "capture");
        spawn(&tasks, &journal, Group::Session, "session");
        spawn(&tasks, &journal, Group::Accept, "accept");
        let drained = Arc::clone(&journal);
        stop(&tasks, Duration::from_secs(10), || note(&drained, "drain"))
            .await
            .unwrap();
        assert_eq!(
            *journal.lock().unwrap(),
            ["accept", "drain", "session", "capture", "shard"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_stop_is_named_and_does_not_hold_the_rest() {
        let (tasks, journal) = (Tasks::new(), Journal::default());
        tasks.spawn(Group::Session, "stuck", std::future::pending());
        spawn(&tasks, &journal, Group::Capture, "capture");
        let begun = Instant::now();
        let left = stop(&tasks, Duration::from_secs(10), || ())
            .await
            .unwrap_err();
        assert_eq!(left.to_string(), "still running at the deadline: stuck x1");
        assert!(begun.elapsed() <= Duration::from_secs(10));
        assert_eq!(*journal.lock().unwrap(), ["capture"]);
    }

    #[tokio::test(start_paused = true)]
    async fn shards_that_drain_are_not_cancelled() {
        let tasks = Tasks::new();
        let (drain, drained) = tokio::sync::oneshot::channel();
        let stop_shard = tasks.stop_token(Group::Shard);
        let cancelled = Arc::new(Mutex::new(false));
        let seen = Arc::clone(&cancelled);
        tasks.spawn(Group::Shard, "shard", async move {
            drained.await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            *seen.lock().unwrap() = stop_shard.is_cancelled();
            Ok(())
        });
        stop(&tasks, Duration::from_secs(10), || drain.send(()).unwrap())
            .await
            .unwrap();
        assert!(!*cancelled.lock().unwrap());
    }
}
