//! S12: connections that break all the time.

use std::time::Duration;

use anyhow::{Context as _, Result};
use memchr::{memchr, memmem};
use uuid::Uuid;

use super::{
    Bench, Scenario, figure,
    probe::{Plan, Writer},
};
use crate::{
    clock::{self, SECOND},
    dialect,
    fleet::{Event, Fleet},
    lab::Place,
    latency::Latency,
    server::{Server, Subject},
    stamp::Stamps,
};

pub(super) const WORDS: (&str, &str, &str) = (
    "S12",
    "jitter and resume",
    "10,000 clients (quick: 500) all receive 2 rows a second for 60 s (quick: 24 s). Every client is cut with a reset every \
     15 s, stays away for 2 s and joins again with its last cursor. Replay is timed from the first packet of the new \
     connection to the last of the rows committed before it. Without resuming, Bun's clients show what is lost otherwise.",
);

const RATE: u64 = 2;
const PERIOD: u64 = 15 * SECOND;
const AWAY: u64 = 2 * SECOND;
const IN_FLIGHT: usize = 200;
const HEARTBEAT: Duration = Duration::from_secs(25);

/// What a client has seen.
#[derive(Debug, Default, Clone)]
struct Seen {
    /// Deliveries by row.
    counts: Vec<u8>,
    /// Distinct rows.
    total: usize,
    cursor: String,
    /// When it is cut next, or connects again.
    due: u64,
    is_away: bool,
    /// Since when it catches up, and how many rows there were then.
    behind: Option<(u64, usize)>,
}

struct Crowd {
    seen: Vec<Seen>,
    stamps: Stamps,
    replay: Latency,
    begin: u64,
}

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    Bench::settle(Place::Anywhere)?;
    bench.sql(
        "create table if not exists jitter (id bigint generated always as identity primary key,
           booking_id uuid not null, body text not null)",
    )?;
    bench.enable("jitter")?;
    for _ in 0..bench.lab.rounds() {
        measure(bench)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let relay = Server::start(bench.lab, bench.postgres, Subject::Pgrelay, Place::Anywhere)?;
    let clients = bench.lab.size(10_000, 500);
    let rows = usize::try_from(RATE * bench.lab.seconds(60, 24))?;
    let mut crowd = Crowd {
        seen: vec![Seen::default(); clients],
        stamps: Stamps::new(),
        replay: Latency::new()?,
        begin: 0,
    };
    let mut opening = dialect::changes(relay.address, relay.key(), "jitter", "");
    opening.hello = dialect::join_changes("jitter", "", Some("now"));
    let mut fleet = Fleet::new()?;
    crowd.join(&mut fleet, std::iter::repeat_n(opening, clients), clients)?;
    fleet.beat(HEARTBEAT, dialect::heartbeat())?;

    crowd.begin = clock::now();
    for (index, seen) in crowd.seen.iter_mut().enumerate() {
        seen.counts = vec![0; rows];
        seen.due = crowd.begin + PERIOD * index as u64 / clients as u64;
    }
    let writer = Writer::start(Plan {
        url: bench.postgres.url().into(),
        table: "jitter",
        bookings: vec![Uuid::new_v4()],
        rate: RATE,
        count: rows,
        bytes: 100,
    });
    while !writer.is_done() {
        crowd.cut_and_reopen(&mut fleet, true)?;
        fleet.turn(clock::now() + SECOND / 200, &mut |event| crowd.take(&event))?;
    }
    writer.stop()?;
    let deadline = clock::now() + AWAY + 5 * SECOND;
    while clock::now() < deadline && crowd.seen.iter().any(|seen| seen.total < rows) {
        crowd.cut_and_reopen(&mut fleet, false)?;
        fleet.turn(clock::now() + SECOND / 200, &mut |event| crowd.take(&event))?;
    }
    let delivered: usize = crowd.seen.iter().map(|seen| seen.total).sum();
    let duplicated: usize = crowd.seen.iter().map(|seen| seen.all() - seen.total).sum();
    let ours = Subject::Pgrelay.name();
    let mut record = |metric, value| bench.record(Scenario::Resume, ours, metric, value);
    record(
        "delivered-%",
        100.0 * figure(delivered) / figure(rows * clients),
    );
    record("duplicated", figure(duplicated));
    record("replays", figure(usize::try_from(crowd.replay.count())?));
    record("replay-p50-ms", crowd.replay.milliseconds(0.5));
    record("replay-p95-ms", crowd.replay.milliseconds(0.95));
    record("replay-p99-ms", crowd.replay.milliseconds(0.99));
    Ok(())
}

impl Seen {
    fn all(&self) -> usize {
        self.counts.iter().map(|count| usize::from(*count)).sum()
    }
}

impl Crowd {
    /// Joins everybody; their first cursors come with it.
    fn join(
        &mut self,
        fleet: &mut Fleet,
        openings: impl Iterator<Item = crate::fleet::Opening>,
        clients: usize,
    ) -> Result<()> {
        let mut openings = openings.peekable();
        while fleet.live() < clients {
            while fleet.joining() < IN_FLIGHT && openings.peek().is_some() {
                fleet.add(openings.next().context("an opening")?)?;
            }
            fleet.turn(clock::now() + SECOND, &mut |event| self.take(&event))?;
        }
        Ok(())
    }

    fn cut_and_reopen(&mut self, fleet: &mut Fleet, cutting: bool) -> Result<()> {
        let now = clock::now();
        for (index, seen) in self
            .seen
            .iter_mut()
            .enumerate()
            .filter(|(_, seen)| seen.due <= now)
        {
            if seen.is_away {
                let committed = usize::try_from(
                    (now - self.begin).saturating_sub(SECOND / 10) * RATE / SECOND,
                )?;
                seen.behind = Some((now, committed.min(seen.counts.len())));
                fleet.reopen(
                    index,
                    dialect::join_changes("jitter", "", Some(&seen.cursor)),
                )?;
                seen.is_away = false;
                seen.due = now + PERIOD - AWAY;
            } else if cutting {
                fleet.cut(index);
                seen.is_away = true;
                seen.due = now + AWAY;
            }
        }
        Ok(())
    }

    fn take(&mut self, event: &Event<'_>) {
        let Event::Frame(client, payload, at) = event else {
            return;
        };
        let seen = &mut self.seen[*client];
        for stamp in self.stamps.find(payload) {
            if let Some(count) = seen.counts.get_mut(stamp.number as usize) {
                seen.total += usize::from(*count == 0);
                *count = count.saturating_add(1);
            }
        }
        if let Some(cursor) = cursor(payload) {
            seen.cursor.clear();
            seen.cursor.push_str(cursor);
        }
        if let Some((since, _)) = seen
            .behind
            .take_if(|(_, committed)| seen.total >= *committed)
        {
            self.replay.record(at.saturating_sub(since));
        }
    }
}

/// The position that a frame carries.
fn cursor(payload: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\"cursor\":\"";
    let start = memmem::rfind(payload, KEY)? + KEY.len();
    let end = memchr(b'"', &payload[start..])?;
    std::str::from_utf8(&payload[start..start + end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_a_frame_is_found() {
        assert_eq!(cursor(br#"[{"cursor":"abc","x":1}]"#), Some("abc"));
        assert_eq!(cursor(br#"[{"data":{}}]"#), None);
    }
}
