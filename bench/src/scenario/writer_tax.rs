//! S7: what capture costs writers.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::{Bench, Scenario};
use crate::{
    lab::{Place, output},
    server::{Server, Subject},
};

pub(super) const WORDS: (&str, &str, &str) = (
    "S7",
    "writer tax",
    "pgbench inserts single rows with 16 and with 64 writers, fsync on, into three tables in turn, forth and back: one that \
     nobody watches, one that is captured with the relay running, and one whose trigger notifies in every commit while \
     somebody listens.",
);

/// A subject in the results, its table, and what is added to the table.
const TABLES: [(&str, &str); 3] = [
    ("no trigger", "plain"),
    ("pgrelay", "captured"),
    ("NOTIFY per commit", "notified"),
];

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    Bench::settle(Place::Anywhere)?;
    for (_, table) in TABLES {
        bench.sql(&format!(
            "create table {table} (id bigint generated always as identity primary key,
               booking_id uuid not null default gen_random_uuid(), body text not null,
               created_at timestamptz not null default now())"
        ))?;
        let insert = format!(
            "insert into {table} (body) values ('Your driver is on the way and will be with you in ten minutes.');\n"
        );
        fs::write(bench.lab.work.join(format!("{table}.sql")), insert)?;
    }
    bench.sql(NOTIFYING)?;
    bench.enable("captured")?;
    let _relay = Server::start(bench.lab, bench.postgres, Subject::Pgrelay, Place::Anywhere)?;
    let _listener = Server::start(bench.lab, bench.postgres, Subject::Notify, Place::Anywhere)?;
    for _ in 0..bench.lab.rounds() {
        for (metric, clients) in [
            ("16-writers-commits/s", "16"),
            ("64-writers-commits/s", "64"),
        ] {
            for (subject, table) in TABLES.iter().chain(TABLES.iter().rev()) {
                let rate = insert(bench, table, clients)?;
                bench.record(Scenario::WriterTax, subject, metric, rate);
            }
        }
    }
    Ok(())
}

const NOTIFYING: &str = "
    create function notify_insert() returns trigger language plpgsql as $$
    begin
        perform pg_notify('changes', json_build_object('topic', new.booking_id, 'record', row_to_json(new))::text);
        return null;
    end $$;
    create trigger notify_insert after insert on notified for each row execute function notify_insert();";

/// One run of pgbench; its commits a second.
fn insert(bench: &Bench<'_>, table: &str, clients: &str) -> Result<f64> {
    bench.sql("checkpoint")?;
    let seconds = bench.lab.seconds(5, 3).to_string();
    let mut pgbench = Command::new(bench.postgres.programs()?.join("pgbench"));
    pgbench
        .args([
            "-n", "-M", "prepared", "-T", &seconds, "-c", clients, "-j", "2", "-f",
        ])
        .arg(bench.lab.work.join(format!("{table}.sql")))
        .arg(bench.postgres.url());
    let said = output(&mut pgbench)?;
    let rate = said
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
    rate.and_then(|rate| rate.parse().ok())
        .context("a rate from pgbench")
}
