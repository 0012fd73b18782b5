//! The promises of `sql/README.md` to the readers of the ledger, held under seeded disorder.
//!
//! A run has writers that play random scripts on a real server, two sequencers that race, lose their connections and come back,
//! maintenance that switches, recycles and adds segments far more often than it would in peace, a reader that follows the ledger
//! and one that comes back with cursors of some time ago. [`run`] then holds what was delivered against what the writers were
//! told and what the tables say; [`survive`], [`restore`] and [`fork`] do so across a crash, a restored dump and a copy of the
//! files. That the judge can see is shown by [`MUTANTS`]: the shipped SQL with a defect put in.
//!
//! Not here: a standby, promoted or read from. That needs two servers and belongs to the faults.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

mod attempt;
mod crash;
mod history;
mod housekeeper;
mod judge;
mod mutant;
mod page;
mod reader;
mod restore;
mod run;
mod schema;
mod script;
mod sequencer;
mod table;
mod violation;
mod world;
mod writer;

pub use crash::survive;
pub use housekeeper::Upkeep;
pub use mutant::{MUTANTS, Mutant, Servers};
pub use reader::Visits;
pub use restore::{fork, restore};
pub use run::{Load, Verdict, run};
pub use schema::Schema;
pub use violation::{Kind, Violation};
