//! The `pgrelay` binary: command line, configuration, the HTTP edge, and the one place where the
//! other crates meet. Holds no decisions of its own about changes or clients.

pub mod auth;
pub mod cli;
pub mod config;
pub mod http;
pub mod secret;
pub mod shutdown;
pub mod tasks;

mod clock;
mod seam;
