//! Whether a row passes the filters of a binding.
//!
//! Pure. Looks at the JSON text of values; what only PostgreSQL can tell comes back as
//! [`Verdict::Undecided`]. Called by the registry, once per distinct list of filters and change.

use std::borrow::Cow;

use uuid::Uuid;

use crate::{
    change::{Change, Operation, Rendering},
    filter::{FilterTest, Ordering, Scalar, Test},
};

/// What a list of filters says about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// At least one filter does not hold.
    Miss,
    /// All filters hold.
    Hit,
    /// Those decided here hold; the others need the database.
    Undecided,
}

/// Judges `change` by `tests`, all of which must hold.
#[must_use]
pub fn judge(tests: &[FilterTest], change: &Change) -> Verdict {
    let mut verdict = Verdict::Hit;
    for test in tests {
        match test.judge(change.filter_value(&test.column)) {
            Verdict::Miss => return Verdict::Miss,
            Verdict::Hit => {}
            Verdict::Undecided => verdict = Verdict::Undecided,
        }
    }
    verdict
}

impl Change {
    /// The JSON text filters on `column` look at: of the new row, or of the replica identity of a
    /// deleted one. `None` where the image does not have the column.
    #[must_use]
    pub fn filter_value(&self, column: &str) -> Option<&str> {
        let index = self.relation.column(column)?;
        let column = &self.relation.columns[index];
        let row = match self.operation {
            Operation::Insert | Operation::Update => self.new.as_ref()?,
            Operation::Delete if column.identity => self.old.as_ref()?,
            Operation::Delete | Operation::Hole => return None,
        };
        row.value(index).map(|text| {
            let is_sent_as_null =
                column.rendering == Rendering::FiniteOrNull && text.starts_with('"');
            if is_sent_as_null { "null" } else { text }
        })
    }
}

impl FilterTest {
    /// Judges one value; an absent one fails every test.
    fn judge(&self, value: Option<&str>) -> Verdict {
        let Some(value) = value else {
            return Verdict::Miss;
        };
        let null = value == "null";
        let holds = match &self.test {
            Test::Database { .. } => return Verdict::Undecided,
            Test::IsNull => null,
            Test::IsBool(expected) => value == if *expected { "true" } else { "false" },
            Test::IsDistinct(scalar) => null || !scalar.equals(value),
            // Comparisons with NULL are NULL: no match, negated or not.
            Test::OneOf(_) | Test::Order(..) if null => return Verdict::Miss,
            Test::OneOf(scalars) => scalars.iter().any(|scalar| scalar.equals(value)),
            Test::Order(ordering, bound) => match integer(value) {
                Some(number) => ordering.holds(number, *bound),
                None => return Verdict::Miss,
            },
        };
        if holds == self.negate {
            Verdict::Miss
        } else {
            Verdict::Hit
        }
    }
}

impl Ordering {
    fn holds(self, left: i64, right: i64) -> bool {
        match self {
            Self::Lt => left < right,
            Self::Lte => left <= right,
            Self::Gt => left > right,
            Self::Gte => left >= right,
        }
    }
}

impl Scalar {
    fn equals(&self, json: &str) -> bool {
        match self {
            Self::Int(number) => integer(json) == Some(*number),
            Self::Bool(value) => json == if *value { "true" } else { "false" },
            Self::Uuid(bytes) => uuid(json) == Some(*bytes),
            Self::Text(text) => string(json).as_deref() == Some(&**text),
        }
    }
}

/// The integer a JSON text is.
pub(crate) fn integer(json: &str) -> Option<i64> {
    json.parse().ok()
}

/// The UUID in a JSON string.
pub(crate) fn uuid(json: &str) -> Option<[u8; 16]> {
    let bare = json.strip_prefix('"')?.strip_suffix('"')?;
    Uuid::try_parse(bare).ok().map(Uuid::into_bytes)
}

