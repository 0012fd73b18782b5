//! S2: everybody comes back at once.

use anyhow::Result;
use uuid::Uuid;

use super::{Bench, Scenario, figure};
use crate::{
    clock, dialect,
    fleet::{Fleet, Opening},
    lab::Place,
    server::{Server, Subject},
    usage,
};

pub(super) const WORDS: (&str, &str, &str) = (
    "S2",
    "join storm",
    "18,000 clients (quick: 9,000) connect, upgrade, show their token, join and are told that their filtered binding is \
     live, 2,000 at a time, after the server was killed and started again. What counts is joins by second of the server's \
     processor time. Peers only upgrade and subscribe.",
);

/// More wait in the kernel's queue of new connections.
const IN_FLIGHT: usize = 2_000;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let subjects = [
        Subject::Pgrelay,
        Subject::Bun,
        Subject::Ws,
        Subject::SocketIo,
        Subject::Nats,
    ];
    bench.rounds(&subjects, measure)
}

fn measure(bench: &mut Bench<'_>, subject: Subject) -> Result<()> {
    Bench::settle(Place::Generator)?;
    let clients = bench.lab.size(18_000, 9_000);
    let ids: Vec<_> = (0..clients).map(|_| Uuid::new_v4()).collect();
    let opening = |server: &Server, id: &Uuid| -> Opening {
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
    {
        let mut server = Server::start(bench.lab, bench.postgres, subject, Place::Server)?;
        let mut fleet = Fleet::new()?;
        fleet.join_all(ids.iter().map(|id| opening(&server, id)), IN_FLIGHT)?;
        server.kill()?;
    }
    let server = Server::start(bench.lab, bench.postgres, subject, Place::Server)?;
    let pids = server.pids()?;
    let (processor, begin) = (usage::processor_seconds(&pids)?, clock::now());
    let mut fleet = Fleet::new()?;
    fleet.join_all(ids.iter().map(|id| opening(&server, id)), IN_FLIGHT)?;
    let took = clock::seconds(clock::now() - begin);
    let spent = usage::processor_seconds(&pids)? - processor;
    let name = subject.name();
    bench.record(
        Scenario::JoinStorm,
        name,
        "joins/s/core",
        figure(clients) / spent,
    );
    bench.record(Scenario::JoinStorm, name, "joins/s", figure(clients) / took);
    let memory = usage::peak(server.pid())? / 1024 / 1024;
    bench.record(
        Scenario::JoinStorm,
        name,
        "peak-MiB",
        figure(usize::try_from(memory)?),
    );
    Ok(())
}
