//! What operators do: they configure, start, watch, look after and stop a relay.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

mod commands;
mod probes;
mod secrets;
mod start;
mod stop;
mod tail;
