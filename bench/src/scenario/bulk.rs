//! S8: one transaction with a great many rows.

use std::thread;

use anyhow::{Context as _, Result};
use uuid::Uuid;

use super::{
    Bench, Scenario, figure,
    probe::{Outcome, Plan, Receipts, Writer},
};
use crate::{
    clock::{self, SECOND},
    database, dialect,
    fleet::{Event, Fleet},
    lab::Place,
    server::{Server, Subject},
    stamp::Stamps,
    usage,
};

pub(super) const WORDS: (&str, &str, &str) = (
    "S8",
    "bulk transaction",
    "One statement inserts 100,000 chat messages (full run: also 1,000,000) into a table that nobody watches and into one that is \
     captured and whose rows all go to one of 1,000 subscribers. Drained is timed from the return of the commit to the last \
     of the deliveries, each of which is counted; growth is the relay's peak of resident memory; meanwhile a writer commits \
     to another table 200 times a second.",
);

const SUBSCRIBERS: usize = 1_000;
const IN_FLIGHT: usize = 200;
const PROBE_RATE: u64 = 200;
/// A drain may take so long at first, and then has to keep this pace, in rows a second.
const PATIENCE: u64 = 20 * SECOND;
const PATIENCE_ROWS: usize = 5_000;

/// Names of one size's metrics.
struct Size {
    rows: usize,
    seconds: &'static str,
    growth: &'static str,
    rate: &'static str,
}

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    Bench::settle(Place::Anywhere)?;
    for table in ["bulk", "bulk_plain"] {
        // As a chat has it.
        bench.sql(&format!(
            "create table {table} (id uuid primary key default gen_random_uuid(), booking_id uuid not null,
               sender_id uuid not null default gen_random_uuid(), body text not null,
               created_at timestamptz not null default now());
             create index on {table} (booking_id, created_at)"
        ))?;
    }
    bench.sql("create table bulk_bookings (number int primary key, id uuid not null)")?;
    bench.enable("bulk")?;
    let small = Size {
        rows: bench.lab.size(100_000, 100_000),
        seconds: "100k-seconds",
        growth: "100k-growth-MiB",
        rate: "100k-rows/s",
    };
    let large = Size {
        rows: 1_000_000,
        seconds: "1M-seconds",
        growth: "1M-growth-MiB",
        rate: "1M-rows/s",
    };
    let sizes = if bench.lab.quick {
        vec![small]
    } else {
        vec![small, large]
    };
    for _ in 0..bench.lab.rounds() {
        for size in &sizes {
            measure(bench, size)?;
        }
    }
    Ok(())
}

fn measure(bench: &mut Bench<'_>, size: &Size) -> Result<()> {
    let relay = Server::start(bench.lab, bench.postgres, Subject::Pgrelay, Place::Anywhere)?;
    let mut fleet = Fleet::new()?;
    let probe = join(bench, &relay, &mut fleet)?;
    // What it is like when nothing else happens; and pages touched by a first bulk are not growth.
    let idle = idle(bench, &mut fleet, probe.clone())?;
    let untriggered = [
        insert(bench, "bulk_plain", size.rows)?,
        insert(bench, "bulk_plain", size.rows)?,
    ];
    let before = usage::resident(relay.pid())?;
    usage::forget_peak(relay.pid())?;
    let drained = drain(bench, &mut fleet, probe, size.rows)?;
    let grown = usage::peak(relay.pid())?.saturating_sub(before);

    let mut record = |subject, metric, value| bench.record(Scenario::Bulk, subject, metric, value);
    let ours = Subject::Pgrelay.name();
    record(ours, "lost", figure(drained.lost + drained.probe.lost));
    record(
        ours,
        "duplicated",
        figure(drained.duplicated + drained.probe.duplicated),
    );
    record(ours, size.seconds, drained.transaction);
    record(
        "no trigger",
        size.seconds,
        f64::midpoint(untriggered[0], untriggered[1]),
    );
    record(ours, size.rate, drained.rate);
    record(
        ours,
        size.growth,
        figure(usize::try_from(grown)?) / 1024.0 / 1024.0,
    );
    record(
        ours,
        "others-p99-ms",
        drained.probe.latency.milliseconds(0.99),
    );
    record("idle", "others-p99-ms", idle.latency.milliseconds(0.99));
    Ok(())
}

