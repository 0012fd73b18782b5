//! Whatever is in the log is read or refused, and what is sent of it is JSON.

#![expect(clippy::unwrap_used, reason = "a file of tests")]

use std::sync::Arc;

use pgrelay_relay::change::{Change, Operation, Row};
use pgrelay_relay::project::write_data;
use pgrelay_relay::testing::table;
use pgrelay_relay::view::{Rights, View};
use pgrelay_test_support::fuzz;
use serde_json::value::RawValue;

fn rows(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let is_json = serde_json::from_str::<Box<RawValue>>(&text).is_ok();
    let relation = Arc::new(table(
        1,
        "t",
        "id:int8:pk name:float8:finite tags:_text body:bytea:hex full",
    ));
    let Ok(row) = Row::parse(&*text, &relation) else {
        return;
    };
    let change = Change {
        seq: 1,
        operation: Operation::Update,
        new: Some(row.clone()),
        old: Some(row),
        commit_timestamp: "2026-01-01T00:00:00.000Z".into(),
        too_large: false,
        relation,
    };
    let columns = ["name".into()];
    let view = View::logged(Arc::new(Rights::all()));
    for select in [None, Some(&columns[..])] {
        let mut out = Vec::new();
        write_data(&mut out, &change, &view, select);
        if is_json {
            serde_json::from_slice::<Box<RawValue>>(&out).unwrap();
        }
    }
}

#[test]
fn rows_are_read_or_refused() {
    fuzz(include_str!("../fuzz/rows.txt"), rows);
}
