//! S4: booking UUIDs, the product's own load.

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

pub(super) const WORDS: (&str, &str, &str) = (
    "S4",
    "booking UUIDs",
    "18,000 topics with one subscriber each, 20,000 messages a second on topics picked at random, in an open loop: each \
     message is timed from when it was due to be sent.",
);

/// Messages a second.
const RATE: u64 = 20_000;
const IN_FLIGHT: usize = 200;
const DRAIN: u64 = 5 * SECOND;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let subjects = [
        Subject::Floor,
        Subject::Pgrelay,
        Subject::Bun,
        Subject::Ws,
        Subject::SocketIo,
        Subject::Nats,
        Subject::Nchan,
    ];
    bench.rounds(&subjects, measure)
}

fn measure(bench: &mut Bench<'_>, subject: Subject) -> Result<()> {
    Bench::settle(Place::Generator)?;
    let server = Server::start(bench.lab, bench.postgres, subject, Place::Server)?;
    let topics = booking_ids(bench.lab.size(18_000, 18_000));
    let mut fleet = Fleet::new()?;
    let share = join(&server, &topics, &mut fleet)?;
    let seconds = bench.lab.seconds(20, 8);
    let count = usize::try_from(seconds * RATE)?;
    let (mut received, mut latency, stamps) = (vec![0_u8; count], Latency::new()?, Stamps::new());
    let pids = server.pids()?;
    let (processor, begin) = (usage::processor_seconds(&pids)?, clock::now() + SECOND / 10);
    let warm = begin + seconds * SECOND / 10;
    let mut total = 0;
    let mut take = |event: Event<'_>| {
        let Event::Frame(_, payload, at) = event else {
            return;
        };
        for stamp in stamps.find(payload) {
            received[stamp.number as usize] += 1;
            total += 1;
            if stamp.due >= warm {
                latency.record(at.saturating_sub(stamp.due));
            }
        }
    };
    for number in 0..count {
        let due = begin + number as u64 * SECOND / RATE;
        while clock::now() < due {
            fleet.turn(due, &mut take)?;
        }
        let topic = scattered(number, topics.len());
        let stamp = Stamp {
            due,
            number: u32::try_from(number)?,
        };
        let publication = server.dialect.publication(&topics[topic], stamp);
        fleet.send(topics.len() + topic / share, &publication)?;
        if number % 16 == 0 {
            // Also when it is late already: what has come is read.
            fleet.turn(0, &mut take)?;
        }
    }
    let spent = usage::processor_seconds(&pids)? - processor;
    fleet.turn_until(clock::now() + DRAIN.min(seconds * SECOND), &mut take)?;
    let name = subject.name();
    let lost = received.iter().filter(|count| **count == 0).count();
    let duplicated: usize = received
        .iter()
        .map(|count| usize::from(count.saturating_sub(1)))
        .sum();
    bench.record(Scenario::Topics, name, "lost", figure(lost));
    bench.record(Scenario::Topics, name, "duplicated", figure(duplicated));
    for (metric, share) in [
        ("p50-ms", 0.5),
        ("p99-ms", 0.99),
        ("p99.9-ms", 0.999),
        ("max-ms", 1.0),
    ] {
        bench.record(Scenario::Topics, name, metric, latency.milliseconds(share));
    }
    bench.record(
        Scenario::Topics,
        name,
        "us-processor/message",
        spent * 1e6 / figure(total.max(1)),
    );
    Ok(())
}

/// Subscribers, numbered as their topics, and then the publishers; how many topics each publisher has.
fn join(server: &Server, topics: &[String], fleet: &mut Fleet) -> Result<usize> {
    let (dialect, address) = (&server.dialect, server.address);
    let subscribers = topics
        .iter()
        .map(|topic| dialect.subscriber(address, topic));
    fleet.join_all(subscribers, IN_FLIGHT)?;
    let names: Vec<_> = topics.iter().map(String::as_str).collect();
    let share = dialect.topics_per_publisher().min(names.len());
    let publishers = names
        .chunks(share)
        .map(|names| dialect.publisher(address, names));
    fleet.join_all(publishers, IN_FLIGHT)?;
    Ok(share)
}

/// A topic for each message: the same for every subject, and in no order.
fn scattered(number: usize, topics: usize) -> usize {
    // Fibonacci hashing.
    let hash = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(hash).unwrap_or(0) % topics
}
