//! What is done to a run, and how it is undone.

use std::process::Command;
use std::time::Duration;

use pgrelay_test_support::{PostgresServer, Session};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;
use tokio_postgres::types::ToSql;

use crate::stack::Stack;
use crate::table::TABLES;
use crate::world::World;

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Stop,
    Crash,
    Kill,
}

/// What becomes of a table while it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alteration {
    AddColumn,
    DropColumn,
    WidenColumn,
    AddEnumValue,
    Index,
    Truncate,
    DropTrigger,
    DisableTrigger,
    Unpublish,
    Rename,
    Policy,
}

impl Alteration {
    pub(crate) const ALL: [Self; 11] = [
        Self::AddColumn,
        Self::DropColumn,
        Self::WidenColumn,
        Self::AddEnumValue,
        Self::Index,
        Self::Truncate,
        Self::DropTrigger,
        Self::DisableTrigger,
        Self::Unpublish,
        Self::Rename,
        Self::Policy,
    ];
}

/// One thing that goes wrong, for as long as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    KillRelay,
    /// Another one takes over before this one stops.
    ReplaceRelay,
    FreezeRelay(Duration),
    EndServer(End),
    /// The relay's, or everybody's.
    EndBackends {
        relays: bool,
    },
    /// One of the relay's stops in its tracks, as on a machine that swaps.
    FreezeBackend(Duration),
    /// The standby misses what is written in this time, and is promoted. The relay may die with the old server.
    FailOverLosing {
        time: Duration,
        end: End,
        relay_too: bool,
    },
    FailOver(End),
    /// A copy is taken and comes back when this time has passed.
    RestoreAfter(Duration),
    CutDatabase,
    CutDatabaseAfter(usize, Duration),
    TrickleDatabase(Duration),
    /// Until then, or until the relay has noticed.
    SwallowDatabase(Option<Duration>),
    SlowDatabase(Duration, Duration),
    CutClients,
    CutClientsAfter(usize, Duration),
    SwallowClients(Duration),
    StallReaders(Duration),
    HoldTransaction(Duration),
    OddSettings,
    Alter(Alteration),
    ForgeBells(u32),
    HoldKey(Duration),
    TakeConnections(Duration),
    LockSchema(Duration),
    LimitDescriptors(Duration),
}

impl Fault {
    /// Does it, and undoes it where it is of the kind that ends.
    pub(crate) async fn happen(&self, stack: &mut Stack, world: &World) {
        match self {
            Self::KillRelay => stack.kill_relay().await,
            Self::ReplaceRelay => stack.replace_relay().await,
            Self::FreezeRelay(time) => {
                stack.relay().freeze();
                sleep(*time).await;
                stack.relay().thaw();
            }
            Self::EndServer(end) => {
                stack.server().end_by(*end).await;
                sleep(Duration::from_millis(100)).await;
                stack.server().start().await;
            }
            Self::FailOverLosing { .. } | Self::FailOver(_) | Self::RestoreAfter(_) => {
                self.change_server(stack).await;
            }
            Self::CutDatabase => stack.link.cut(),
            Self::CutDatabaseAfter(bytes, time) => {
                stack.link.cut_after(*bytes);
                sleep(*time).await;
                stack.link.open();
            }
            Self::TrickleDatabase(time) => {
                stack.link.trickle();
                sleep(*time).await;
                stack.link.open();
            }
            Self::SwallowDatabase(time) => swallow_database(stack, *time).await,
            Self::SlowDatabase(pause, time) => {
                stack.link.slow(*pause);
                sleep(*time).await;
                stack.link.open();
            }
            Self::CutClients => stack.front.cut(),
            Self::CutClientsAfter(bytes, time) => {
                stack.front.cut_after(*bytes);
                sleep(*time).await;
                stack.front.open();
            }
            Self::SwallowClients(time) => {
                stack.front.swallow();
                sleep(*time).await;
                stack.front.cut();
                stack.front.open();
            }
            Self::StallReaders(time) => {
                world.is_stalled.set(true);
                sleep(*time).await;
                world.is_stalled.set(false);
            }
            Self::LimitDescriptors(time) => limit_descriptors(stack, *time).await,
            _ => self.in_the_database(stack).await,
        }
    }

