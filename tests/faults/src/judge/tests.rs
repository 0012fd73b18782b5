use super::*;
use crate::memory::{Condition, Wish};

fn change(op: Op, id: i64, v: i64) -> Change {
    let version = Version {
        table: 0,
        id,
        life: id,
        v,
    };
    Change { op, version }
}

fn attempt(tag: &str, began: u64, acknowledged: u64, changes: Vec<Change>) -> Attempt {
    Attempt {
        tag: tag.into(),
        began,
        began_at: 100,
        acknowledged: Some(acknowledged),
        changes,
    }
}

/// Two transactions, one after the other, and one that was rolled back.
fn book() -> Vec<Attempt> {
    vec![
        attempt(
            "a",
            1,
            2,
            vec![change(Op::Insert, 4, 1), change(Op::Update, 4, 2)],
        ),
        attempt(
            "b",
            3,
            4,
            vec![change(Op::Update, 4, 3), change(Op::Insert, 8, 1)],
        ),
        attempt("c", 5, 6, vec![change(Op::Update, 4, 4)]),
    ]
}

fn heard(tag: &str, change: Change) -> Event {
    Event::Change(Heard {
        change,
        tag: tag.into(),
        cursor: Some(1),
        expires_at: None,
    })
}

fn all() -> Vec<Event> {
    vec![
        heard("a", change(Op::Insert, 4, 1)),
        heard("a", change(Op::Update, 4, 2)),
        heard("b", change(Op::Update, 4, 3)),
        heard("b", change(Op::Insert, 8, 1)),
    ]
}

/// What is found where a client of room 0 of the first table has heard this.
fn found(events: Vec<Event>, class: Class) -> Vec<Kind> {
    let wish = Wish {
        table: Some(0),
        condition: Condition::Rooms(vec![0]),
    };
    let mut memory = Memory::new("client".into(), true, vec![wish]);
    memory.was_live = true;
    memory.events = events;
    let book = book();
    let outcomes = ["a", "b"].map(String::from).into();
    let truth = Truth::new(&book, &outcomes, class);
    let mut kinds: Vec<Kind> = judge(&memory, &truth)
        .iter()
        .map(|violation| violation.kind)
        .collect();
    kinds.dedup();
    kinds
}

#[test]
fn everything_once_and_in_order_is_right() {
    assert_eq!(found(all(), Class::RelayKilled), []);
}

#[test]
fn every_deviation_is_seen() {
    let with = |edit: &dyn Fn(&mut Vec<Event>)| {
        let mut events = all();
        edit(&mut events);
        found(events, Class::RelayKilled)
    };
    assert_eq!(with(&|it| drop(it.pop())), [Kind::Lost]);
    assert_eq!(
        with(&|it| it.push(heard("b", change(Op::Insert, 8, 1)))),
        [Kind::Twice, Kind::Reordered]
    );
    assert_eq!(with(&|it| it.swap(0, 1)), [Kind::Reordered]);
    assert_eq!(with(&|it| it.swap(2, 3)), [Kind::Reordered]);
    assert_eq!(with(&|it| it.rotate_left(2)), [Kind::Reordered]);
    assert_eq!(
        with(&|it| it.push(heard("c", change(Op::Update, 4, 4)))),
        [Kind::Phantom]
    );
    assert_eq!(
        with(&|it| it.push(heard("d", change(Op::Update, 4, 9)))),
        [Kind::Phantom]
    );
    assert_eq!(
        with(&|it| it.push(heard("a", change(Op::Insert, 5, 1)))),
        [Kind::Unwanted, Kind::Phantom]
    );
    let mut secret = change(Op::Insert, 4, 1);
    secret.version.table = SECRET;
    assert_eq!(
        with(&|it| it.push(heard("a", secret))),
        [Kind::Unauthorised, Kind::Phantom]
    );
    assert_eq!(
        with(&|it| it.push(Event::Refetch("epoch"))),
        [Kind::Refetch, Kind::Lost]
    );
}

#[test]
fn what_came_before_the_end_of_a_history_is_forgiven() {
    let mut events = vec![
        heard("c", change(Op::Update, 4, 4)),
        Event::Refetch("epoch"),
    ];
    assert_eq!(
        found(events.clone(), Class::FailoverLosingTail),
        [Kind::Lost]
    );
    events.extend(all());
    assert_eq!(found(events, Class::FailoverLosingTail), []);
}

#[test]
fn a_change_has_one_cursor() {
    let memory = |cursor| {
        let mut memory = Memory::new("client".into(), true, Vec::new());
        memory.events = all();
        for event in &mut memory.events {
            if let Event::Change(heard) = event {
                heard.cursor = Some(cursor);
            }
        }
        memory
    };
    let (one, same, other) = (memory(1), memory(1), memory(2));
    assert!(judge_cursors([&one, &same].into_iter()).is_empty());
    assert_eq!(judge_cursors([&one, &other].into_iter()).len(), 4);
}