/// The subscribers of the bulk table, then one of another, which the returned plan writes to.
fn join(bench: &Bench<'_>, relay: &Server, fleet: &mut Fleet) -> Result<Plan> {
    let bookings: Vec<_> = (0..SUBSCRIBERS).map(|_| Uuid::new_v4()).collect();
    let list: Vec<_> = bookings
        .iter()
        .enumerate()
        .map(|(number, id)| format!("({number}, '{id}')"))
        .collect();
    bench.sql(&format!(
        "truncate bulk_bookings; insert into bulk_bookings values {}",
        list.join(",")
    ))?;
    let opening = |id: &Uuid| {
        dialect::changes(
            relay.address,
            relay.key(),
            "bulk",
            &format!("booking_id=eq.{id}"),
        )
    };
    fleet.join_all(bookings.iter().map(opening), IN_FLIGHT)?;
    let other = Uuid::new_v4();
    let filter = format!("booking_id=eq.{other}");
    fleet.join_all(
        [dialect::changes(
            relay.address,
            relay.key(),
            "messages",
            &filter,
        )],
        1,
    )?;
    Ok(Plan {
        url: bench.postgres.url().into(),
        table: "messages",
        bookings: vec![other],
        rate: PROBE_RATE,
        count: usize::MAX,
        bytes: 100,
    })
}

fn idle(bench: &Bench<'_>, fleet: &mut Fleet, probe: Plan) -> Result<Outcome> {
    let (begin, mut receipts) = (clock::now(), Receipts::new());
    let writer = Writer::start(probe);
    fleet.turn_until(begin + bench.lab.seconds(10, 5) * SECOND, &mut |event| {
        receipts.take(&event);
    })?;
    let committed = writer.stop()?;
    fleet.turn_until(clock::now() + SECOND / 2, &mut |event| {
        receipts.take(&event);
    })?;
    receipts.judge(&committed, 1, begin + SECOND)
}

/// What came of a bulk transaction.
struct Drained {
    /// Seconds that the transaction took.
    transaction: f64,
    /// Deliveries a second, from its commit to the last of them.
    rate: f64,
    lost: usize,
    duplicated: usize,
    /// Of the other table, from the begin of the transaction on.
    probe: Outcome,
}

/// Deliveries of a bulk transaction, and of the probe beside it.
struct Collector {
    stamps: Stamps,
    counts: Vec<u8>,
    arrived: usize,
    last: u64,
    receipts: Receipts,
}

impl Collector {
    fn take(&mut self, event: &Event<'_>) {
        let Event::Frame(client, payload, at) = event else {
            return;
        };
        // The probe joined last.
        if *client == SUBSCRIBERS {
            self.receipts.take(event);
            return;
        }
        for stamp in self.stamps.find(payload) {
            let count = &mut self.counts[stamp.number as usize];
            *count = count.saturating_add(1);
            self.arrived += 1;
            self.last = *at;
        }
    }
}

fn drain(bench: &Bench<'_>, fleet: &mut Fleet, probe: Plan, rows: usize) -> Result<Drained> {
    let mut collector = Collector {
        stamps: Stamps::new(),
        counts: vec![0; rows],
        arrived: 0,
        last: 0,
        receipts: Receipts::new(),
    };
    let (begin, writer, url) = (
        clock::now(),
        Writer::start(probe),
        String::from(bench.postgres.url()),
    );
    let bulk = thread::spawn(move || anyhow::Ok((insert_into(&url, "bulk", rows)?, clock::now())));
    while !bulk.is_finished() {
        fleet.turn(clock::now() + SECOND / 50, &mut |event| {
            collector.take(&event);
        })?;
    }
    let (transaction, committed_at) = bulk
        .join()
        .ok()
        .context("the bulk transaction to end well")??;
    let deadline = clock::now() + (rows / PATIENCE_ROWS) as u64 * SECOND + PATIENCE;
    while collector.arrived < rows && clock::now() < deadline {
        fleet.turn(clock::now() + SECOND / 50, &mut |event| {
            collector.take(&event);
        })?;
    }
    let probes = writer.stop()?;
    fleet.turn_until(clock::now() + SECOND / 2, &mut |event| {
        collector.take(&event);
    })?;
    let delivered = collector.counts.iter().filter(|count| **count > 0).count();
    Ok(Drained {
        transaction,
        rate: figure(delivered)
            / clock::seconds(collector.last.max(committed_at + 1) - committed_at),
        lost: rows - delivered,
        duplicated: collector.arrived - delivered,
        probe: collector.receipts.judge(&probes, 1, begin)?,
    })
}

fn insert(bench: &Bench<'_>, table: &str, rows: usize) -> Result<f64> {
    insert_into(bench.postgres.url(), table, rows)
}

/// Inserts stamped rows, each for one of the bookings; the seconds it took.
fn insert_into(url: &str, table: &str, rows: usize) -> Result<f64> {
    database::run(url, async |client| {
        client.batch_execute("checkpoint").await?;
        let sql = format!(
            "insert into {table} (booking_id, body)
             select b.id, '~@' || lpad('', 16, '0') || lpad(to_hex(n), 8, '0') || ' Your driver is on the way.'
               from generate_series(0, $1::int - 1) n join bulk_bookings b on b.number = n % {SUBSCRIBERS}
              order by n"
        );
        let statement = client.prepare(&sql).await?;
        let begin = clock::now();
        client.execute(&statement, &[&i32::try_from(rows)?]).await?;
        Ok(clock::seconds(clock::now() - begin))
    })
}
