//! Relays that die and connections that break, in the middle of bursts.

use futures::future::join_all;
use pgrelay_test_support::{Relay, Session, TcpProxy, TestDatabase};
use tokio::sync::watch;

use crate::resumer::{Place, Resumer};
use crate::writer::{TABLE, reached, write};

async fn published(database: &TestDatabase) -> Session {
    let sql = database.connect().await;
    sql.run(&format!(
        "{TABLE}; grant select on t to anon; select pgrelay.enable('t')"
    ))
    .await;
    sql
}

/// Lets every resumer go on until it has the row `last`.
async fn all_until(resumers: &mut [Resumer], last: u64) {
    let until =
        |resumer| Resumer::until(resumer, move |resumer| resumer.rows.last() == Some(&last));
    join_all(resumers.iter_mut().map(until)).await;
}

async fn resumers(place: &Place, number: usize) -> Vec<Resumer> {
    join_all((0..number).map(|_| Resumer::begin(place, "t"))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_killed_in_the_middle_of_a_burst_lose_nothing_and_repeat_nothing() {
    const ROWS: u64 = 6_000;
    const LIVES: u64 = 4;
    let database = TestDatabase::create().await;
    let mut relay = Relay::start(&database).await;
    let _sql = published(&database).await;
    let place = Place::new(relay.address());
    let mut resumers = resumers(&place, 4).await;
    let written = watch::Sender::new(0);
    let killing = async {
        for life in 1..LIVES {
            reached(&written, life * ROWS / LIVES).await;
            relay.kill().await;
            relay = Relay::start(&database).await;
            place.send_replace(relay.address());
        }
        relay
    };
    let writing = write(database.url(), ROWS, &written);
    let (relay, (), ()) = futures::join!(killing, writing, all_until(&mut resumers, ROWS));
    for resumer in &resumers {
        resumer.has_everything(ROWS);
        assert_eq!(resumer.cursors, resumers[0].cursors);
    }
    assert!(relay.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_in_the_middle_of_a_burst_lose_nothing_and_repeat_nothing() {
    const ROWS: u64 = 6_000;
    const CUTS: u64 = 25;
    let database = TestDatabase::create().await;
    // A ring too small for the burst: some resume from memory, some from the log.
    let relay = Relay::builder(database.url())
        .set("PGRELAY_RING_BYTES_MAX", "100KiB")
        .start()
        .await;
    let _sql = published(&database).await;
    let proxy = TcpProxy::start(relay.address()).await;
    let place = Place::new(proxy.address());
    let mut resumers = resumers(&place, 4).await;
    let written = watch::Sender::new(0);
    let cutting = async {
        for cut in 1..=CUTS {
            reached(&written, cut * ROWS / (CUTS + 1)).await;
            proxy.cut();
        }
    };
    let writing = write(database.url(), ROWS, &written);
    futures::join!(cutting, writing, all_until(&mut resumers, ROWS));
    for resumer in &resumers {
        resumer.has_everything(ROWS);
        assert_eq!(resumer.cursors, resumers[0].cursors);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_away_for_a_long_burst_catches_up_beside_the_living() {
    const ROWS: u64 = 6_000;
    let database = TestDatabase::create().await;
    let relay = Relay::start(&database).await;
    let _sql = published(&database).await;
    let place = Place::new(relay.address());
    let mut away = resumers(&place, 3).await;
    let mut living = resumers(&place, 1).await;
    let written = watch::Sender::new(0);
    let writing = write(database.url(), ROWS, &written);
    let returning = async {
        reached(&written, ROWS / 2).await;
        all_until(&mut away, ROWS).await;
    };
    futures::join!(writing, returning, all_until(&mut living, ROWS));
    for resumer in away.iter().chain(&living) {
        resumer.has_everything(ROWS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_move_between_two_relays_without_loss_or_repetition() {
    const ROWS: u64 = 4_000;
    const MOVES: u64 = 8;
    let database = TestDatabase::create().await;
    let relays = [Relay::start(&database).await, Relay::start(&database).await];
    let _sql = published(&database).await;
    let proxies = [
        TcpProxy::start(relays[0].address()).await,
        TcpProxy::start(relays[1].address()).await,
    ];
    let place = Place::new(proxies[0].address());
    let mut resumers = resumers(&place, 3).await;
    let written = watch::Sender::new(0);
    let moving = async {
        for turn in 1..=MOVES {
            reached(&written, turn * ROWS / (MOVES + 1)).await;
            let next = usize::try_from(turn % 2).unwrap();
            place.send_replace(proxies[next].address());
            proxies[1 - next].cut();
        }
    };
    let writing = write(database.url(), ROWS, &written);
    futures::join!(moving, writing, all_until(&mut resumers, ROWS));
    for resumer in &resumers {
        resumer.has_everything(ROWS);
    }
}
