//! One run: a stack, writers, clients and what goes wrong, and the verdict.

use std::cell::RefCell;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use pgrelay_test_support::{PostgresServer, SECRET as SIGNING_SECRET, wait_for};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::book::{Change, Op, Version};
use crate::client::{Client, Manner, fetch};
use crate::judge::{Truth, judge, judge_cursors};
use crate::memory::{Condition, Event, Memory, Wish};
use crate::schedule::{Class, Schedule};
use crate::stack::Stack;
use crate::table::{CANARY, TABLES};
use crate::violation::{Kind, Violation};
use crate::world::{World, unix};
use crate::writer::Writer;

/// After everything works again, clients have so long to be where the tables are.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// A run that takes longer has come to nothing.
const RUN_MAX: Duration = Duration::from_secs(90);
/// Memory of a relay with these few clients and large rows, in KiB.
const MEMORY_MAX: u64 = 700 * 1024;

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// Committed changes.
    pub changes: usize,
    /// Changes that clients heard.
    pub heard: usize,
    /// Clients.
    pub clients: usize,
    /// Connections of clients after their first.
    pub reconnects: usize,
    /// Times a client was told to fetch again.
    pub refetches: usize,
    /// Clients closed because they did not keep up.
    pub overflows: usize,
    /// Faults.
    pub faults: usize,
    /// Transactions that their server acknowledged and a failover took back.
    pub forgotten: usize,
    /// From the moment when everything worked again until every client had everything.
    pub recovery: Duration,
}

/// Plays a schedule on a server, against a relay with this fail point or the ordinary one. The server, where it is fit for
/// more.
pub async fn run(
    schedule: &Schedule,
    server: PostgresServer,
    fail_point: Option<&str>,
) -> (Report, Option<PostgresServer>) {
    let work = timeout(RUN_MAX, play(schedule, server, fail_point).boxed_local());
    let stalled = |what: String| {
        let report = Report {
            violations: vec![Violation::new(Kind::Stalled, what)],
            ..Report::default()
        };
        (report, None)
    };
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => stalled(format!("no end after {RUN_MAX:?}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            stalled(text.unwrap_or_else(|| "a panic".into()))
        }
    }
}

async fn play(
    schedule: &Schedule,
    server: PostgresServer,
    fail_point: Option<&str>,
) -> (Report, Option<PostgresServer>) {
    let mut stack = Stack::start(schedule, server, fail_point)
        .boxed_local()
        .await;
    let (memories, manners) = clients(schedule, &mut stack);
    let entrance = stack.database_url().through(stack.entrance.address());
    let world = World::new(entrance, stack.front.address(), memories);
    let listening = manners.iter().enumerate().map(|(place, manner)| {
        let client = Client {
            world: &world,
            place,
            manner: *manner,
        };
        client.run()
    });
    let mut report = Report {
        faults: schedule.faults.len(),
        clients: manners.len(),
        ..Report::default()
    };
    let directing = async {
        direct(schedule, &mut stack, &world).boxed_local().await;
        report.recovery = converge(&world).await;
        // Whatever comes too much comes now.
        sleep(Duration::from_millis(150)).await;
        fetch_outcomes(&stack).await
    };
    let outcomes = tokio::select! {
        outcomes = directing => outcomes,
        _ = join_all(listening) => unreachable!("clients go on for ever"),
    };
    examine(&mut stack, &world, manners.len()).await;
    let spent = schedule.class.spends_servers();
    let (server, logs) = if fail_point.is_some() {
        stack.abandon(spent).await
    } else {
        stack.end(spent).await
    };
    judge_logs(&logs, &world);
    settle(&world, schedule.class, &outcomes, &mut report);
    (report, server)
}

