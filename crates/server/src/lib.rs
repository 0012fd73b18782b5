//! The `pgrelay` binary: command line, configuration, the HTTP edge, and the one place where the
//! other crates meet. Holds no decisions of its own about changes or clients.

pub mod app;
pub mod auth;
mod chain;
mod chat;
pub mod cli;
mod clock;
pub mod command;
pub mod config;
pub mod demo;
mod error;
pub mod http;
mod page;
mod program;
mod schema;
pub mod secret;
pub mod shutdown;
pub mod signal;
pub mod tail;
pub mod tasks;
mod token;

pub use error::Error;
pub use program::main;
