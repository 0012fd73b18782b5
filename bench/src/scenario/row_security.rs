//! S11: everybody sees only rows of their own.

use std::process::Command;

use anyhow::{Context as _, Result};
use uuid::Uuid;

use super::{Bench, Scenario, figure};
use crate::{
    clock::{self, SECOND},
    database, dialect,
    fleet::{Event, Fleet},
    lab::{self, Lab, Place},
    server::{SECRET, Server, Subject},
    stamp::Stamps,
};

pub(super) const WORDS: (&str, &str, &str) = (
    "S11",
    "row-level security",
    "500 subscribers of one table with claims of their own, and a policy that shows each the rows with its user id. \
     Transactions of 10 rows for 10 users are committed as fast as they go; what counts is rows by second from the first commit to the last \
     delivery. Every row is owed to one subscriber, and to no other.",
);

const SUBSCRIBERS: usize = 500;
const ROWS_PER_COMMIT: usize = 10;
const IN_FLIGHT: usize = 50;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    Bench::settle(Place::Anywhere)?;
    bench.sql(TABLE)?;
    bench.enable("notes")?;
    for _ in 0..bench.lab.rounds() {
        measure(bench)?;
    }
    Ok(())
}

const TABLE: &str = "
    create table if not exists notes (
        id bigint generated always as identity primary key, user_id uuid not null, body text not null);
    alter table notes enable row level security;
    drop policy if exists own on notes;
    create policy own on notes for select to authenticated using (user_id = (select auth.uid()));
    grant select on notes to authenticated;";

fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let relay = Server::start(bench.lab, bench.postgres, Subject::Pgrelay, Place::Anywhere)?;
    let users: Vec<_> = (0..bench.lab.size(SUBSCRIBERS, SUBSCRIBERS))
        .map(|_| Uuid::new_v4())
        .collect();
    let mut fleet = Fleet::new()?;
    let openings: Result<Vec<_>> = users
        .iter()
        .map(|user| Ok(dialect::changes(relay.address, &token(user)?, "notes", "")))
        .collect();
    fleet.join_all(openings?, IN_FLIGHT)?;

    let rows = bench.lab.size(20_000, 5_000) / ROWS_PER_COMMIT * ROWS_PER_COMMIT;
    let (url, ids) = (String::from(bench.postgres.url()), users.clone());
    let begin = clock::now();
    let writer = std::thread::spawn(move || write(&url, &ids, rows));
    let (stamps, mut counts, mut foreign, mut last) =
        (Stamps::new(), vec![0_usize; rows], 0, begin);
    let deadline = begin + 60 * SECOND;
    let mut arrived = 0;
    while clock::now() < deadline && (arrived < rows || !writer.is_finished()) {
        fleet.turn(clock::now() + SECOND / 50, &mut |event| {
            let Event::Frame(client, payload, at) = event else {
                return;
            };
            for stamp in stamps.find(payload) {
                let number = stamp.number as usize;
                foreign += usize::from(number % users.len() != client);
                counts[number] += 1;
                arrived += 1;
                last = at;
            }
        })?;
    }
    writer.join().ok().context("the writer to end well")??;
    let delivered = counts.iter().filter(|count| **count > 0).count();
    let ours = Subject::Pgrelay.name();
    let mut record = |metric, value| bench.record(Scenario::RowSecurity, ours, metric, value);
    record("lost", figure(rows - delivered));
    record(
        "duplicated",
        figure(counts.iter().map(|count| count.saturating_sub(1)).sum()),
    );
    record("shown-to-others", figure(foreign));
    record(
        "changes/s",
        figure(delivered) / clock::seconds(last - begin),
    );
    Ok(())
}

/// Row number n belongs to user n modulo their count.
fn write(url: &str, users: &[Uuid], rows: usize) -> Result<()> {
    database::run(url, async |client| {
        let statement = client
            .prepare(
                "insert into notes (user_id, body)
                 select u.id, '~@' || lpad('', 16, '0') || lpad(to_hex($2::int + u.n::int - 1), 8, '0')
                   from unnest($1::uuid[]) with ordinality u (id, n) order by u.n",
            )
            .await?;
        for first in (0..rows).step_by(ROWS_PER_COMMIT) {
            let owners: Vec<_> = (first..first + ROWS_PER_COMMIT)
                .map(|number| users[number % users.len()])
                .collect();
            client
                .execute(&statement, &[&owners, &i32::try_from(first)?])
                .await?;
        }
        Ok(())
    })
}

fn token(user: &Uuid) -> Result<String> {
    let mut command = Command::new(Lab::pgrelay()?);
    command.env("PGRELAY_JWT_SECRET", SECRET);
    command.args([
        "token",
        "--role",
        "authenticated",
        "--exp",
        "24h",
        "--sub",
        &user.to_string(),
    ]);
    lab::output(&mut command)
}