/// The clients of a run, and how each of them behaves.
fn clients(schedule: &Schedule, stack: &mut Stack) -> (Vec<Memory>, Vec<Manner>) {
    let wish = |table, condition| Wish { table, condition };
    let rooms = |rooms: &[i64]| Condition::Rooms(rooms.into());
    let shapes = [
        vec![wish(Some(0), Condition::Always)],
        vec![wish(Some(0), rooms(&[1]))],
        vec![wish(None, Condition::Always)],
        vec![
            wish(Some(0), rooms(&[0, 3])),
            wish(Some(1), Condition::Asked),
        ],
        vec![wish(Some(2), rooms(&[0, 1, 2])), wish(Some(0), rooms(&[2]))],
    ];
    let slow = (schedule.class == Class::ReadersSlow).then(|| stack.relay().address());
    let (mut memories, mut manners) = (Vec::new(), Vec::new());
    for number in 0..12 + schedule.crowd {
        let crowd = vec![wish(Some(0), rooms(&[i64::try_from(number % 4).unwrap()]))];
        let shape = match number {
            0..12 => shapes[number % shapes.len()].clone(),
            _ => crowd,
        };
        let resumes = !(10..12).contains(&number);
        let name = format!("{} {number}", if resumes { "resuming" } else { "stock" });
        memories.push(Memory::new(name, resumes, shape));
        manners.push(Manner {
            slow: slow.filter(|_| number < 3),
            token_seconds: schedule.token_seconds.filter(|_| resumes),
        });
    }
    (memories, manners)
}

/// Writes and breaks things until all is written and everything works again.
async fn direct(schedule: &Schedule, stack: &mut Stack, world: &World) {
    wait_for("every client to be live", async || {
        let mut memories = world.memories.iter();
        memories
            .all(|memory| memory.borrow().was_live)
            .then_some(())
    })
    .await;
    let mut dice = schedule.dice.clone();
    let writers = (0..schedule.load.writers).map(|number| {
        let writer = Writer {
            world,
            number,
            dice: dice.fork(),
            load: &schedule.load,
            round: 0,
        };
        writer.run()
    });
    let writing = join_all(writers);
    let start = Instant::now();
    let breaking = async {
        for (at, fault) in &schedule.faults {
            sleep_until(start + *at).await;
            fault.happen(stack, world).boxed_local().await;
        }
    };
    futures::join!(writing, breaking);
    stack.heal().await;
    mark(stack, world).await;
}

/// A last transaction that concerns every client.
async fn mark(stack: &Stack, world: &World) {
    const TAG: &str = "w.mark.1";
    let sql = stack.session().await;
    let place = world
        .book
        .borrow_mut()
        .begin(TAG.into(), world.tick(), unix().as_secs());
    sql.run(&format!("begin; insert into outcomes values ('{TAG}')"))
        .await;
    for (table, name) in TABLES.iter().enumerate() {
        let rows = sql
            .rows(&format!(
                "insert into {} (id, room, kind, body, tx) select i, i % 4, 1, '', '{TAG}'
                   from generate_series(900, 903) i returning id, life",
                name.sql
            ))
            .await;
        for row in rows {
            let number = |place: usize| row[place].as_ref().unwrap().parse().unwrap();
            let version = Version {
                table,
                id: number(0),
                life: number(1),
                v: 1,
            };
            let op = Op::Insert;
            world.book.borrow_mut().0[place]
                .changes
                .push(Change { op, version });
        }
    }
    sql.run("commit").await;
    world.book.borrow_mut().0[place].acknowledged = Some(world.tick());
}

/// Waits until every client has what the tables have; how long that took.
async fn converge(world: &World) -> Duration {
    let start = Instant::now();
    loop {
        let behind = match fetch(world).await {
            Some(rows) => who_is_behind(world, &rows),
            None => Some("the database does not answer".into()),
        };
        let Some(behind) = behind else {
            return start.elapsed();
        };
        if start.elapsed() > RECOVERY_MAX {
            let kind = if behind.ends_with("live") {
                Kind::Diverged
            } else {
                Kind::Stalled
            };
            world.notice(kind, format!("after {RECOVERY_MAX:?}: {behind}"));
            return start.elapsed();
        }
        sleep(Duration::from_millis(40)).await;
    }
}

