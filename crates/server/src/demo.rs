//! `pgrelay demo`: everything on one machine, from nothing to keys and a page.
//!
//! Finds or makes a PostgreSQL server, installs the schema and the booking chat with two bookings,
//! prints what a person needs, and then runs the same relay as `serve` does.

mod account;
mod banner;
mod cluster;
mod error;
mod programs;
mod state;

use std::{io::Write, path::Path};

pub use error::DemoError;

use pgrelay_capture::Error as CaptureError;
use pgrelay_chat::{Error as ChatError, demo as chat_demo, schema::SchemaName};

use account::Account;
use banner::{Banner, Keys};
use chat_demo::BOOKINGS;
use cluster::Cluster;
use state::State;

use crate::{
    app::{self, App},
    chat::with_connection,
    clock::unix_now,
    config::{self, Values},
    error::Error,
    page::{self, Prefill},
    schema,
    signal::StopSignal,
    tasks::Failure,
};

/// The table that the printed line and the page follow.
const FOLLOWED: &str = "public.messages";

/// Runs the demo until it is told to stop. What a person reads goes to `out`.
///
/// Must be awaited on the main thread: the server ends with the thread that starts it.
///
/// # Errors
/// If something is missing that the demo needs, or if a part of it fails while it runs.
pub async fn run(mut values: Values, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let mut stop = StopSignal::new().map_err(Error::io("wait for signals"))?;
    let own_database = values.get("DATABASE_URL").is_none();
    let account = if own_database {
        Account::choose()?
    } else {
        Account::Own
    };
    let settings = values.demo();
    let state = State::open(&settings, &account)?;
    if values.get("PGRELAY_JWT_SECRET").is_none() {
        values = values.with_made("PGRELAY_JWT_SECRET", &state.secret("jwt-secret")?);
    }
    let mut cluster = None;
    if own_database {
        let started = tokio::select! {
            started = start_cluster(&settings, &account, &state) => started?,
            () = stop.wait() => return Ok(()),
        };
        values = values.with_made("DATABASE_URL", started.url());
        cluster = Some(started);
    }
    let url_file = own_database.then(|| state.database_url_file());
    let ready = tokio::select! {
        ready = prepare(&values, url_file.as_deref(), out) => Some(ready),
        () = stop.wait() => None,
    };
    let ended = match ready {
        None => Ok(()),
        Some(Err(
            Error::Database(CaptureError::MigrationChanged { .. })
            | Error::Chat(ChatError::MigrationChanged(_)),
        )) if own_database => Err(DemoError::OtherVersion(state.folder().to_owned()).into()),
        Some(Err(error)) => Err(error),
        Some(Ok(app)) => app.run(stop, server_lost(cluster.as_mut())).await,
    };
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
    ended
}

async fn start_cluster(
    settings: &config::Demo,
    account: &Account,
    state: &State,
) -> Result<Cluster, DemoError> {
    let programs = programs::find(settings, account).await?;
    tracing::info!(folder = %programs.bin.display(), "starting PostgreSQL {}", programs.major);
    Cluster::start(&programs, account, state, &settings.path).await
}

/// Installs and seeds the database, takes the port, and tells the person: all before anybody can be
/// served.
async fn prepare(
    values: &Values,
    url_file: Option<&Path>,
    out: &mut (dyn Write + Send),
) -> Result<App, Error> {
    let serve = values.serve()?;
    let listener = app::bind(serve.listen)?;
    let address = listener
        .local_addr()
        .map_err(Error::io("read the listening address"))?;
    let place = SchemaName::default();
    schema::prepare(&serve.database, serve.start_timeout, Some(&place)).await?;
    with_connection(&serve.database.direct, async |client| {
        chat_demo::seed(client).await
    })
    .await?;
    schema::enable(&serve.database, &[FOLLOWED]).await?;

    let keys = Keys::mint(&values.secret()?, unix_now())?;
    let program = std::env::current_exe().map_err(Error::io("find this program's own path"))?;
    let banner = Banner {
        address,
        keys: &keys,
        program: &program,
        url_file,
    };
    write!(out, "{banner}")
        .and_then(|()| out.flush())
        .map_err(Error::io("print"))?;

    let links = keys.people.first().map(banner::People::links);
    let prefill = Prefill {
        chat: links,
        key: keys
            .people
            .first()
            .map_or_else(String::new, |people| people.client.clone()),
        table: FOLLOWED.to_owned(),
        filter: format!("booking_id=eq.{}", BOOKINGS[0].id),
    };
    Ok(App {
        serve,
        listener,
        page: page::html(&prefill),
    })
}

/// Waits for the demo's server to end without being asked to.
async fn server_lost(cluster: Option<&mut Cluster>) -> Failure {
    let Some(cluster) = cluster else {
        return std::future::pending().await;
    };
    let cause = match cluster.ended().await {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("cannot be watched: {error}"),
    };
    Failure {
        task: "PostgreSQL".to_owned(),
        cause,
    }
}