    async fn change_server(&self, stack: &mut Stack) {
        let next = match self {
            Self::FailOverLosing {
                time,
                end,
                relay_too,
            } => {
                let mut standby = stack.standby.take().expect("a standby");
                standby.stop().await;
                sleep(*time).await;
                if *relay_too {
                    stack.end_relay().await;
                }
                stack.server().end_by(*end).await;
                standby.start().await;
                standby
            }
            Self::FailOver(end) => {
                let standby = stack.standby.take().expect("a standby");
                stack.server().end_by(*end).await;
                standby
            }
            Self::RestoreAfter(time) => {
                stack.server().stop().await;
                let mut copy = stack.server().copy();
                stack.server().start().await;
                sleep(*time).await;
                stack.server().crash().await;
                copy.start().await;
                copy
            }
            _ => return,
        };
        if !matches!(self, Self::RestoreAfter(_)) {
            next.connect().await.run("select pg_promote()").await;
        }
        stack.move_to(next);
        stack.ensure_relay().await;
    }

    /// What other users of the database do.
    async fn in_the_database(&self, stack: &mut Stack) {
        let Some(sql) = stack.try_session().await else {
            return;
        };
        match self {
            Self::EndBackends { relays } => {
                let whose = if *relays { "like" } else { "not like" };
                sql.run(&format!(
                    "select pg_terminate_backend(pid) from pg_stat_activity
                      where datname = current_database() and pid <> pg_backend_pid()
                        and application_name {whose} 'pgrelay%'"
                ))
                .await;
            }
            Self::FreezeBackend(time) => {
                let pids = sql
                    .rows(
                        "select pid from pg_stat_activity
                          where datname = current_database() and application_name like 'pgrelay%'
                          order by random() limit 1",
                    )
                    .await;
                let pid = pids.first().and_then(|row| row[0].as_ref()?.parse().ok());
                freeze_backend(pid.unwrap_or(0), *time).await;
            }
            Self::HoldTransaction(time) => {
                sql.run("begin; select pg_current_xact_id(); select count(*) from plain")
                    .await;
                sleep(*time).await;
                sql.run("rollback").await;
            }
            Self::OddSettings => odd_settings(&sql, &stack.database).await,
            Self::Alter(alteration) => alter(&sql, *alteration).await,
            Self::ForgeBells(count) => forge(&sql, *count).await,
            Self::HoldKey(time) => {
                sql.run(
                    "select pg_try_advisory_lock(pgrelay.doorbell_key()), pg_try_advisory_lock_shared(pgrelay.lease_key())",
                )
                .await;
                sleep(*time).await;
            }
            Self::TakeConnections(time) => {
                take_connections(&sql, &stack.database_url().to_string(), *time).await;
            }
            Self::LockSchema(time) => lock_schema(&sql, *time).await,
            other => unreachable!("{other:?} is not of the database"),
        }
    }
}

/// Everything that changes how values and transactions look, for all who connect from here on.
async fn odd_settings(sql: &Session, database: &str) {
    sql.run(&format!(
        "alter database {database} set datestyle = 'German, DMY';
         alter database {database} set timezone = 'Pacific/Apia';
         alter database {database} set intervalstyle = 'sql_standard';
         alter database {database} set bytea_output = 'escape';
         alter database {database} set extra_float_digits = -15;
         alter database {database} set standard_conforming_strings = off;
         alter database {database} set default_transaction_isolation = 'serializable';
         alter database {database} set synchronous_commit = off;
         select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid()"
    ))
    .await;
}

async fn take_connections(sql: &Session, url: &str, time: Duration) {
    let mut taken = Vec::new();
    // The last places are reserved for superusers, which all of us are.
    while let Ok(pair) = tokio_postgres::connect(url, NoTls).await {
        taken.push(pair);
    }
    sql.run(
        "select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name like 'pgrelay%'",
    )
    .await;
    sleep(time).await;
}

async fn lock_schema(sql: &Session, time: Duration) {
    let lock = sql
        .batch_execute(
            "set lock_timeout = '1s'; begin;
             lock table pgrelay.ledger, pgrelay.meta in access exclusive mode",
        )
        .await;
    if lock.is_ok() {
        sleep(time).await;
    }
    sql.run("rollback").await;
}

