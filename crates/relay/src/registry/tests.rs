use std::collections::BTreeMap;

use pgrelay_protocol::FilterOp;
use proptest::prelude::*;

use super::*;
use crate::{
    filter::{Ordering, Scalar, Test},
    matcher::{Verdict, judge},
    testing::{change, table},
};

fn test(column: &str, negate: bool, test: Test) -> FilterTest {
    FilterTest {
        column: column.into(),
        negate,
        test,
    }
}

fn arb_scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        (0..3_i64).prop_map(Scalar::Int),
        any::<bool>().prop_map(Scalar::Bool),
        (0..3_u8).prop_map(|byte| Scalar::Uuid([byte; 16])),
        (0..3_u8).prop_map(|letter| Scalar::Text(letter.to_string().into())),
    ]
}

fn arb_test() -> impl Strategy<Value = FilterTest> {
    let what = prop_oneof![
        6 => prop::collection::vec(arb_scalar(), 0..3).prop_map(|values| Test::OneOf(values.into())),
        1 => Just(Test::IsNull),
        1 => any::<bool>().prop_map(Test::IsBool),
        1 => arb_scalar().prop_map(Test::IsDistinct),
        1 => (0..3_i64).prop_map(|bound| Test::Order(Ordering::Lt, bound)),
        1 => Just(Test::Database { op: FilterOp::Like, value: "x%".into() }),
    ];
    (
        prop::sample::select(vec!["id", "a", "b", "gone"]),
        prop::bool::weighted(0.2),
        what,
    )
        .prop_map(|(column, negate, what)| test(column, negate, what))
}

fn arb_pattern(names: &'static [&'static str]) -> impl Strategy<Value = NamePattern> {
    prop_oneof![
        Just(NamePattern::Any),
        prop::sample::select(names).prop_map(|name| NamePattern::Exact(name.into()))
    ]
}

/// An [`Interest`] with its own parts.
#[derive(Debug, Clone)]
struct Wish {
    tables: Result<u32, (NamePattern, NamePattern)>,
    event: EventKind,
    tests: Arc<[FilterTest]>,
}

impl Wish {
    fn interest(&self) -> Interest<'_> {
        let scope = match &self.tables {
            Ok(oid) => Scope::Table(*oid),
            Err((schema, table)) => Scope::Names { schema, table },
        };
        Interest {
            scope,
            event: self.event,
            tests: &self.tests,
        }
    }
}

fn arb_wish() -> impl Strategy<Value = Wish> {
    let tables = prop_oneof![
        3 => (1..4_u32).prop_map(Ok),
        1 => (arb_pattern(&["public", "other"]), arb_pattern(&["t1", "t2"])).prop_map(Err),
    ];
    let event = prop::sample::select(vec![
        EventKind::All,
        EventKind::Insert,
        EventKind::Update,
        EventKind::Delete,
    ]);
    let tests = prop::collection::vec(arb_test(), 0..3);
    (tables, event, tests).prop_map(|(tables, event, tests)| Wish {
        tables,
        event,
        tests: tests.into(),
    })
}

