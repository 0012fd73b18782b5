use pgrelay_relay::change::{Column, Rendering};

use super::*;

fn logged(seq: i64, xid: u64, old: Option<u8>, new: Option<u8>) -> Logged {
    let tid = |n: u8| Tid::of(n);
    let image = |n: u8| format!(r#"{{"v":{n}}}"#).into();
    Logged {
        seq,
        xid: Xid(xid),
        relid: 1,
        matter: Matter::Change(match (old, new) {
            (None, Some(_)) => Operation::Insert,
            (Some(_), Some(_)) => Operation::Update,
            (_, None) => Operation::Delete,
        }),
        oversize: false,
        new: new.map(image),
        old: old.map(image),
        new_ctid: new.map(tid),
        old_ctid: old.map(tid),
        at: Timestamp(seq * 1_000_000),
    }
}

fn relations() -> Relations {
    let column = Column {
        name: "v".into(),
        type_name: "int4".into(),
        rendering: Rendering::Verbatim,
        primary_key: true,
        identity: true,
    };
    let relation = Relation {
        oid: 1,
        schema: "public".into(),
        table: "t".into(),
        columns: Box::new([column]),
        identity_full: false,
    };
    HashMap::from([(1, Some(Arc::new(relation))), (2, None)])
}

/// `(place, new value)` of the changes of a whole batch.
fn told(rows: &[Logged]) -> Vec<(i64, Option<String>)> {
    let plan = Plan::of_whole_batch(rows);
    changes(rows.to_vec(), Vec::new(), &plan, &relations())
        .iter()
        .map(|change| {
            let value = change
                .new
                .as_ref()
                .and_then(|row| row.value(0))
                .map(str::to_owned);
            (change.seq, value)
        })
        .collect()
}

fn v(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn versions_logged_out_of_order_change_places() {
    // v2 and v3 before v1, another transaction's row between them.
    let rows = [
        logged(5, 7, Some(1), Some(2)),
        logged(6, 7, Some(2), Some(3)),
        logged(7, 8, None, Some(9)),
        logged(8, 7, None, Some(1)),
    ];
    assert_eq!(
        told(&rows),
        [(5, v("1")), (6, v("2")), (7, v("9")), (8, v("3"))]
    );
}

#[test]
fn a_delete_comes_last() {
    let rows = [logged(5, 7, Some(1), None), logged(6, 7, None, Some(1))];
    assert_eq!(told(&rows), [(5, v("1")), (6, None)]);
}

#[test]
fn the_same_place_on_disk_in_another_transaction_or_table_is_another_row() {
    let mut other = logged(6, 7, None, Some(1));
    other.relid = 2;
    let rows = [
        logged(5, 7, Some(1), Some(2)),
        other,
        logged(7, 8, None, Some(1)),
    ];
    assert_eq!(told(&rows), [(5, v("2")), (7, v("1"))]);
}

#[test]
fn a_place_on_disk_means_another_row_after_a_truncate() {
    let mut truncate = logged(6, 7, None, None);
    (truncate.old, truncate.old_ctid) = (None, None);
    truncate.matter = Matter::Change(Operation::Hole);
    // An update of a row made earlier, whose place a row made after the TRUNCATE takes.
    let rows = [
        logged(5, 7, Some(1), Some(2)),
        truncate,
        logged(7, 7, None, Some(1)),
    ];
    assert_eq!(told(&rows), [(5, v("2")), (6, None), (7, v("1"))]);
}

#[test]
fn a_transaction_has_one_commit_time_its_last() {
    let rows = [
        logged(5, 7, None, Some(1)),
        logged(6, 8, None, Some(2)),
        logged(7, 7, None, Some(3)),
    ];
    let plan = Plan::of_whole_batch(&rows);
    let changes = changes(rows.to_vec(), Vec::new(), &plan, &relations());
    let times: Vec<_> = changes
        .iter()
        .map(|change| &*change.commit_timestamp)
        .collect();
    assert_eq!(
        times,
        [
            "2000-01-01T00:00:07.000Z",
            "2000-01-01T00:00:06.000Z",
            "2000-01-01T00:00:07.000Z"
        ]
    );
}

#[test]
fn rows_of_unpublished_tables_are_left_out_and_holes_of_all_tables_kept() {
    let mut unpublished = logged(5, 7, None, Some(1));
    unpublished.relid = 2;
    let mut unknown = logged(6, 7, None, Some(1));
    unknown.relid = 99;
    let mut hole = logged(7, 7, None, Some(1));
    (hole.relid, hole.new, hole.new_ctid) = (0, None, None);
    hole.matter = Matter::Change(Operation::Hole);
    let rows = [unpublished, unknown, hole];
    let changes = changes(rows.to_vec(), Vec::new(), &Plan::default(), &relations());
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (changes[0].operation, changes[0].relation.oid),
        (Operation::Hole, 0)
    );
    assert_eq!(tables(&rows), HashSet::from([2, 99]));
}

#[test]
fn an_image_that_cannot_be_read_is_a_hole_of_its_table() {
    let mut row = logged(5, 7, None, Some(1));
    row.new = Some("nonsense".into());
    let changes = changes(vec![row], Vec::new(), &Plan::default(), &relations());
    assert_eq!(
        (changes[0].operation, changes[0].relation.oid),
        (Operation::Hole, 1)
    );
}

#[test]
fn rows_from_other_pages_are_asked_for_and_put_in_place() {
    let plan = Plan {
        moved: HashMap::from([(5, 900), (900, 5)]),
        last_at: HashMap::new(),
    };
    let page = vec![logged(5, 7, Some(1), Some(2)), logged(6, 7, None, Some(6))];
    assert_eq!(missing(&page, &plan), [900]);
    let changes = changes(
        page,
        vec![logged(900, 7, None, Some(1))],
        &plan,
        &relations(),
    );
    let told: Vec<_> = changes
        .iter()
        .map(|change| (change.seq, change.operation))
        .collect();
    assert_eq!(told, [(5, Operation::Insert), (6, Operation::Insert)]);
}
