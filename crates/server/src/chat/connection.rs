//! A connection for commands: the chat's schema is installed, seeded and examined over it.

use std::{future::poll_fn, pin::pin};

use pgrelay_capture::Endpoint;
use tokio_postgres::{AsyncMessage, Client};

use crate::error::Error;

/// How a migration announces what needs more rights.
const NEEDS: &str = "pgrelay-needs: ";

/// Does `work` on a connection of its own; with the SQL that the server said somebody with more rights
/// has to run.
///
/// # Errors
/// If there is no connection, or as `work` says.
pub(crate) async fn with_connection<T>(
    endpoint: &Endpoint,
    work: impl AsyncFnOnce(&mut Client) -> Result<T, pgrelay_chat::Error>,
) -> Result<(T, Vec<String>), Error> {
    let (mut client, mut link) = endpoint.connect().await?;
    let mut needs = Vec::new();
    let mut work = pin!(work(&mut client));
    loop {
        let message = tokio::select! {
            biased;
            done = &mut work => return Ok((done?, needs)),
            message = poll_fn(|context| link.poll_message(context)) => message,
        };
        match message {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                needs.extend(notice.message().strip_prefix(NEEDS).map(str::to_owned));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                // What is still awaited hears that the connection is gone.
                drop(link);
                return Ok((work.await?, needs));
            }
        }
    }
}
