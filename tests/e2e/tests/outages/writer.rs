//! A writer that does not give up: whatever it began is committed once, however often its connection ends.

use std::time::Duration;

use pgrelay_test_support::DatabaseUrl;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::NoTls;

/// The rows of one transaction.
const ROWS: u64 = 20;

/// Creates what [`write`] writes to.
pub(crate) const TABLE: &str = "create table t (id bigint primary key, body text)";

/// Inserts the rows 1 to `last`, twenty a transaction. `written` tells how far it is.
pub(crate) async fn write(url: &DatabaseUrl, last: u64, written: &watch::Sender<u64>) {
    let url = url.to_string();
    while *written.borrow() < last {
        // A driver that ends takes the client along; the loop begins again.
        if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
            let session = async {
                loop {
                    let first = *written.borrow() + 1;
                    if first > last {
                        return;
                    }
                    let end = last.min(first + ROWS - 1);
                    // What an answer got lost of is there already.
                    let insert = format!(
                        "insert into t select i, repeat('x', 100) from generate_series({first}, {end}) i on conflict do nothing"
                    );
                    if client.batch_execute(&insert).await.is_err() {
                        return;
                    }
                    written.send_replace(end);
                }
            };
            tokio::select! {
                () = session => {}
                _ = connection => {}
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the writer is at `row`.
pub(crate) async fn reached(written: &watch::Sender<u64>, row: u64) {
    pgrelay_test_support::within(&format!("row {row} to be written"), async {
        let mut progress = written.subscribe();
        progress.wait_for(|written| *written >= row).await.unwrap();
    })
    .await;
}
