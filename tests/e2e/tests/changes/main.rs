//! From a committed row to the client that subscribed to it: which changes come, and what they look like.
#![allow(
    clippy::unwrap_used,
    reason = "this is test code: it fails the test that uses it"
)]

mod bindings;
mod oversize;
mod publication;
mod rows;
mod tables;
mod transactions;
mod values;
