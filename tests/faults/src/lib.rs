//! Nothing committed is lost, repeated, reordered or leaked while things break: seeded runs against real processes.
//!
//! A [`Schedule`] is drawn from a seed and says everything beforehand. A run plays it: PostgreSQL servers of its own, the real
//! binary, links that break between them, writers that keep book and clients that remember. In the end what clients heard is
//! held against the book and against the tables. The order of events is the machine's, so a seed makes a failure likely again
//! rather than certain. That all of this can see is shown by `tests/broken.rs`: the binary with a defect switched on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the run that uses it"
)]

mod book;
mod client;
mod fault;
mod hunt;
mod judge;
mod memory;
mod run;
mod schedule;
mod stack;
mod summary;
mod table;
mod tour;
mod violation;
mod world;
mod writer;

pub use hunt::{DEFECTS, Defect, hunt};
pub use run::{Report, run};
pub use schedule::{Class, Schedule};
pub use summary::{Counters, Summary};
pub use tour::{Tour, tour};
pub use violation::{Kind, Violation};
