//! S6: from the return of a commit to the client.

use std::{future::poll_fn, thread, time::Duration};

use anyhow::{Context as _, Result};
use tokio_postgres::{AsyncMessage, NoTls};
use uuid::Uuid;

use super::{
    Bench, Scenario, figure,
    probe::{Plan, Receipts, Writer},
};
use crate::{
    clock::{self, SECOND},
    database, dialect,
    fleet::Fleet,
    lab::Place,
    latency::Latency,
    server::{Server, Subject},
    stamp::{Stamp, Stamps},
};

pub(super) const WORDS: (&str, &str, &str) = (
    "S6",
    "commit to client",
    "1,000 clients with a booking each; one writer commits 50 single rows a second, in an open loop. Timed from the return \
     of the commit to the client that has read the row; then, after a minute (quick: 30 s) without any commit, one more. \
     The floor is a NOTIFY that a connection of PostgreSQL's own protocol waits for.",
);

const RATE: u64 = 50;
const IN_FLIGHT: usize = 200;
const HEARTBEAT: Duration = Duration::from_secs(25);

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    bench.sql(TABLES)?;
    bench.rounds(
        &[Subject::Floor, Subject::Pgrelay, Subject::Notify],
        |bench, subject| {
            Bench::settle(Place::Anywhere)?;
            match subject {
                Subject::Floor => ping(bench),
                _ => measure(bench, subject),
            }
        },
    )
}

const TABLES: &str = "
    create table if not exists noticed (
        id bigint generated always as identity primary key, booking_id uuid not null, body text not null);
    create or replace function notice() returns trigger language plpgsql as $$
    begin
        perform pg_notify('changes', json_build_object('topic', new.booking_id, 'record', row_to_json(new))::text);
        return null;
    end $$;
    drop trigger if exists notice on noticed;
    create trigger notice after insert on noticed for each row execute function notice();";

fn measure(bench: &mut Bench<'_>, subject: Subject) -> Result<()> {
    let server = Server::start(bench.lab, bench.postgres, subject, Place::Anywhere)?;
    let bookings: Vec<_> = (0..bench.lab.size(1_000, 1_000))
        .map(|_| Uuid::new_v4())
        .collect();
    let ours = subject == Subject::Pgrelay;
    let mut fleet = Fleet::new()?;
    let opening = |id: &Uuid| match subject {
        Subject::Pgrelay => dialect::changes(
            server.address,
            server.key(),
            "messages",
            &format!("booking_id=eq.{id}"),
        ),
        _ => server.dialect.subscriber(server.address, &id.to_string()),
    };
    fleet.join_all(bookings.iter().map(opening), IN_FLIGHT)?;
    if ours {
        fleet.beat(HEARTBEAT, dialect::heartbeat())?;
    }
    let plan = Plan {
        url: bench.postgres.url().into(),
        table: if ours { "messages" } else { "noticed" },
        bookings,
        rate: RATE,
        count: usize::try_from(RATE * bench.lab.seconds(60, 20))?,
        bytes: 100,
    };
    let steady = follow(&mut fleet, plan.clone())?;
    fleet.turn_until(
        clock::now() + bench.lab.seconds(60, 30) * SECOND,
        &mut |_| {},
    )?;
    let first = follow(&mut fleet, Plan { count: 1, ..plan })?;
    let name = subject.name();
    bench.record(
        Scenario::CommitToClient,
        name,
        "lost",
        figure(steady.lost + first.lost),
    );
    bench.record(
        Scenario::CommitToClient,
        name,
        "duplicated",
        figure(steady.duplicated + first.duplicated),
    );
    record(bench, name, &steady.latency);
    bench.record(
        Scenario::CommitToClient,
        name,
        "after-silence-ms",
        first.latency.milliseconds(1.0),
    );
    Ok(())
}

/// Writes a plan's rows and waits until they have arrived.
fn follow(fleet: &mut Fleet, plan: Plan) -> Result<super::probe::Outcome> {
    let (mut receipts, begin) = (Receipts::new(), clock::now());
    let count = plan.count;
    let writer = Writer::start(plan);
    while !writer.is_done() {
        fleet.turn(clock::now() + SECOND / 20, &mut |event| {
            receipts.take(&event);
        })?;
    }
    let committed = writer.stop()?;
    let deadline = clock::now() + 5 * SECOND;
    while receipts.all.len() < count && clock::now() < deadline {
        fleet.turn(deadline, &mut |event| receipts.take(&event))?;
    }
    // Time to warm up, unless there is one row only.
    let warm = if count > 1 { begin + SECOND } else { 0 };
    receipts.judge(&committed, 1, warm)
}

fn record(bench: &mut Bench<'_>, name: &'static str, latency: &Latency) {
    for (metric, share) in [
        ("p50-ms", 0.5),
        ("p99-ms", 0.99),
        ("p99.9-ms", 0.999),
        ("max-ms", 1.0),
    ] {
        bench.record(
            Scenario::CommitToClient,
            name,
            metric,
            latency.milliseconds(share),
        );
    }
}

/// A NOTIFY in each commit, and a listener.
fn ping(bench: &mut Bench<'_>) -> Result<()> {
    let (url, count) = (
        String::from(bench.postgres.url()),
        RATE * bench.lab.seconds(20, 5),
    );
    let listening = url.clone();
    let listener = thread::spawn(move || listen(&listening, count));
    // It listens long before a second has passed.
    clock::sleep(Duration::from_secs(1));
    let committed = database::run(&url, async |client| {
        let statement = client.prepare("select pg_notify('ping', $1)").await?;
        let (begin, mut committed) = (clock::now(), Vec::new());
        for number in 0..count {
            let due = begin + number * SECOND / RATE;
            clock::sleep_until(due);
            let stamp = Stamp {
                due,
                number: u32::try_from(number)?,
            };
            client.execute(&statement, &[&stamp.text(100)]).await?;
            committed.push(clock::now());
        }
        Ok(committed)
    })?;
    let mut receipts = Receipts::new();
    receipts.all = listener.join().ok().context("the listener to end well")??;
    let outcome = receipts.judge(&committed, 1, 0)?;
    bench.record(
        Scenario::CommitToClient,
        Subject::Floor.name(),
        "lost",
        figure(outcome.lost),
    );
    record(bench, Subject::Floor.name(), &outcome.latency);
    Ok(())
}

fn listen(url: &str, count: u64) -> Result<Vec<(u32, u64)>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
        let (stamps, mut all) = (Stamps::new(), Vec::new());
        let mut messages = poll_fn(move |cx| connection.poll_message(cx));
        let mut listening = std::pin::pin!(client.batch_execute("listen ping"));
        let mut ready = false;
        while (all.len() as u64) < count {
            tokio::select! {
                done = &mut listening, if !ready => {
                    done?;
                    ready = true;
                }
                message = &mut messages => {
                    if let AsyncMessage::Notification(note) = message.context("a connection that stays")?? {
                        let at = clock::now();
                        all.extend(stamps.find(note.payload().as_bytes()).map(|stamp| (stamp.number, at)));
                    }
                }
            }
        }
        Ok(all)
    })
}
