//! Carries out one command of the command line.

mod admin;
mod running;

use std::io::{BufRead, Write};

use futures::future;

use crate::{
    app::{self, App},
    cli::{Command, ServeFlags},
    clock::unix_now,
    config::Values,
    demo,
    error::Error,
    page::{self, Prefill},
    schema,
    signal::StopSignal,
    tail, token,
};

/// Where a command prints.
pub struct Terminal<'a> {
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Notes to the person, apart from the results.
    pub notes: &'a mut (dyn Write + Send),
    /// Where the person answers.
    pub answers: &'a mut (dyn BufRead + Send),
}

impl std::fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

/// Carries out `command` with the settings `values`.
///
/// # Errors
/// Says what failed and which code to end with.
pub async fn run(command: Command, values: Values, terminal: Terminal<'_>) -> Result<(), Error> {
    let Terminal {
        out,
        notes,
        answers,
    } = terminal;
    match command {
        Command::Demo(flags) => demo::run(flags.over(values), out).await,
        Command::Serve(flags) => serve(&flags, values).await,
        Command::Token(flags) => {
            let token = token::make(&flags, &values.secret()?, unix_now())?;
            writeln!(out, "{token}").map_err(Error::io("print"))
        }
        Command::Tail(flags) => {
            let settings = flags.over(values).tail()?;
            Ok(tail::run(&settings, (&flags).into(), out, notes).await?)
        }
        Command::Migrate(flags) => admin::migrate(&flags, values, out).await,
        Command::Enable(flags) => admin::enable(&flags, values, out).await,
        Command::Disable(flags) => admin::disable(&flags, values, out).await,
        Command::Status(flags) => admin::status(&flags, values, out).await,
        Command::Doctor(flags) => admin::doctor(&flags, values, out).await,
        Command::Uninstall(flags) => admin::uninstall(&flags, values, (out, notes), answers).await,
    }
}

async fn serve(flags: &ServeFlags, values: Values) -> Result<(), Error> {
    let values = flags.over(values);
    let serve = values.serve()?;
    for key in values.unknown() {
        tracing::warn!(key, "there is no such setting; it is ignored");
    }
    if serve.signing.is_weak() {
        tracing::warn!("PGRELAY_JWT_SECRET is shorter than 32 bytes: it can be guessed");
    }
    let mut stop = StopSignal::new().map_err(Error::io("wait for signals"))?;
    let listener = app::bind(serve.listen)?;
    if serve.auto_migrate {
        tokio::select! {
            prepared = schema::prepare(&serve.database, serve.start_timeout, None) => prepared?,
            () = stop.wait() => return Ok(()),
        };
    }
    let page = page::html(&Prefill {
        table: "public.messages".to_owned(),
        ..Prefill::default()
    });
    App {
        serve,
        listener,
        page,
    }
    .run(stop, future::pending())
    .await
}
