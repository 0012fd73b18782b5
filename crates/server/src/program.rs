//! The program: reads the command line and the environment, and ends with the right code.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use tracing_subscriber::{EnvFilter, fmt::time::SystemTime};

use crate::{
    Error,
    cli::Cli,
    command::{self, Terminal},
    config::{self, Values},
};

/// Bad usage, as sysexits.h has it.
const EX_USAGE: u8 = 64;

/// All of it, from the command line to the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            return match error.print() {
                Ok(()) => code.into(),
                Err(_stream_is_gone) => EX_USAGE.into(),
            };
        }
    };
    let values = Values::new(config::environment());
    let filter = log_filter(values.log_filter());
    let color = io::stderr().is_terminal() && values.get("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_ansi(color)
        .with_writer(io::stderr)
        .init();
    match run(cli, values) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("pgrelay: {}\n", error.report());
            // There is nowhere left to say that this failed.
            drop(io::stderr().write_all(text.as_bytes()));
            error.exit_code().into()
        }
    }
}

/// The filter that `text` describes. What these libraries say below these levels holds notices,
/// statements with their parameters, or frames: rows of users, which are never logged.
fn log_filter(text: &str) -> EnvFilter {
    [
        "tokio_postgres=warn",
        "tungstenite=info",
        "tokio_tungstenite=info",
    ]
    .into_iter()
    .filter_map(|directive| directive.parse().ok())
    .fold(
        EnvFilter::builder().parse_lossy(text),
        EnvFilter::add_directive,
    )
}

fn run(cli: Cli, values: Values) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("http")
        .build()
        .map_err(|source| Error::Io {
            action: "start the runtime".to_owned(),
            source,
        })?;
    let mut answers = io::BufReader::new(io::stdin());
    let terminal = Terminal {
        out: &mut io::stdout(),
        notes: &mut io::stderr(),
        answers: &mut answers,
    };
    runtime.block_on(command::run(cli.command, values, terminal))
}
