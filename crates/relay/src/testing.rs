//! For tests of this crate and of those who implement its ports: changes out of short texts, and
//! the suites every implementation of a port must pass.

mod rows;
mod source;

pub use rows::{change, page, position, table};
pub use source::{Rig, source_conformance};
