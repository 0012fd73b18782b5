//! What makes no sense gets the documented answer, or none, and harms nobody.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

use std::net::SocketAddr;

use pgrelay_e2e::{Stage, Subscriber};
use pgrelay_test_support::{Vsn, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};

const TOPIC: &str = "realtime:room";

/// A stage with somebody who must not notice anything.
struct Neighbourhood {
    stage: Stage,
    neighbours: [Subscriber; 2],
    rows: usize,
}

impl Neighbourhood {
    async fn open() -> Self {
        // One shard: everybody shares everything.
        let stage = Stage::open_with(|relay| {
            relay
                .set("PGRELAY_SHARDS", "1")
                .set("PGRELAY_JOIN_ERROR_DELAY", "0ms")
                .set("PGRELAY_CONNECT_ERROR_DELAY", "0ms")
        })
        .await;
        stage
            .publish("create table t (id int primary key)", &["t"])
            .await;
        let entries = json!([{"schema": "public", "table": "t"}]);
        let neighbours = [
            stage.subscribe(entries.clone()).await,
            stage.subscribe(entries).await,
        ];
        Self {
            stage,
            neighbours,
            rows: 0,
        }
    }

    fn address(&self) -> SocketAddr {
        self.stage.relay.address()
    }

    /// The neighbours hear of one more row, and of that one only.
    async fn is_well(&mut self, after: &str) {
        self.rows += 1;
        let row = self.rows;
        self.stage
            .sql
            .run(&format!("insert into t values ({row})"))
            .await;
        for neighbour in &mut self.neighbours {
            let heard = neighbour.heard_briefly(&self.stage.sql).await;
            assert_eq!(heard, [format!(r#"INSERT t {{"id":{row}}}"#)], "{after}");
        }
    }
}

/// A binary frame as clients send it, cut off after `length` bytes.
fn broadcast(length: usize) -> Vec<u8> {
    let mut frame = vec![3, 1, 1, 13, 1, 2, 1];
    frame.extend_from_slice(b"12realtime:roome{}{}");
    frame.truncate(length);
    frame
}

#[tokio::test]
async fn frames_that_cannot_be_read_are_dropped_and_the_socket_goes_on() {
    let mut neighbourhood = Neighbourhood::open().await;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let long = "x".repeat(300);
    let texts = |vsn: Vsn| -> Vec<String> {
        let mut texts: Vec<String> = [
            "",
            " ",
            "{",
            "nonsense",
            "null",
            "1",
            "\"text\"",
            "[]",
            "{}",
            "\u{0}",
            "[1,2,3,4,5",
            "}{",
        ]
        .map(String::from)
        .into();
        texts.push(deep.clone());
        let own = match vsn {
            Vsn::V1 => [
                json!({"topic": TOPIC, "event": "phx_join", "payload": {}}),
                json!({"topic": TOPIC, "event": "phx_join", "ref": "1"}),
                json!({"topic": TOPIC, "payload": {}, "ref": "1"}),
                json!({"event": "phx_join", "payload": {}, "ref": "1"}),
                json!({"topic": 5, "event": "phx_join", "payload": {}, "ref": "1"}),
                json!({"topic": TOPIC, "event": null, "payload": {}, "ref": "1"}),
                json!({"topic": TOPIC, "event": long, "payload": {}, "ref": "1"}),
                json!({"topic": TOPIC, "event": "phx_join", "payload": {}, "ref": long}),
                // The other version's form.
                json!(["1", "1", TOPIC, "phx_join", {}]),
            ],
            Vsn::V2 => [
                json!(["1", "1", TOPIC, "phx_join"]),
                json!(["1", "1", TOPIC]),
                json!(["1"]),
                json!(["1", "1", 5, "phx_join", {}]),
                json!(["1", "1", TOPIC, null, {}]),
                json!(["1", "1", TOPIC, {}, {}]),
                json!(["1", "1", TOPIC, long, {}]),
                json!([long, "1", TOPIC, "phx_join", {}]),
                json!({"topic": TOPIC, "event": "phx_join", "payload": {}, "ref": "1"}),
            ],
        };
        texts.extend(own.map(|value| value.to_string()));
        texts
    };
    for vsn in [Vsn::V1, Vsn::V2] {
        let mut client = neighbourhood.stage.connect(vsn).await;
        for text in texts(vsn) {
            client.send(Message::text(text.clone())).await;
            client.heartbeat().await;
            assert_eq!(client.take_unclaimed(), [], "{text:?}");
        }
        client.join(TOPIC, json!({})).await;
        neighbourhood.is_well("unreadable text").await;
    }
}

#[tokio::test]
async fn binary_frames_that_cannot_be_read_are_dropped_and_the_socket_goes_on() {
    let mut neighbourhood = Neighbourhood::open().await;
    let mut frames: Vec<Vec<u8>> = (0..25).map(broadcast).collect();
    let edit = |place: usize, byte: u8| {
        let mut frame = broadcast(usize::MAX);
        frame[place] = byte;
        frame
    };
    frames.extend([
        // Kinds that clients do not send.
        edit(0, 0),
        edit(0, 1),
        edit(0, 2),
        edit(0, 4),
        edit(0, 255),
        // Lengths beyond the end.
        edit(1, 255),
        edit(3, 255),
        edit(5, 255),
        // No UTF-8 in the topic, no JSON in the metadata.
        edit(9, 0xff),
        edit(23, b'x'),
        vec![0xff; 1_000],
    ]);
    for vsn in [Vsn::V1, Vsn::V2] {
        let mut client = neighbourhood.stage.connect(vsn).await;
        client.join(TOPIC, json!({})).await;
        for frame in &frames {
            client
                .send(Message::binary(Bytes::from(frame.clone())))
                .await;
            client.heartbeat().await;
            assert_eq!(client.take_unclaimed(), [], "{frame:?}");
        }
        neighbourhood.is_well("unreadable bytes").await;
    }
}

#[tokio::test]
async fn text_that_is_no_utf8_is_dropped_and_the_socket_goes_on() {
    let mut neighbourhood = Neighbourhood::open().await;
    let key = neighbourhood.stage.relay.anon_key();
    let mut socket = Raw::upgrade(neighbourhood.address(), &key).await;
    socket.write(&masked(0x81, b"\xff\xfe")).await;
    let beat = br#"[null,"7","phoenix","heartbeat",{}]"#;
    socket.write(&masked(0x81, beat)).await;
    let answer = r#"[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!(socket.frame().await, (0x81, answer.as_bytes().to_vec()));
    neighbourhood.is_well("text that is none").await;
}

#[tokio::test]
async fn requests_that_make_no_sense_get_the_documented_answers() {
    let mut neighbourhood = Neighbourhood::open().await;
    let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
    for vsn in [Vsn::V1, Vsn::V2] {
        let mut client = neighbourhood.stage.connect(vsn).await;
        for topic in ["unknown", "realtime:unknown", "", "phoenix"] {
            let reply = client.request(topic, "anything", json!({})).await;
            assert_eq!(reply.payload, unmatched, "{topic:?}");
        }
        let entries = json!([
            {"schema": "public", "table": "t", "filter": "nonsense"},
            {"schema": "public", "table": "unknown"},
            {"schema": "public", "table": "t", "filter": "id=eq.x", "since": "now"},
            {"schema": "public", "table": "t", "since": 5},
        ]);
        client
            .join(TOPIC, json!({"postgres_changes": entries}))
            .await;
        let mut messages = Vec::new();
        for _ in 0..4 {
            let frame = client
                .expect("a refusal", |frame| frame.event == "system")
                .await;
            assert_eq!(frame.payload["status"], "error", "{frame:?}");
            messages.push(frame.payload["message"].as_str().unwrap().to_owned());
        }
        for part in [
            r#"Error parsing `filter` params: ["nonsense"]"#,
            "Please check Realtime is enabled for the given connect parameters: [event: *, schema: public, table: unknown,",
            r#"invalid input syntax for type integer: "x""#,
            "Error parsing `since` params: expected \"now\" or a cursor",
        ] {
            let told = messages.iter().any(|message| message.contains(part));
            assert!(told, "{part}: {messages:?}");
        }
        neighbourhood.is_well("senseless requests").await;
    }
}

#[tokio::test]
async fn a_huge_message_is_read_up_to_the_limit_and_refused_above() {
    const LIMIT: usize = 5_000_000;
    let mut neighbourhood = Neighbourhood::open().await;
    let head = r#"["1","1","realtime:room","phx_join",{"x":""#;
    let tail = r#""}]"#;
    let fill = "x".repeat(LIMIT - head.len() - tail.len());
    let mut at_the_limit = neighbourhood.stage.connect(Vsn::V2).await;
    at_the_limit
        .send(Message::text(format!("{head}{fill}{tail}")))
        .await;
    let reply = at_the_limit
        .expect("a reply", |frame| frame.event == "phx_reply")
        .await;
    assert_eq!(reply.payload["status"], "ok");
    neighbourhood.is_well("the largest message").await;
    for message in [
        Message::text(format!("{head}{fill}x{tail}")),
        Message::binary(vec![3; LIMIT + 1]),
    ] {
        let mut client = neighbourhood.stage.connect(Vsn::V2).await;
        client.send(message).await;
        assert_eq!(client.expect_close().await, Some(1009));
        neighbourhood.is_well("too large a message").await;
    }
    at_the_limit.heartbeat().await;
}

#[tokio::test]
async fn fragments_count_together() {
    let mut neighbourhood = Neighbourhood::open().await;
    let key = neighbourhood.stage.relay.anon_key();
    let mut socket = Raw::upgrade(neighbourhood.address(), &key).await;
    // A heartbeat in three fragments, with a ping between.
    socket.write(&masked(0x01, br#"[null,"7","#)).await;
    socket.write(&masked(0x00, br#""phoenix","#)).await;
    socket.write(&masked(0x89, b"between")).await;
    socket.write(&masked(0x80, br#""heartbeat",{}]"#)).await;
    assert_eq!(socket.frame().await, (0x8a, b"between".to_vec()));
    let answer = r#"[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!(socket.frame().await, (0x81, answer.as_bytes().to_vec()));
    // Six fragments of a million bytes.
    let part = vec![b'x'; 1_000_000];
    for opcode in [0x01, 0x00, 0x00, 0x00, 0x00, 0x00] {
        socket.try_write(&masked(opcode, &part)).await;
    }
    assert_eq!(socket.close_code().await, 1009);
    neighbourhood.is_well("too many fragments").await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_close_their_socket() {
    let mut neighbourhood = Neighbourhood::open().await;
    let key = neighbourhood.stage.relay.anon_key();
    let beat: &[u8] = br#"[null,"7","phoenix","heartbeat",{}]"#;
    let unmasked = {
        let mut frame = vec![0x81, u8::try_from(beat.len()).unwrap()];
        frame.extend_from_slice(beat);
        frame
    };
    let cases = [
        ("unmasked", unmasked),
        ("a reserved bit", masked(0xc1, beat)),
        ("a reserved opcode", masked(0x83, beat)),
        ("a continuation of nothing", masked(0x80, beat)),
        ("a fragmented ping", masked(0x09, b"x")),
        ("a ping too long", masked(0x89, &[b'x'; 126])),
    ];
    for (what, frame) in cases {
        let mut socket = Raw::upgrade(neighbourhood.address(), &key).await;
        socket.write(&frame).await;
        assert_eq!(socket.close_code().await, 1002, "{what}");
        neighbourhood.is_well(what).await;
    }
}

#[tokio::test]
async fn connections_that_never_become_sockets_harm_nobody() {
    let mut neighbourhood = Neighbourhood::open().await;
    let address = neighbourhood.address();
    let mut open = Vec::new();
    for start in [
        &b""[..],
        b"GET /realtime/v1/websocket?vsn=2.0.0",
        b"GET /realtime/v1/websocket HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: up",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x81\x85\x00\x00\x00\x00hello",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(start).await.unwrap();
        open.push(stream);
        neighbourhood.is_well(&String::from_utf8_lossy(start)).await;
    }
    // Half of a frame, and then nothing.
    let key = neighbourhood.stage.relay.anon_key();
    let mut socket = Raw::upgrade(address, &key).await;
    socket.write(&masked(0x81, &[b'x'; 100])[..50]).await;
    neighbourhood.is_well("half a frame").await;
    drop(open);
    drop(socket);
    neighbourhood.is_well("all of them gone").await;
}

#[tokio::test]
async fn a_storm_of_garbage_does_not_delay_the_healthy_for_good() {
    let mut neighbourhood = Neighbourhood::open().await;
    let mut noisy = Vec::new();
    for _ in 0..8 {
        noisy.push(neighbourhood.stage.connect(Vsn::V2).await);
    }
    for round in 0..20 {
        for (place, client) in noisy.iter_mut().enumerate() {
            for message in noise(round * 8 + place) {
                client.send(message).await;
            }
        }
        neighbourhood.is_well("noise").await;
    }
    for client in &mut noisy {
        client.heartbeat().await;
    }
}

/// Some messages that differ from call to call.
fn noise(seed: usize) -> Vec<Message> {
    let entry = json!({"schema": "public", "table": format!("t{seed}"), "filter": format!("a{seed}=eq.{seed}")});
    let join = json!([seed, seed, format!("realtime:{}", seed % 5), "phx_join",
        {"config": {"postgres_changes": [entry, {"table": "t", "filter": "nonsense"}]}}]);
    vec![
        Message::text(join.to_string()),
        Message::text("[".repeat(seed % 300)),
        Message::binary(broadcast(seed % 25)),
        Message::text(json!([Value::Null, seed, "nowhere", "x", {}]).to_string()),
        Message::binary(vec![u8::try_from(seed % 256).unwrap(); seed * 10]),
    ]
}

/// A frame of a client, masked with zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A WebSocket without a client that knows the rules.
struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    async fn upgrade(address: SocketAddr, key: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /realtime/v1/websocket?apikey={key}&vsn=2.0.0 HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut raw = Self {
            stream,
            unread: Vec::new(),
        };
        let end = loop {
            match raw.unread.windows(4).position(|part| part == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => raw.fill().await,
            }
        };
        let head = raw.unread.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    async fn fill(&mut self) {
        let read = self.stream.read_buf(&mut self.unread);
        let length = within("bytes", read).await.unwrap();
        assert!(length > 0, "the connection ended");
    }

    async fn write(&mut self, bytes: &[u8]) {
        within("room to send", self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    /// Writes to a peer that may have hung up already.
    async fn try_write(&mut self, bytes: &[u8]) {
        drop(within("room to send", self.stream.write_all(bytes)).await);
    }

    /// The next frame: its first byte and its content, which is short.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        while self.unread.len() < 2 || self.unread.len() < 2 + usize::from(self.unread[1]) {
            self.fill().await;
        }
        let length = usize::from(self.unread[1]);
        assert!(length < 126, "a short frame");
        let frame: Vec<u8> = self.unread.drain(..2 + length).collect();
        (frame[0], frame[2..].to_vec())
    }

    /// The code of the close frame that must come next.
    async fn close_code(&mut self) -> u16 {
        let (first, content) = self.frame().await;
        assert_eq!(first, 0x88, "a close frame");
        u16::from_be_bytes([content[0], content[1]])
    }
}
