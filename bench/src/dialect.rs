//! How to join and publish in the protocol of each measured server.

use std::net::SocketAddr;

use crate::{
    fleet::Opening,
    frame::{BINARY, TEXT, masked},
    stamp::Stamp,
};

/// Size of what a subscriber receives for one message, in bytes and about.
const MESSAGE_BYTES: usize = 256;

/// Channels of one client of a relay. More than by default, so that publishing takes about as few connections as with peers,
/// where one may publish to any topic.
pub(crate) const CHANNELS_MAX: usize = 3_000;

/// A protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Of Supabase Realtime, with this key.
    Phoenix {
        key: String,
    },
    /// Of the small servers here: the path is the topic, a message to publish is a topic, a line feed and the content.
    Topic,
    SocketIo,
    Nats,
    Nchan,
}

impl Dialect {
    /// A client that receives what is published on `topic`.
    pub(crate) fn subscriber(&self, address: SocketAddr, topic: &str) -> Opening {
        match self {
            Self::Phoenix { .. } => self.publisher(address, &[topic]),
            Self::Topic => opening(
                address,
                &format!("/{topic}"),
                Vec::new(),
                Some((b"joined", 1)),
            ),
            Self::SocketIo => socket_io(address, topic),
            Self::Nats => {
                let hello = format!("{NATS_CONNECT}SUB {topic} 1\r\nPING\r\n");
                opening(
                    address,
                    "/",
                    masked(BINARY, hello.as_bytes()),
                    Some((b"PONG", 1)),
                )
            }
            Self::Nchan => opening(address, &format!("/sub/{topic}"), Vec::new(), None),
        }
    }

    /// Topics that one client may publish on.
    pub(crate) fn topics_per_publisher(&self) -> usize {
        match self {
            Self::Phoenix { .. } => CHANNELS_MAX,
            Self::Topic | Self::SocketIo | Self::Nats | Self::Nchan => usize::MAX,
        }
    }

    /// A client that publishes on `topics`.
    pub(crate) fn publisher(&self, address: SocketAddr, topics: &[&str]) -> Opening {
        match self {
            Self::Phoenix { key } => {
                let join = |topic: &&str| {
                    let text = format!(
                        r#"["1","1","realtime:{topic}","phx_join",{{"config":{{"broadcast":{{"self":false,"ack":false}}}}}}]"#
                    );
                    masked(TEXT, text.as_bytes())
                };
                let hello = topics.iter().flat_map(join).collect();
                opening(
                    address,
                    &phoenix_path(key),
                    hello,
                    Some((b"phx_reply", topics.len())),
                )
            }
            Self::Topic => opening(address, "/", Vec::new(), Some((b"joined", 1))),
            Self::SocketIo => socket_io(address, ""),
            Self::Nats => {
                let hello = format!("{NATS_CONNECT}PING\r\n");
                opening(
                    address,
                    "/",
                    masked(BINARY, hello.as_bytes()),
                    Some((b"PONG", 1)),
                )
            }
            Self::Nchan => Opening {
                path: None,
                ..opening(address, "", Vec::new(), None)
            },
        }
    }

    /// What a publisher sends to publish `stamp` on `topic`.
    pub(crate) fn publication(&self, topic: &str, stamp: Stamp) -> Vec<u8> {
        let content =
            |envelope: usize| format!(r#"{{"s":"{}"}}"#, stamp.text(MESSAGE_BYTES - envelope - 8));
        match self {
            Self::Phoenix { .. } => {
                let content = content(78 + topic.len());
                let text = format!(
                    r#"["1","2","realtime:{topic}","broadcast",{{"type":"broadcast","event":"m","payload":{content}}}]"#
                );
                masked(TEXT, text.as_bytes())
            }
            Self::Topic => masked(TEXT, format!("{topic}\n{}", content(0)).as_bytes()),
            Self::SocketIo => {
                let text = format!(r#"42["publish","{topic}",{}]"#, content(10));
                masked(TEXT, text.as_bytes())
            }
            Self::Nats => {
                let content = content(14 + topic.len());
                let text = format!("PUB {topic} {}\r\n{content}\r\n", content.len());
                masked(BINARY, text.as_bytes())
            }
            Self::Nchan => {
                let content = content(0);
                let head = format!(
                    "POST /pub/{topic} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                    content.len()
                );
                [head, content].concat().into_bytes()
            }
        }
    }
}

const NATS_CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"1\",\"protocol\":1}\r\n";

/// Where a relay upgrades.
pub(crate) fn phoenix_path(key: &str) -> String {
    format!("/realtime/v1/websocket?vsn=2.0.0&apikey={key}")
}

/// A client of the relay that receives changes of `table` in `public` through this filter.
pub(crate) fn changes(address: SocketAddr, key: &str, table: &str, filter: &str) -> Opening {
    let hello = join_changes(table, filter, None);
    opening(
        address,
        &phoenix_path(key),
        hello,
        Some((b"Subscribed to PostgreSQL", 1)),
    )
}

/// The join of such a client; with `since`, one that wants cursors.
pub(crate) fn join_changes(table: &str, filter: &str, since: Option<&str>) -> Vec<u8> {
    let filter = if filter.is_empty() {
        String::new()
    } else {
        format!(r#","filter":"{filter}""#)
    };
    let since = since.map_or(String::new(), |since| format!(r#","since":"{since}""#));
    let text = format!(
        r#"["1","1","realtime:{table}","phx_join",{{"config":{{"postgres_changes":[{{"event":"INSERT","schema":"public","table":"{table}"{filter}{since}}}]}}}}]"#
    );
    masked(TEXT, text.as_bytes())
}

/// What keeps a client of the relay alive.
pub(crate) fn heartbeat() -> Vec<u8> {
    masked(TEXT, br#"[null,"9","phoenix","heartbeat",{}]"#)
}

fn socket_io(address: SocketAddr, topic: &str) -> Opening {
    let path = format!("/socket.io/?EIO=4&transport=websocket&topic={topic}");
    opening(address, &path, masked(TEXT, b"40"), Some((b"joined", 1)))
}

fn opening(
    address: SocketAddr,
    path: &str,
    hello: Vec<u8>,
    joined: Option<(&'static [u8], usize)>,
) -> Opening {
    Opening {
        address,
        path: Some(path.into()),
        hello,
        joined,
        receive_buffer: None,
    }
}
