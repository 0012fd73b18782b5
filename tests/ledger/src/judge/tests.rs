//! Small histories, each with one promise broken.

use uuid::Uuid;

use super::*;
use crate::history::Image;

/// Life 7 of `plain`, at version 1 when the history begins.
const LIFE: Life = Life {
    table: Table::Plain,
    number: 7,
};

fn image(v: i64, tag: &str) -> Image {
    Image {
        id: 3,
        life: 7,
        v,
        tag: tag.into(),
    }
}

/// Version `v` of the row, made by transaction `xid`, whose tag is its number.
fn update(seq: i64, xid: u64, v: i64) -> Row {
    let change = Change::Update {
        old: image(v - 1, ""),
        new: image(v, &xid.to_string()),
    };
    row(seq, xid, change)
}

fn row(seq: i64, xid: u64, change: Change) -> Row {
    Row {
        place: seq,
        seq,
        xid,
        table: Some(Table::Plain),
        change,
    }
}

fn batch(id: i64, rows: Vec<Row>) -> Batch {
    Batch {
        id,
        tag: Uuid::nil(),
        n: rows.len().try_into().unwrap(),
        namesakes: 0,
        rows,
    }
}

fn attempt(xid: u64, began: u64, outcome: Outcome) -> Attempt {
    Attempt {
        xid: Some(xid),
        changes: 1,
        outcome,
        ..Attempt::begin(xid.to_string(), began, true)
    }
}

fn committed(xid: u64, began: u64, acknowledged: u64) -> Attempt {
    attempt(xid, began, Outcome::Committed { acknowledged })
}

fn check(delivered: &[Batch], attempts: &[Attempt], after: Option<i64>, expected: &[Kind]) {
    let evidence = Evidence {
        before: &Contents::from([(LIFE, 1)]),
        delivered,
        attempts,
        after: &after.map(|v| (LIFE, v)).into_iter().collect(),
    };
    let found: BTreeSet<Kind> = judge(&evidence).iter().map(|found| found.kind).collect();
    assert_eq!(found, expected.iter().copied().collect(), "{delivered:?}");
}

#[test]
fn two_updates_in_order_are_right() {
    let delivered = [
        batch(1, vec![update(10, 100, 2)]),
        batch(2, vec![update(11, 101, 3)]),
    ];
    let attempts = [committed(100, 1, 2), committed(101, 3, 4)];
    check(&delivered, &attempts, Some(3), &[]);
}

#[test]
fn of_unknown_outcome_is_right_whole_or_not_at_all() {
    let unknown = [attempt(100, 1, Outcome::Unknown)];
    check(
        &[batch(1, vec![update(10, 100, 2)])],
        &unknown,
        Some(2),
        &[],
    );
    check(&[], &unknown, Some(1), &[]);
}

#[test]
fn a_missing_change_is_lost() {
    let attempts = [committed(100, 1, 2)];
    check(&[], &attempts, Some(2), &[Kind::Lost]);
    let attempts = [committed(100, 1, 2), committed(101, 1, 2)];
    check(
        &[batch(1, vec![update(11, 101, 3)])],
        &attempts,
        Some(3),
        &[Kind::Lost],
    );
}

#[test]
fn half_a_transaction_is_lost_and_split() {
    let mut whole = committed(100, 1, 2);
    whole.changes = 2;
    let (first, second) = (update(10, 100, 2), update(11, 100, 3));
    let attempts = [whole];
    check(
        &[batch(1, vec![first.clone()])],
        &attempts,
        Some(2),
        &[Kind::Lost],
    );
    let parts = [batch(1, vec![first]), batch(2, vec![second])];
    check(&parts, &attempts, Some(3), &[Kind::Split]);
}

#[test]
fn a_repeated_change_is_twice() {
    let again = [
        batch(1, vec![update(10, 100, 2)]),
        batch(2, vec![update(10, 100, 2)]),
    ];
    let attempts = [committed(100, 1, 2)];
    check(&again, &attempts, Some(2), &[Kind::Split, Kind::Twice]);
}

#[test]
fn what_was_rolled_back_or_nobodys_is_a_phantom() {
    let delivered = [batch(1, vec![update(10, 100, 2)])];
    let attempts = [attempt(100, 1, Outcome::Never)];
    check(&delivered, &attempts, Some(1), &[Kind::Gone, Kind::Phantom]);
    check(&delivered, &[], Some(2), &[Kind::Phantom]);
}

#[test]
fn versions_out_of_order_are_seen() {
    let delivered = [batch(1, vec![update(10, 100, 3), update(11, 101, 2)])];
    let attempts = [committed(100, 1, 3), committed(101, 1, 3)];
    check(&delivered, &attempts, Some(3), &[Kind::OutOfOrder]);
}

#[test]
fn a_change_after_the_end_is_out_of_order() {
    let delete = row(10, 100, Change::Delete { old: image(2, "") });
    let attempts = [committed(100, 1, 3), committed(101, 1, 3)];
    let delivered = [batch(1, vec![delete, update(11, 101, 2)])];
    check(&delivered, &attempts, None, &[Kind::OutOfOrder]);
    let truncate = row(10, 100, Change::Hole);
    let mut truncating = committed(100, 1, 3);
    truncating.changes = 0;
    let delivered = [batch(1, vec![truncate, update(11, 101, 2)])];
    let attempts = [truncating, committed(101, 1, 3)];
    check(&delivered, &attempts, None, &[Kind::OutOfOrder]);
}

#[test]
fn a_later_transaction_may_not_overtake() {
    let other = Change::Insert {
        new: Image {
            life: 8,
            ..image(1, "101")
        },
    };
    let delivered = [batch(1, vec![row(10, 101, other), update(11, 100, 2)])];
    let attempts = [committed(100, 1, 2), committed(101, 3, 4)];
    let evidence = Evidence {
        before: &Contents::from([(LIFE, 1)]),
        delivered: &delivered,
        attempts: &attempts,
        after: &Contents::from([(LIFE, 2), (Life { number: 8, ..LIFE }, 1)]),
    };
    let found: Vec<_> = judge(&evidence).iter().map(|found| found.kind).collect();
    assert_eq!(found, [Kind::Overtaken]);
}

#[test]
fn what_the_tables_do_not_have_is_gone() {
    let delivered = [batch(1, vec![update(10, 100, 2)])];
    check(&delivered, &[committed(100, 1, 2)], Some(1), &[Kind::Gone]);
}

#[test]
fn a_batch_that_is_passed_over_is_seen() {
    let delivered = [
        batch(1, vec![update(10, 100, 2)]),
        batch(3, vec![update(11, 101, 3)]),
    ];
    let attempts = [committed(100, 1, 2), committed(101, 3, 4)];
    check(&delivered, &attempts, Some(3), &[Kind::Numbering]);
}

#[test]
fn a_hole_of_no_table_is_seen() {
    let hole = Row {
        table: None,
        ..row(10, 100, Change::Hole)
    };
    let mut empty = committed(100, 1, 2);
    empty.changes = 0;
    check(
        &[batch(1, vec![hole])],
        &[empty],
        Some(1),
        &[Kind::FalseHole],
    );
}
