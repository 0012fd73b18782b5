//! A session that keeps what the server says unasked.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;

use pgrelay_test_support::{DatabaseUrl, within};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls, Socket};

/// A connection that hears notices and notifications while it is driven, which is while a statement of its own runs.
pub struct Listener {
    client: Client,
    connection: Connection<Socket, NoTlsStream>,
    heard: Vec<AsyncMessage>,
}

impl Listener {
    /// Connects.
    pub async fn connect(url: &DatabaseUrl) -> Self {
        let (client, connection) = tokio_postgres::connect(&url.to_string(), NoTls)
            .await
            .unwrap_or_else(|error| panic!("cannot connect to {url}: {error:?}"));
        Self {
            client,
            connection,
            heard: Vec::new(),
        }
    }

    /// Runs statements in the simple protocol.
    ///
    /// # Errors
    /// What the server answers, which some tests are about.
    pub async fn run(&mut self, sql: &str) -> Result<(), Error> {
        let Self {
            client,
            connection,
            heard,
        } = self;
        let mut statements = pin!(within(sql, client.batch_execute(sql)));
        loop {
            tokio::select! {
                biased;
                message = poll_fn(|context| connection.poll_message(context)) => match message {
                    Some(Ok(message)) => heard.push(message),
                    Some(Err(error)) => return Err(error),
                    None => panic!("the server closed the connection"),
                },
                outcome = &mut statements => return outcome,
            }
        }
    }

    /// The texts of the notices heard so far, of any severity.
    pub fn notices(&self) -> Vec<String> {
        let text = |message: &AsyncMessage| match message {
            AsyncMessage::Notice(notice) => Some(notice.message().to_owned()),
            _ => None,
        };
        self.heard.iter().filter_map(text).collect()
    }

    /// Channel and payload of the notifications that were sent before this call, on channels that this session listens to.
    ///
    /// It sends one of its own and waits for it: the server keeps their order.
    pub async fn notifications(&mut self) -> Vec<(String, String)> {
        const LAST: &str = "last_of_all";
        self.run(&format!("listen {LAST}; notify {LAST}"))
            .await
            .unwrap();
        loop {
            let all: Vec<_> = self.heard.iter().filter_map(notification).collect();
            if all.iter().any(|(channel, _)| channel == LAST) {
                return all
                    .into_iter()
                    .take_while(|(channel, _)| channel != LAST)
                    .collect();
            }
            let message = within(
                "a notification",
                poll_fn(|context| self.connection.poll_message(context)),
            );
            self.heard.push(message.await.unwrap().unwrap());
        }
    }
}

fn notification(message: &AsyncMessage) -> Option<(String, String)> {
    match message {
        AsyncMessage::Notification(notification) => Some((
            notification.channel().to_owned(),
            notification.payload().to_owned(),
        )),
        _ => None,
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}
