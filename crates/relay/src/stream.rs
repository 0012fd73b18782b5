//! Events for one client without channels, out of its shard.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::Stream;
use tokio::sync::mpsc;

use crate::outlet::{Parcel, StreamEvent};

/// Events that may wait for one stream, besides the bound in bytes.
const EVENTS_MAX: usize = 1_024;

/// The events of a subscription, in order. Ends when the client does not keep up, when the relay
/// stops, and never otherwise. Dropping it ends the subscription.
#[derive(Debug)]
pub struct EventStream {
    events: mpsc::Receiver<StreamEvent>,
    queued: Arc<AtomicUsize>,
    /// Tells the shard that events were taken, or that nobody takes them any more.
    shard: Waker,
}

/// The shard's end.
#[derive(Debug)]
pub(crate) struct StreamSender {
    events: mpsc::Sender<StreamEvent>,
    queued: Arc<AtomicUsize>,
}

/// Both ends of a new stream.
pub(crate) fn channel(shard: Waker) -> (StreamSender, EventStream) {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let queued = Arc::new(AtomicUsize::new(0));
    (
        StreamSender {
            events: sender,
            queued: Arc::clone(&queued),
        },
        EventStream {
            events,
            queued,
            shard,
        },
    )
}

fn size(event: &StreamEvent) -> usize {
    event.json.len()
}

impl StreamSender {
    /// Queues an event. `false` when there is no room, or nobody there.
    pub(crate) fn send(&self, parcel: &Parcel, bytes_max: usize) -> bool {
        let Parcel::Event(event) = parcel else {
            return true;
        };
        let bytes = size(event);
        if self.queued.fetch_add(bytes, Ordering::AcqRel) > bytes_max {
            return false;
        }
        self.events.try_send(event.clone()).is_ok()
    }

    /// Whether more than half of the room is taken.
    pub(crate) fn is_full(&self, bytes_max: usize) -> bool {
        self.queued.load(Ordering::Acquire) > bytes_max / 2
            || self.events.capacity() < EVENTS_MAX / 2
    }

    /// Whether the other end was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }
}

impl Stream for EventStream {
    type Item = StreamEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StreamEvent>> {
        let event = std::task::ready!(self.events.poll_recv(cx));
        if let Some(event) = &event {
            self.queued.fetch_sub(size(event), Ordering::AcqRel);
            // Whoever paused for this stream may go on once it is empty.
            if self.events.is_empty() {
                self.shard.wake_by_ref();
            }
        }
        Poll::Ready(event)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.events.close();
        self.shard.wake_by_ref();
    }
}