fn arb_image() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        (0..3_i64).prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|value| value.to_string()),
        (0..3_u8).prop_map(|letter| format!("\"{letter}\"")),
        (0..3_u8).prop_map(|byte| format!("\"{}\"", uuid::Uuid::from_bytes([byte; 16]))),
    ];
    (0..3_i64, value.clone(), value)
        .prop_map(|(id, a, b)| format!(r#"{{"id":{id},"a":{a},"b":{b}}}"#))
}

/// Table 3 has no primary key, table 2 its full row as identity.
fn arb_change() -> impl Strategy<Value = Change> {
    let operation = prop::sample::select(vec!["I", "U", "D", "H"]);
    (1..4_u32, operation, arb_image(), arb_image()).prop_map(|(oid, operation, new, old)| {
        let columns = [
            "id:int8:pk a:text b:text",
            "full id:int8:pk a:text b:text",
            "full id:int8 a:text b:text",
        ];
        let relation = table(oid, &format!("t{oid}"), columns[oid as usize - 1]).into();
        let images = match operation {
            "U" => format!("{new} {old}"),
            "H" => String::new(),
            _ => new,
        };
        change(1, &relation, &format!("{operation} {images}"))
    })
}

/// What the registry promises, said without an index.
fn naive(
    bindings: &BTreeMap<BindingIndex, Wish>,
    change: &Change,
) -> BTreeMap<BindingIndex, Verdict> {
    let listens = |event| match event {
        EventKind::All => change.operation != Operation::Hole,
        EventKind::Insert => change.operation == Operation::Insert,
        EventKind::Update => change.operation == Operation::Update,
        EventKind::Delete => change.operation == Operation::Delete,
    };
    bindings
        .iter()
        .filter(|(_, wish)| wish.interest().scope.covers(&change.relation) && listens(wish.event))
        .map(|(binding, wish)| {
            let verdict = if change.is_unidentified() {
                Verdict::Hit
            } else {
                judge(&wish.tests, change)
            };
            (*binding, verdict)
        })
        .filter(|(_, verdict)| *verdict != Verdict::Miss)
        .collect()
}

/// The same, out of the registry; a binding found twice fails.
fn found(
    registry: &mut Registry,
    bindings: &BTreeMap<BindingIndex, Wish>,
    change: &Change,
) -> BTreeMap<BindingIndex, Verdict> {
    let mut hits = Hits::default();
    registry.find(change, &mut hits);
    for (binding, list) in &hits.undecided {
        assert_eq!(registry.tests(*list), &bindings[binding].tests);
    }
    let sure = hits.sure.iter().map(|binding| (*binding, Verdict::Hit));
    let undecided = hits
        .undecided
        .iter()
        .map(|(binding, _)| (*binding, Verdict::Undecided));
    let found: BTreeMap<_, _> = sure.chain(undecided).collect();
    assert_eq!(found.len(), hits.len(), "a binding was found twice");
    found
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u32, Wish),
    Remove(u32),
    Change(Change),
}

fn arb_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..12_u32, arb_wish()).prop_map(|(binding, wish)| Step::Insert(binding, wish)),
        2 => (0..12_u32).prop_map(Step::Remove),
        4 => arb_change().prop_map(Step::Change),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_naive_evaluator_and_leaves_no_residue(steps in prop::collection::vec(arb_step(), 1..60)) {
        let mut registry = Registry::default();
        let mut bindings = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(binding, wish) => {
                    let binding = BindingIndex(binding);
                    if let Some(old) = bindings.remove(&binding) {
                        registry.remove(binding, Wish::interest(&old));
                    }
                    registry.insert(binding, wish.interest());
                    registry.insert(binding, wish.interest());
                    bindings.insert(binding, wish);
                }
                Step::Remove(binding) => {
                    let binding = BindingIndex(binding);
                    if let Some(wish) = bindings.remove(&binding) {
                        registry.remove(binding, wish.interest());
                        registry.remove(binding, wish.interest());
                    }
                }
                Step::Change(change) => {
                    prop_assert_eq!(found(&mut registry, &bindings, &change), naive(&bindings, &change));
                }
            }
        }
        for (binding, wish) in bindings {
            registry.remove(binding, wish.interest());
        }
        prop_assert!(registry.is_empty(), "{:?}", registry);
    }
}

#[test]
fn a_unique_value_costs_few_bytes() {
    // What one more client with a filter of its own adds to the index, besides its filter.
    assert!(size_of::<([u8; 16], index::Slot)>() <= 40);
}

#[test]
fn a_list_of_filters_is_judged_once_however_many_share_it() {
    let mut registry = Registry::default();
    let tests: Arc<[FilterTest]> = Arc::new([test("a", true, Test::IsNull)]);
    for binding in 0..100 {
        let interest = Interest {
            scope: Scope::Table(1),
            event: EventKind::All,
            tests: &tests,
        };
        registry.insert(BindingIndex(binding), interest);
    }
    assert_eq!(registry.lists.len(), 1);
}
