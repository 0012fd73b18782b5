//! S1: what a client costs that does nothing.

use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use super::{Bench, Scenario, figure};
use crate::{
    clock::{self, SECOND},
    dialect,
    fleet::Fleet,
    lab::Place,
    server::{Server, Subject},
    usage,
};

pub(super) const WORDS: (&str, &str, &str) = (
    "S1",
    "idle joined clients",
    "18,000 clients, each with one channel and one binding filtered by a UUID of its own (peers: subscribed to one topic of \
     its own), sending a heartbeat every 25 s where the protocol has one. What counts is the server's own memory, which is \
     what it allocated and not what the kernel keeps for sockets.",
);

const IN_FLIGHT: usize = 200;
const HEARTBEAT: Duration = Duration::from_secs(25);

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let subjects = [
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
    let clients = bench.lab.size(18_000, 18_000);
    let pids = server.pids()?;
    let before = usage::memory(&pids)?;
    let opening = |_| {
        let id = Uuid::new_v4();
        match subject {
            Subject::Pgrelay => dialect::changes(
                server.address,
                server.key(),
                "messages",
                &format!("booking_id=eq.{id}"),
            ),
            _ => server.dialect.subscriber(server.address, &id.to_string()),
        }
    };
    let mut fleet = Fleet::new()?;
    fleet.join_all((0..clients).map(opening), IN_FLIGHT)?;
    if subject == Subject::Pgrelay {
        fleet.beat(HEARTBEAT, dialect::heartbeat())?;
    }
    let (processor, begin) = (usage::processor_seconds(&pids)?, clock::now());
    fleet.turn_until(begin + bench.lab.seconds(60, 10) * SECOND, &mut |_| {})?;
    let spent = usage::processor_seconds(&pids)? - processor;
    let grown = usage::memory(&pids)?.saturating_sub(before);
    let name = subject.name();
    bench.record(Scenario::Idle, name, "lost", figure(clients - fleet.live()));
    bench.record(
        Scenario::Idle,
        name,
        "KiB/client",
        figure(usize::try_from(grown)?) / 1024.0 / figure(clients),
    );
    let each = spent / clock::seconds(clock::now() - begin) / figure(clients);
    bench.record(Scenario::Idle, name, "us-processor/s/client", each * 1e6);
    Ok(())
}
