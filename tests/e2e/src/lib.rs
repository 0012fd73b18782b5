//! What several end-to-end tests share.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

pub mod chat;