trait EndBy {
    async fn end_by(&mut self, end: End);
}

impl EndBy for PostgresServer {
    async fn end_by(&mut self, end: End) {
        match end {
            End::Stop => self.stop().await,
            End::Crash => self.crash().await,
            End::Kill => self.kill().await,
        }
    }
}

async fn swallow_database(stack: &mut Stack, time: Option<Duration>) {
    let start = Instant::now();
    stack.link.swallow();
    match time {
        Some(time) => {
            sleep(time).await;
            stack.link.cut();
        }
        // Nobody resets anything: it has to find out.
        None => {
            stack.relay().wait_ready(503).await;
            let took = start.elapsed();
            assert!(
                took < Duration::from_secs(12),
                "a connection that is half open was noticed only after {took:?}"
            );
        }
    }
    stack.link.open();
}

/// No descriptors are left for new connections; those that are there go on.
async fn limit_descriptors(stack: &mut Stack, time: Duration) {
    let pid = stack.relay().pid().to_string();
    let used = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(64, Iterator::count);
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let usual = limits.lines().find_map(|line| {
        let mut fields = line.strip_prefix("Max open files")?.split_whitespace();
        fields.next()?.parse::<usize>().ok()
    });
    let limit = |most: usize| {
        let status = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={most}:")])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "prlimit");
    };
    limit(used + 2);
    stack.front.cut();
    sleep(time).await;
    limit(usual.unwrap_or(1_024));
}

async fn alter(sql: &Session, alteration: Alteration) {
    let table = TABLES[2].sql;
    let statements = match alteration {
        Alteration::AddColumn => "alter table plain add column if not exists added text default 'new'",
        Alteration::DropColumn => "alter table plain drop column if exists added",
        Alteration::WidenColumn => "alter table plain alter column room type bigint",
        Alteration::AddEnumValue => "alter type mood add value if not exists 'great' before 'fine'",
        Alteration::Index => "create index if not exists by_tag on plain (tx)",
        Alteration::Truncate => "truncate plain",
        Alteration::DropTrigger => {
            "do $$ declare it record; begin
               for it in select tgname from pg_trigger where tgrelid = 'plain'::regclass and not tgisinternal loop
                 execute format('drop trigger %I on plain', it.tgname);
               end loop;
             end $$"
        }
        Alteration::DisableTrigger => "alter table zoo disable trigger all; alter table zoo enable always trigger all",
        Alteration::Unpublish => {
            "alter publication supabase_realtime drop table plain; alter publication supabase_realtime add table plain"
        }
        Alteration::Rename => "alter table plain rename to other; alter table other rename to plain",
        Alteration::Policy => {
            "alter table zoo enable row level security; create policy everything on zoo using (true);
             drop policy everything on zoo; alter table zoo disable row level security"
        }
    };
    // As a migration would, again and again until it gets its lock.
    for _ in 0..50 {
        let script = format!("set lock_timeout = '300ms'; {statements}");
        if sql.batch_execute(&script).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{alteration:?} never got its lock on {table} or plain");
}

/// Bells from somebody who may do nothing else.
async fn forge(sql: &Session, count: u32) {
    sql.run("set role anon").await;
    for turn in 0..count {
        let channel = ["pgrelay", "pgrelay_ledger", "pgrelay_catalog"][(turn % 3) as usize];
        let junk = "\u{1}{\"batch\": -1}'".repeat((turn % 100) as usize);
        let bell: [&(dyn ToSql + Sync); 2] = [&channel, &junk];
        let notify = sql.execute("select pg_notify($1, $2)", &bell);
        if !matches!(timeout(Duration::from_secs(5), notify).await, Ok(Ok(_))) {
            return;
        }
    }
}

async fn freeze_backend(pid: i32, time: Duration) {
    let Some(pid) = Pid::from_raw(pid) else {
        return;
    };
    // One that has ended cannot be frozen.
    if kill_process(pid, Signal::STOP).is_ok() {
        sleep(time).await;
        let _gone_meanwhile = kill_process(pid, Signal::CONT);
    }
}
