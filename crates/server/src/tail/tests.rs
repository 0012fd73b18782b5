use clap::Parser as _;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, accept_async};

use super::*;
use crate::cli::{Cli, Command};

type Server = WebSocketStream<TcpStream>;

fn flags(line: &str) -> TailFlags {
    match Cli::parse_from(line.split(' ')).command {
        Command::Tail(flags) => flags,
        other => panic!("{other:?}"),
    }
}

/// Takes the next client in and answers its join; what it asked for.
async fn welcome(listener: &TcpListener) -> (Server, Value) {
    let (tcp, _) = listener.accept().await.unwrap();
    let mut socket = accept_async(tcp).await.unwrap();
    let join = socket.next().await.unwrap().unwrap();
    let join: Value = serde_json::from_str(join.to_text().unwrap()).unwrap();
    assert_eq!(join[3], "phx_join");
    say(
        &mut socket,
        "phx_reply",
        json!({"status": "ok", "response": {"postgres_changes": []}}),
    )
    .await;
    (socket, join[4]["config"]["postgres_changes"][0].clone())
}

async fn say(socket: &mut Server, event: &str, payload: Value) {
    let text = json!(["1", "1", "realtime:pgrelay-tail", event, payload]).to_string();
    socket.send(Message::text(text)).await.unwrap();
}

fn change(number: u32) -> Value {
    json!({"ids": [1], "data": {"record": {"n": number}}, "cursor": format!("c{number}")})
}

#[tokio::test]
async fn a_cut_connection_goes_on_where_it_was() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = config::Tail {
        url: format!("http://{}", listener.local_addr().unwrap()),
        key: Some(Secret::new("k")),
        secret: None,
    };
    let follow = Follow::from(&flags(
        "pgrelay tail --table public.messages --filter id=eq.1 --count 2",
    ));
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let relay = async {
        let (mut first, entry) = welcome(&listener).await;
        assert_eq!(
            entry,
            json!({"event": "*", "schema": "public", "table": "messages", "filter": "id=eq.1", "since": "now"})
        );
        say(&mut first, "postgres_changes", change(1)).await;
        drop(first);
        let (mut second, entry) = welcome(&listener).await;
        assert_eq!(entry["since"], "c1");
        say(&mut second, "postgres_changes", change(2)).await;
        second
    };
    let (tailed, _server) = tokio::join!(run(&settings, follow, &mut out, &mut notes), relay);
    tailed.unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.lines().all(|line| line.starts_with(r#"{"#)), "{out}");
}

#[tokio::test]
async fn a_refused_binding_ends_it_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = config::Tail {
        url: format!("ws://{}", listener.local_addr().unwrap()),
        key: None,
        secret: Some(Secret::new("a secret of more than thirty-two bytes")),
    };
    let follow = Follow::from(&flags("pgrelay tail --table nowhere"));
    let relay = async {
        let (mut socket, entry) = welcome(&listener).await;
        assert_eq!(entry["schema"], "public");
        let refused =
            json!({"status": "error", "message": "no such table", "channel": "pgrelay-tail"});
        say(&mut socket, "system", refused).await;
        socket
    };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let (tailed, _server) = tokio::join!(run(&settings, follow, &mut out, &mut notes), relay);
    assert!(matches!(tailed, Err(TailError::Refused(reason)) if reason == "no such table"));
    assert!(out.is_empty());
}

#[tokio::test]
async fn without_a_key_nothing_is_tried() {
    let settings = config::Tail {
        url: "http://127.0.0.1:1".to_owned(),
        key: None,
        secret: None,
    };
    let follow = Follow::from(&flags("pgrelay tail room"));
    let tailed = run(&settings, follow, &mut Vec::new(), &mut Vec::new()).await;
    assert!(matches!(tailed, Err(TailError::NoKey)));
}
