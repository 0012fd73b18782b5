//! Publishing to topics as fast as a server delivers: what S3 and S5 have in common.

use anyhow::Result;

use super::{Bench, Scenario, figure};
use crate::{
    clock::{self, SECOND},
    fleet::{Event, Fleet},
    lab::Place,
    latency::Latency,
    server::{Server, Subject, booking_ids},
    stamp::{Stamp, Stamps},
    usage,
};

/// Joins at a time.
const IN_FLIGHT: usize = 200;
/// What is missing this long after the last message is lost.
const DRAIN: u64 = 5 * SECOND;

/// The shape of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) topics: usize,
    pub(crate) subscribers_per_topic: usize,
    /// Messages under way at a time, in each topic. With one, every socket gets each frame alone.
    pub(crate) window: usize,
    pub(crate) seconds: u64,
}

/// What is known of each message.
#[derive(Debug)]
struct Tally {
    stamps: Stamps,
    /// Deliveries by message.
    received: Vec<u32>,
    total: usize,
    latency: Latency,
    measured_from: u64,
}

pub(crate) fn measure(
    bench: &mut Bench<'_>,
    scenario: Scenario,
    subject: Subject,
    load: Load,
) -> Result<()> {
    Bench::settle(Place::Generator)?;
    let server = Server::start(bench.lab, bench.postgres, subject, Place::Server)?;
    let topics = booking_ids(load.topics);
    let mut fleet = Fleet::new()?;
    for topic in &topics {
        let opening = server.dialect.subscriber(server.address, topic);
        fleet.join_all(
            std::iter::repeat_n(opening, load.subscribers_per_topic),
            IN_FLIGHT,
        )?;
    }
    let names: Vec<_> = topics.iter().map(String::as_str).collect();
    let publisher = load.topics * load.subscribers_per_topic;
    fleet.join_all([server.dialect.publisher(server.address, &names)], 1)?;

    let (mut tally, begin) = (Tally::new()?, clock::now());
    // A fifth of the time to warm up.
    tally.measured_from = begin + load.seconds * SECOND / 5;
    let end = begin + load.seconds * SECOND;
    let pids = server.pids()?;
    let mut start = None;
    while clock::now() < end {
        if start.is_none() && clock::now() >= tally.measured_from {
            start = Some((usage::processor_seconds(&pids)?, tally.total, clock::now()));
        }
        let mut batch = Vec::new();
        let done = tally.total / load.subscribers_per_topic;
        while tally.received.len() < done + load.window * load.topics {
            let stamp = tally.next()?;
            let topic = &topics[stamp.number as usize % load.topics];
            batch.extend(server.dialect.publication(topic, stamp));
        }
        if !batch.is_empty() {
            fleet.send(publisher, &batch)?;
        }
        fleet.turn(end, &mut |event| tally.take(&event))?;
    }
    let (processor, total, since) = start.unwrap_or_default();
    let spent = usage::processor_seconds(&pids)? - processor;
    let delivered = figure(tally.total - total);
    let rate = delivered / clock::seconds(clock::now() - since);
    let expected = tally.received.len() * load.subscribers_per_topic;
    let deadline = clock::now() + DRAIN;
    while tally.total < expected && clock::now() < deadline {
        fleet.turn(deadline, &mut |event| tally.take(&event))?;
    }
    let (lost, duplicated) = tally.judge(load.subscribers_per_topic);
    let name = subject.name();
    bench.record(scenario, name, "lost", lost);
    bench.record(scenario, name, "duplicated", duplicated);
    bench.record(scenario, name, "deliveries/s/core", delivered / spent);
    bench.record(scenario, name, "deliveries/s", rate);
    bench.record(scenario, name, "p50-ms", tally.latency.milliseconds(0.5));
    bench.record(scenario, name, "p99-ms", tally.latency.milliseconds(0.99));
    Ok(())
}

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self {
            stamps: Stamps::new(),
            received: Vec::new(),
            total: 0,
            latency: Latency::new()?,
            measured_from: 0,
        })
    }

    fn next(&mut self) -> Result<Stamp> {
        let number = u32::try_from(self.received.len())?;
        self.received.push(0);
        Ok(Stamp {
            due: clock::now(),
            number,
        })
    }

    fn take(&mut self, event: &Event<'_>) {
        let Event::Frame(_, payload, at) = event else {
            return;
        };
        for stamp in self.stamps.find(payload) {
            if let Some(count) = self.received.get_mut(stamp.number as usize) {
                *count += 1;
                self.total += 1;
            }
            if stamp.due >= self.measured_from {
                self.latency.record(at.saturating_sub(stamp.due));
            }
        }
    }

    /// Deliveries that are missing, and those that are too many.
    fn judge(&self, subscribers: usize) -> (f64, f64) {
        let (mut lost, mut duplicated) = (0, 0);
        for count in self.received.iter().map(|count| *count as usize) {
            lost += subscribers.saturating_sub(count);
            duplicated += count.saturating_sub(subscribers);
        }
        (figure(lost), figure(duplicated))
    }
}
