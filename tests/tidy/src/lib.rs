//! Rules of the house that no compiler checks.
//!
//! A rule is a function from what it looks at to a list of offences, so that each can be shown to fail; its last test holds
//! the whole tree to it. Nothing here needs a database or a network.
#![cfg(test)]

mod cargo;
mod checklist;
mod documents;
mod figures;
mod layout;
mod licences;
mod migrations;
mod named_tests;
mod reach;
mod rust_source;
mod security;
mod sql_placement;
mod tree;
mod wording;

/// Fails with the offences, one a line.
fn assert_clean(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}
