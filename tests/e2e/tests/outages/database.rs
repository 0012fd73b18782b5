//! PostgreSQL that stops, crashes and comes back, and backends that are ended, while clients listen.

use futures::future::join_all;
use pgrelay_test_support::{
    PostgresServer, Relay, RelayBuilder, Role, Session, TcpProxy, TestDatabase, wait_for,
};
use tokio::sync::watch;

use crate::resumer::{Place, Resumer};
use crate::writer::{TABLE, reached, write};

/// What a relay may complain of while its database is away.
fn forgiving(relay: RelayBuilder) -> RelayBuilder {
    relay
        .allow("lost the change log")
        .allow("housekeeping failed")
        .allow("sessions cannot be kept now")
        .allow("a subscription cannot be resolved now")
        .allow("deadpool.postgres: Connection could not be recycled")
}

async fn publish(sql: &Session) {
    sql.run(&format!(
        "{TABLE}; grant select on t to anon; select pgrelay.enable('t')"
    ))
    .await;
}

#[derive(Debug, Clone, Copy)]
enum End {
    Stop,
    Crash,
}

/// Clients on one socket each, while the database ends and begins again.
async fn outlives(ends: &[End]) {
    const STEP: u64 = 800;
    let last = STEP * (ends.len() as u64 + 1);
    let mut server = PostgresServer::builder().start().await;
    let database = TestDatabase::create_on(&server.url(), Role::Superuser).await;
    let relay = forgiving(Relay::builder(database.url())).start().await;
    publish(&database.connect().await).await;
    let place = Place::new(relay.address());
    let mut resumers: Vec<Resumer> = join_all((0..3).map(|_| Resumer::begin(&place, "t"))).await;
    let written = watch::Sender::new(0);
    let ending = async {
        for (turn, end) in (1..).zip(ends) {
            reached(&written, turn * STEP).await;
            match end {
                End::Stop => server.stop().await,
                End::Crash => server.crash().await,
            }
            relay.wait_ready(503).await;
            server.start().await;
            relay.wait_ready(200).await;
        }
    };
    let until =
        |resumer| Resumer::until(resumer, move |resumer| resumer.rows.last() == Some(&last));
    let listening = join_all(resumers.iter_mut().map(until));
    futures::join!(ending, write(database.url(), last, &written), listening);
    for resumer in &resumers {
        resumer.has_everything(last);
        // Nobody had to connect again.
        assert_eq!(resumer.lives, 2, "once at first, once for the burst");
    }
    assert!(relay.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_postgresql_loses_nothing_and_repeats_nothing() {
    outlives(&[End::Stop, End::Stop]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_postgresql_loses_nothing_and_repeats_nothing() {
    outlives(&[End::Crash, End::Crash]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_ended_in_the_middle_of_a_burst_lose_nothing_and_repeat_nothing() {
    const ROWS: u64 = 4_000;
    const KILLS: u64 = 10;
    let database = TestDatabase::create().await;
    let relay = forgiving(Relay::builder(database.url())).start().await;
    publish(&database.connect().await).await;
    let place = Place::new(relay.address());
    let mut resumers: Vec<Resumer> = join_all((0..3).map(|_| Resumer::begin(&place, "t"))).await;
    let written = watch::Sender::new(0);
    let killing = async {
        let killer = database.connect_superuser().await;
        for kill in 1..=KILLS {
            reached(&written, kill * ROWS / (KILLS + 1)).await;
            // Those that listen and sequence, and every second time those of the pool too.
            let names = if kill % 2 == 0 {
                "'pgrelay%'"
            } else {
                "'pgrelay'"
            };
            killer
                .run(&format!(
                    "select pg_terminate_backend(pid) from pg_stat_activity
                      where application_name like {names} and datname = current_database()"
                ))
                .await;
        }
    };
    let until = |resumer| Resumer::until(resumer, |resumer| resumer.rows.last() == Some(&ROWS));
    let listening = join_all(resumers.iter_mut().map(until));
    futures::join!(killing, write(database.url(), ROWS, &written), listening);
    for resumer in &resumers {
        resumer.has_everything(ROWS);
    }
    assert!(relay.metric("pgrelay_capture_reconnects_total", "").await >= 1.0);
}

#[tokio::test]
async fn a_relay_that_starts_before_its_database_waits_for_it() {
    let mut server = PostgresServer::builder().start().await;
    let database = TestDatabase::create_on(&server.url(), Role::Superuser).await;
    let first = Relay::start(&database).await;
    publish(&database.connect().await).await;
    assert!(first.stop().await.success());
    server.stop().await;
    let proxy = TcpProxy::start(database.url().address()).await;
    let starting = Relay::builder(&database.url().through(proxy.address()))
        .set("PGRELAY_START_TIMEOUT", "60s")
        .start();
    let (relay, ()) = futures::join!(starting, server.start());
    let place = Place::new(relay.address());
    let mut resumer = Resumer::begin(&place, "t").await;
    database
        .connect()
        .await
        .run("insert into t values (1)")
        .await;
    resumer.until(|resumer| !resumer.rows.is_empty()).await;
    resumer.has_everything(1);
}

#[tokio::test]
async fn a_database_out_of_reach_is_waited_for_and_joins_wait_with_it() {
    let database = TestDatabase::create().await;
    let proxy = TcpProxy::start(database.url().address()).await;
    let relay = forgiving(Relay::builder(&database.url().through(proxy.address())))
        .start()
        .await;
    let sql = database.connect().await;
    publish(&sql).await;
    let place = Place::new(relay.address());
    let mut resumer = Resumer::begin(&place, "t").await;
    proxy.refuse();
    relay.wait_ready(503).await;
    sql.run("insert into t values (1)").await;
    // It connects again in the outage: its cursor is kept for it until the database can judge it.
    resumer.until(|resumer| resumer.delays > 0).await;
    let returning = resumer.until(|resumer| resumer.rows.last() == Some(&1));
    let mending = async {
        wait_for("the return", async || {
            (relay.metric("pgrelay_relay_channels", "").await > 0.0).then_some(())
        })
        .await;
        proxy.open();
    };
    futures::join!(returning, mending);
    resumer.has_everything(1);
    relay.wait_ready(200).await;
}
