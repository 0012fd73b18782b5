//! Whatever a client sends is read or refused, and what is read can be written again.

#![expect(clippy::unwrap_used, reason = "a file of tests")]

use bytes::Bytes;
use pgrelay_protocol::{
    ClientEvent, ClientFrame, CursorKey, JoinConfig, Topic, Vsn,
    client_frame::{decode_binary, decode_text},
    filter,
};
use pgrelay_test_support::fuzz;

const VERSIONS: [Vsn; 2] = [Vsn::V1, Vsn::V2];

fn look_at(frame: &ClientFrame) {
    drop(Topic::parse(&frame.topic));
    let ClientEvent::Join(payload) = &frame.event else {
        return;
    };
    let Ok(config) = JoinConfig::parse(payload) else {
        return;
    };
    for entry in &config.postgres_changes {
        let mut echo = Vec::new();
        entry.write_echo(&mut echo);
        let echo: serde_json::Value = serde_json::from_slice(&echo).unwrap();
        assert_eq!(echo["id"], entry.id);
    }
}

fn text_frames(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    for vsn in VERSIONS {
        if let Ok(frame) = decode_text(vsn, text) {
            look_at(&frame);
        }
    }
}

fn binary_frames(input: &[u8]) {
    for vsn in VERSIONS {
        if let Ok(frame) = decode_binary(vsn, Bytes::copy_from_slice(input)) {
            assert_eq!(vsn, Vsn::V2);
            look_at(&frame);
        }
    }
}

fn filters(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(filters) = filter::parse(&text) else {
        return;
    };
    let printed: Vec<String> = filters.iter().map(ToString::to_string).collect();
    assert_eq!(filter::parse(&printed.join(",")), Ok(filters), "{text:?}");
}

fn cursors(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let key = CursorKey::new(std::array::from_fn(|place| u8::try_from(place).unwrap()));
    if let Ok(position) = key.open(&text) {
        assert_eq!(key.seal(position), text);
    }
}

#[test]
fn text_frames_are_read_or_refused() {
    fuzz(include_str!("../fuzz/text_frames.txt"), text_frames);
}

#[test]
fn binary_frames_are_read_or_refused() {
    fuzz(include_str!("../fuzz/binary_frames.txt"), binary_frames);
}

#[test]
fn filters_are_read_as_they_are_printed_or_refused() {
    fuzz(include_str!("../fuzz/filters.txt"), filters);
}

#[test]
fn cursors_are_ours_or_refused() {
    fuzz(include_str!("../fuzz/cursors.txt"), cursors);
}
