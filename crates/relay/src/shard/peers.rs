//! The ways from one shard to the others.
//!
//! Both queues of a shard are bounded. What does not fit stays with its sender, in order; the
//! sender then listens to nobody who could add to it.

use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::{
    engine::Engine,
    mail::{Delivery, Errand},
};

/// Errands on their way to one shard.
const ERRANDS_MAX: usize = 256;

/// Deliveries on their way to one shard.
const DELIVERIES_MAX: usize = 256;

/// The way into one shard.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) errands: mpsc::Sender<Errand>,
    deliveries: mpsc::Sender<Delivery>,
}

/// What others have left for a shard.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(super) errands: mpsc::Receiver<Errand>,
    pub(super) deliveries: mpsc::Receiver<Delivery>,
}

/// A way into a shard, and where it leads.
pub(crate) fn mailbox() -> (Peer, Mailbox) {
    let (errands_in, errands) = mpsc::channel(ERRANDS_MAX);
    let (deliveries_in, deliveries) = mpsc::channel(DELIVERIES_MAX);
    (
        Peer {
            errands: errands_in,
            deliveries: deliveries_in,
        },
        Mailbox {
            errands,
            deliveries,
        },
    )
}

/// All shards, as one of them sees them.
pub(super) struct Peers(Vec<(PollSender<Errand>, PollSender<Delivery>)>);

impl Peers {
    pub(super) fn new(peers: &[Peer]) -> Self {
        let ways = peers.iter().map(|peer| {
            (
                PollSender::new(peer.errands.clone()),
                PollSender::new(peer.deliveries.clone()),
            )
        });
        Self(ways.collect())
    }

    /// Sends what the engine has for others, as far as they take it; they wake this shard when
    /// they take more.
    pub(super) fn post(&mut self, engine: &mut Engine, cx: &mut Context<'_>) {
        while let Some(shard) = engine.delivery_shard() {
            let way = &mut self.0[shard].1;
            match way.poll_reserve(cx) {
                Poll::Pending => break,
                Poll::Ready(reserved) => send(way, reserved.is_ok(), engine.next_delivery()),
            }
        }
        while let Some(shard) = engine.errand_shard() {
            let way = &mut self.0[shard].0;
            match way.poll_reserve(cx) {
                Poll::Pending => break,
                Poll::Ready(reserved) => send(way, reserved.is_ok(), engine.next_errand()),
            }
        }
    }
}

/// A shard that is gone has no clients either: nothing is lost with what it is not sent.
fn send<T: Send>(way: &mut PollSender<T>, is_open: bool, item: Option<(usize, T)>) {
    if let Some((_, item)) = item
        && is_open
    {
        drop(way.send_item(item));
    }
}
