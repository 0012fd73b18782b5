//! What breaks and heals by itself: with a cursor nothing is lost and nothing comes twice, or it is said that something may be.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

mod database;
mod network;
mod refetch;
mod resume;
mod resumer;
mod writer;