/// A client that does not have what it should, if there is one.
fn who_is_behind(world: &World, rows: &[Version]) -> Option<String> {
    for memory in world.memories.iter().map(RefCell::borrow) {
        let has_mark =
            memory.events.iter().rev().take(64).any(
                |event| matches!(event, Event::Change(heard) if heard.tag.starts_with("w.mark")),
            );
        let fetched_mark = memory.rows.keys().any(|(_, id)| (900..904).contains(id));
        if !has_mark && !fetched_mark {
            return Some(format!("{} has not got the mark", memory.name));
        }
        if !memory.resumes {
            continue;
        }
        let mut wanted = 0;
        for version in rows.iter().filter(|version| memory.wants(**version)) {
            wanted += 1;
            let here = memory.rows.get(&(version.table, version.id));
            if here != Some(&(version.life, version.v)) {
                let state = if memory.is_live { "live" } else { "not live" };
                return Some(format!(
                    "{} has {here:?} of {version:?} and is {state}",
                    memory.name
                ));
            }
        }
        if memory.rows.len() != wanted {
            let extra = memory.rows.len() - wanted;
            return Some(format!(
                "{} has {extra} rows that are gone and is live",
                memory.name
            ));
        }
    }
    None
}

async fn fetch_outcomes(stack: &Stack) -> HashSet<String> {
    let rows = stack.session().await.rows("select tag from outcomes").await;
    rows.into_iter().filter_map(|row| row[0].clone()).collect()
}

/// Looks at the relay itself.
async fn examine(stack: &mut Stack, world: &World, clients: usize) {
    let relay = stack.relay();
    let lost = relay.metric("pgrelay_capture_lost_wakeups_total", "").await;
    if lost > 0.0 {
        world.notice(
            Kind::Stalled,
            format!("{lost} writers committed without ringing"),
        );
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid()));
    let memory = status.unwrap_or_default().lines().find_map(|line| {
        let kilobytes = line.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().ok()
    });
    let files = std::fs::read_dir(format!("/proc/{}/fd", relay.pid())).map_or(0, Iterator::count);
    if memory.is_none_or(|memory| memory > MEMORY_MAX) || files > clients + 100 {
        let what = format!("{memory:?} KiB of memory, {files} descriptors, {clients} clients");
        world.notice(Kind::Bounds, what);
    }
}

/// Nothing secret is logged, and nothing has broken.
fn judge_logs(logs: &[Vec<String>], world: &World) {
    for line in logs.iter().flatten() {
        if ["eyJ", CANARY, SIGNING_SECRET]
            .iter()
            .any(|secret| line.contains(secret))
        {
            world.notice(Kind::Secret, line.clone());
        }
        if line.contains("panicked at") {
            world.notice(Kind::Broke, line.clone());
        }
    }
}

fn settle(world: &World, class: Class, outcomes: &HashSet<String>, report: &mut Report) {
    let book = world.book.borrow();
    let truth = Truth::new(&book.0, outcomes, class);
    report.changes = truth.changes();
    report.forgotten = truth.forgotten();
    report.violations.append(&mut world.noticed.borrow_mut());
    let memories: Vec<_> = world.memories.iter().map(RefCell::borrow).collect();
    for memory in &memories {
        report.violations.extend(judge(memory, &truth));
        report.reconnects += memory.connections.saturating_sub(1);
        report.overflows += memory.overflows;
        for event in &memory.events {
            match event {
                Event::Change(_) => report.heard += 1,
                Event::Refetch(_) => report.refetches += 1,
            }
        }
    }
    let resuming = memories.iter().map(|memory| &**memory);
    report.violations.extend(judge_cursors(resuming));
}
