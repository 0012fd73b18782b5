//! Every statement this crate sends, so that SQL can be read as SQL. Texts are constant, values are
//! parameters. The one exception is `predicate.rs`, which puts filters together from constant pieces.

pub(crate) mod administration;
pub(crate) mod catalog;
pub(crate) mod ledger;
pub(crate) mod messages;
pub(crate) mod session;
pub(crate) mod sessions;
