//! One thread's share of the relay: its sockets, its engine, and the loop that joins them.
//!
//! The loop takes turns. Each turn does a bounded amount of everything (new clients, bytes that
//! came, answers, due times, changes, writes), so that nothing waits for long behind anything. No
//! task per socket and no hop between threads per delivery. Run by the server on a thread of its
//! own with a current-thread runtime.

mod calls;
mod outlets;
mod peers;
mod ready;
mod socket;
mod worker;

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::AtomicUsize},
    task::Poll,
};

use tokio::{
    sync::mpsc,
    task::coop::unconstrained,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    meters::Meters,
    metrics::Metrics,
    ports::FeedEvent,
    relay::{Drain, Ports, Visitor},
};
pub(crate) use peers::{Mailbox, Peer, mailbox};
use worker::Worker;

/// A shard that does not run yet.
pub struct Shard {
    pub(crate) config: Arc<Config>,
    pub(crate) ports: Ports,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) visitors: mpsc::Receiver<Visitor>,
    pub(crate) feed: mpsc::Receiver<FeedEvent>,
    /// Which of all shards it is.
    pub(crate) index: usize,
    pub(crate) meters: Arc<Meters>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) mailbox: Mailbox,
    /// Clients it has, and those on their way to it.
    pub(crate) load: Arc<AtomicUsize>,
    pub(crate) drain: Arc<Drain>,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").finish_non_exhaustive()
    }
}

impl Shard {
    /// Serves clients until `stop` is cancelled, or until the relay was drained and the last
    /// client is gone. Belongs on a current-thread runtime: sockets are registered where it runs.
    pub async fn run(self, stop: CancellationToken) {
        let drain = Arc::clone(&self.drain);
        let mut worker = Worker::new(self);
        let mut drained = pin!(drain.ordered());
        let mut stopped = pin!(stop.cancelled());
        let mut alarm = pin!(sleep_until(Instant::now()));
        // Turns bound themselves; tokio's own budget would cut them at odd places.
        unconstrained(poll_fn(|cx| {
            if !worker.draining && drained.as_mut().poll(cx).is_ready() {
                worker.drain();
            }
            if stopped.as_mut().poll(cx).is_ready() || worker.has_finished() {
                return Poll::Ready(());
            }
            if worker.turn(cx) {
                cx.waker().wake_by_ref();
            } else if let Some(due) = worker.next_due() {
                alarm.as_mut().reset(due);
                if alarm.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            Poll::Pending
        }))
        .await;
    }
}
