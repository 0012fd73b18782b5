//! The life of sockets and channels: how they begin, what they are answered, how they end.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

mod connect;
mod ends;
mod frames;
mod joins;
mod keys;
mod speaker;
mod tokens;
