//! Broadcast from the database: how it is sent, who hears it, who reads it later, and whose schema it
//! may live in.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

mod delivery;
mod keeping;
mod private;
mod replay;
mod sending;
mod supabase;

use pgrelay_test_support::{Relay, TestDatabase};

/// A database with the whole schema, and no relay.
async fn migrated() -> TestDatabase {
    let database = TestDatabase::create().await;
    let (status, printed) = Relay::builder(database.url()).run(&["migrate"]).await;
    assert!(status.success(), "{printed}");
    database
}