/// The text of a JSON string.
pub(crate) fn string(json: &str) -> Option<Cow<'_, str>> {
    let bare = json.strip_prefix('"')?.strip_suffix('"')?;
    if bare.contains('\\') {
        serde_json::from_str(json).ok().map(Cow::Owned)
    } else {
        Some(bare.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pgrelay_protocol::FilterOp;

    use super::*;
    use crate::testing::{change, table};
    use Verdict::{Hit, Miss, Undecided};

    fn on_v(negate: bool, test: Test) -> FilterTest {
        FilterTest {
            column: "v".into(),
            negate,
            test,
        }
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.into())
    }

    fn one_of<const N: usize>(scalars: [Scalar; N]) -> Test {
        Test::OneOf(Arc::new(scalars))
    }

    const UUID: &str = r#""6f1c9a0e-54f7-4b63-9f0a-0123456789ab""#;

    #[test]
    fn a_value_passes_a_test_or_its_negation() {
        let number = 9_007_199_254_740_993;
        let like = Test::Database {
            op: FilterOp::Like,
            value: "x%".into(),
        };
        let uuid = Scalar::Uuid(uuid(UUID).unwrap());
        // (test, JSON text, verdict, verdict when negated)
        let cases = [
            (Test::IsNull, "null", Hit, Miss),
            (Test::IsNull, "0", Miss, Hit),
            (Test::IsBool(true), "true", Hit, Miss),
            (Test::IsBool(true), "null", Miss, Hit),
            (Test::IsBool(false), "true", Miss, Hit),
            (one_of([Scalar::Int(number)]), "9007199254740993", Hit, Miss),
            (one_of([Scalar::Int(number)]), "9007199254740992", Miss, Hit),
            (one_of([Scalar::Int(1)]), "null", Miss, Miss),
            (one_of([]), "1", Miss, Hit),
            (one_of([]), "null", Miss, Miss),
            (one_of([Scalar::Bool(true)]), "true", Hit, Miss),
            (one_of([text("a"), text("b\"\n")]), r#""b\"\n""#, Hit, Miss),
            (one_of([text("null")]), r#""null""#, Hit, Miss),
            (one_of([text("1")]), "1", Miss, Hit),
            (one_of([uuid.clone()]), UUID, Hit, Miss),
            (
                one_of([uuid]),
                r#""6F1C9A0E54F74B639F0A0123456789AC""#,
                Miss,
                Hit,
            ),
            (Test::IsDistinct(text("a")), r#""a""#, Miss, Hit),
            (Test::IsDistinct(text("a")), r#""b""#, Hit, Miss),
            (Test::IsDistinct(text("a")), "null", Hit, Miss),
            (Test::Order(Ordering::Lt, 2), "1", Hit, Miss),
            (Test::Order(Ordering::Lte, 2), "2", Hit, Miss),
            (Test::Order(Ordering::Gt, 2), "2", Miss, Hit),
            (Test::Order(Ordering::Gte, 2), "2", Hit, Miss),
            (Test::Order(Ordering::Gte, 2), "null", Miss, Miss),
            (like.clone(), r#""xy""#, Undecided, Undecided),
            (like, "null", Undecided, Undecided),
        ];
        let relation = table(1, "t", "id:int8:pk v:text").into();
        for (test, value, expected, negated) in cases {
            for (negate, expected) in [(false, expected), (true, negated)] {
                let row = change(1, &relation, &format!(r#"I {{"id":1,"v":{value}}}"#));
                let tests = [on_v(negate, test.clone())];
                assert_eq!(judge(&tests, &row), expected, "{tests:?} on {value}");
            }
        }
    }

    #[test]
    fn filters_look_at_the_row_their_operation_has() {
        let plain = "id:int8:pk v:int4";
        // (columns, images, whether v = 1 holds)
        for (columns, images, expected) in [
            (plain, r#"I {"id":1,"v":1}"#, Hit),
            (plain, r#"U {"id":1,"v":1} {"id":1,"v":2}"#, Hit),
            (plain, r#"U {"id":1,"v":2} {"id":1,"v":1}"#, Miss),
            (plain, r#"U {"id":1} {"id":1,"v":1}"#, Miss),
            (plain, r#"D {"id":1,"v":1}"#, Miss),
            ("full id:int8:pk v:int4", r#"D {"id":1,"v":1}"#, Hit),
            ("id:int8 v:int4:pk", r#"D {"id":1,"v":1}"#, Hit),
            ("id:int8:pk", r#"I {"id":1,"v":1}"#, Miss),
            (plain, "H", Miss),
        ] {
            let relation = table(1, "t", columns).into();
            let tests = [on_v(false, one_of([Scalar::Int(1)]))];
            assert_eq!(
                judge(&tests, &change(1, &relation, images)),
                expected,
                "{columns}: {images}"
            );
        }
    }

    #[test]
    fn an_absent_column_fails_every_test() {
        let relation = table(1, "t", "id:int8:pk v:text").into();
        for negate in [false, true] {
            for test in [
                Test::IsNull,
                Test::IsDistinct(text("a")),
                Test::Database {
                    op: FilterOp::Like,
                    value: "a".into(),
                },
            ] {
                let tests = [on_v(negate, test)];
                assert_eq!(
                    judge(&tests, &change(1, &relation, r#"I {"id":1}"#)),
                    Miss,
                    "{tests:?}"
                );
            }
        }
    }

    #[test]
    fn all_tests_must_hold_and_one_miss_spares_the_database() {
        let relation = table(1, "t", "id:int8:pk v:text").into();
        let row = change(1, &relation, r#"I {"id":1,"v":"a"}"#);
        let like = on_v(
            false,
            Test::Database {
                op: FilterOp::Like,
                value: "a%".into(),
            },
        );
        let is_a = on_v(false, one_of([text("a")]));
        let is_b = on_v(false, one_of([text("b")]));
        assert_eq!(judge(&[], &row), Hit);
        assert_eq!(judge(&[is_a.clone(), is_b.clone()], &row), Miss);
        assert_eq!(judge(&[is_a, like.clone()], &row), Undecided);
        assert_eq!(judge(&[like, is_b], &row), Miss);
    }

    #[test]
    fn what_is_sent_as_null_is_null_to_filters() {
        let relation = table(1, "t", "id:int8:pk v:float8:finite").into();
        let row = change(1, &relation, r#"I {"id":1,"v":"NaN"}"#);
        assert_eq!(judge(&[on_v(false, Test::IsNull)], &row), Hit);
    }
}
