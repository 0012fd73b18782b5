//! The pgrelay binary.
fn main() {}
