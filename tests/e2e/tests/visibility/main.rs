//! Who sees what of a change: policies, privileges, and the leaks that others had.
#![allow(
    clippy::unwrap_used,
    reason = "this is test code: it fails the test that uses it"
)]

mod columns;
mod leaks;
mod people;
mod policies;
