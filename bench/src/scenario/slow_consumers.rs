//! S10: some clients stop reading.

use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use super::{
    Bench, Scenario, figure,
    probe::{Outcome, Plan, Receipts, Writer},
};
use crate::{
    clock::{self, SECOND},
    dialect,
    fleet::{Fleet, Opening},
    lab::Place,
    server::{Server, Subject},
    usage,
};

pub(super) const WORDS: (&str, &str, &str) = (
    "S10",
    "slow consumers",
    "10,000 clients (quick: 1,000) receive a row of 1 KB in each of 5 commits a second. One in a hundred receives a flood of \
     8 KB rows besides, 40 a second, and then stops reading. What counts is the p99 of all the others, from the return of the commit, \
     against the same before anybody stopped, and the relay's growth for each stalled client.",
);

const RATE: u64 = 5;
const FLOOD_RATE: u64 = 40;
const IN_FLIGHT: usize = 200;
const HEARTBEAT: Duration = Duration::from_secs(25);
/// So that a stalled client's kernel holds next to nothing for it.
const SLOW_RECEIVE_BUFFER: usize = 4_096;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    Bench::settle(Place::Anywhere)?;
    for table in ["hot", "flood"] {
        bench.sql(&format!(
            "create table if not exists {table} (id bigint generated always as identity primary key,
               booking_id uuid not null, body text not null)"
        ))?;
        bench.enable(table)?;
    }
    for _ in 0..bench.lab.rounds() {
        measure(bench)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let relay = Server::start(bench.lab, bench.postgres, Subject::Pgrelay, Place::Anywhere)?;
    let clients = bench.lab.size(10_000, 1_000);
    let slow = (clients / 100).max(1);
    let mut fleet = Fleet::new()?;
    let calm = dialect::changes(relay.address, relay.key(), "hot", "");
    fleet.join_all(std::iter::repeat_n(calm.clone(), clients - slow), IN_FLIGHT)?;
    let flooded = Opening {
        hello: [calm.hello, dialect::join_changes("flood", "", None)].concat(),
        joined: calm.joined.map(|(answer, _)| (answer, 2)),
        receive_buffer: Some(SLOW_RECEIVE_BUFFER),
        ..calm
    };
    fleet.join_all(std::iter::repeat_n(flooded, slow), IN_FLIGHT)?;
    fleet.beat(HEARTBEAT, dialect::heartbeat())?;

    let flood = Writer::start(plan(bench, "flood", FLOOD_RATE, 8_192));
    let calm = phase(bench, &mut fleet, clients - slow)?;
    for index in clients - slow..clients {
        fleet.stall(index)?;
    }
    let before = usage::resident(relay.pid())?;
    usage::forget_peak(relay.pid())?;
    let stalled = phase(bench, &mut fleet, clients - slow)?;
    let grown = usage::peak(relay.pid())?.saturating_sub(before);
    flood.stop()?;

    let ours = Subject::Pgrelay.name();
    let mut record =
        |subject, metric, value| bench.record(Scenario::SlowConsumers, subject, metric, value);
    record(ours, "lost", figure(stalled.lost));
    record(ours, "duplicated", figure(stalled.duplicated));
    record(ours, "p50-ms", stalled.latency.milliseconds(0.5));
    record(ours, "p99-ms", stalled.latency.milliseconds(0.99));
    record(
        ours,
        "MiB/stalled",
        figure(usize::try_from(grown)?) / 1024.0 / 1024.0 / figure(slow),
    );
    record("idle", "lost", figure(calm.lost));
    record("idle", "p50-ms", calm.latency.milliseconds(0.5));
    record("idle", "p99-ms", calm.latency.milliseconds(0.99));
    Ok(())
}

fn plan(bench: &Bench<'_>, table: &'static str, rate: u64, bytes: usize) -> Plan {
    Plan {
        url: bench.postgres.url().into(),
        table,
        bookings: vec![Uuid::new_v4()],
        rate,
        count: usize::MAX,
        bytes,
    }
}

/// Rows for everybody; what became of them at the clients below `healthy`.
fn phase(bench: &Bench<'_>, fleet: &mut Fleet, healthy: usize) -> Result<Outcome> {
    let (begin, mut receipts) = (clock::now(), Receipts::new());
    let mut take = |event: crate::fleet::Event<'_>| {
        if matches!(event, crate::fleet::Event::Frame(client, ..) if client < healthy) {
            receipts.take(&event);
        }
    };
    let writer = Writer::start(plan(bench, "hot", RATE, 1_024));
    fleet.turn_until(begin + bench.lab.seconds(30, 12) * SECOND, &mut take)?;
    let committed = writer.stop()?;
    fleet.turn_until(clock::now() + SECOND, &mut take)?;
    receipts.judge(&committed, healthy, begin + SECOND)
}
