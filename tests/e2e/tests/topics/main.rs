//! What clients say to each other on a topic: broadcasts, presence, and how much of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

mod broadcast;
mod limits;
mod presence;
mod rest;
mod session;
