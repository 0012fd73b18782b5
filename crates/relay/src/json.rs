//! Where the members of a JSON object lie in its text, and how text becomes a JSON string.
//!
//! Row images come from PostgreSQL and are valid JSON; the scanner finds borders and leaves the
//! values unparsed. On other text it answers [`NotAnObject`] or nonsense, never a panic.

use std::ops::Range;

/// The text is no JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the row image is not a JSON object")]
pub struct NotAnObject;

/// The members of the object in `text`, in order: key with its quotes, and value.
pub(crate) struct Members<'a> {
    text: &'a [u8],
    at: usize,
    state: State,
}

enum State {
    Start,
    Inside,
    Ended,
}

/// Places of one member in the text.
pub(crate) struct Member {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

impl<'a> Members<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            state: State::Start,
        }
    }

    /// Reads up to the next member; `None` at the closing brace.
    fn advance(&mut self) -> Result<Option<Member>, NotAnObject> {
        let first = matches!(self.state, State::Start);
        if first {
            self.expect(b'{')?;
            self.state = State::Inside;
        }
        match self.peek()? {
            b'}' => {
                self.state = State::Ended;
                return Ok(None);
            }
            b',' if !first => self.at += 1,
            _ if first => {}
            _ => return Err(NotAnObject),
        }
        self.peek()?;
        let key = self.at..self.string_end(self.at)?;
        self.at = key.end;
        self.expect(b':')?;
        self.peek()?;
        let value = self.at..self.value_end()?;
        self.at = value.end;
        Ok(Some(Member { key, value }))
    }

    /// The next byte that is no blank, not consumed.
    fn peek(&mut self) -> Result<u8, NotAnObject> {
        let blanks = self.text[self.at..]
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        self.at += blanks;
        self.text.get(self.at).copied().ok_or(NotAnObject)
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotAnObject> {
        if self.peek()? != byte {
            return Err(NotAnObject);
        }
        self.at += 1;
        Ok(())
    }

    /// One past the closing quote of the string that starts at `start`.
    fn string_end(&self, start: usize) -> Result<usize, NotAnObject> {
        if self.text.get(start) != Some(&b'"') {
            return Err(NotAnObject);
        }
        let mut at = start + 1;
        loop {
            match self.text.get(at) {
                Some(b'"') => return Ok(at + 1),
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
                None => return Err(NotAnObject),
            }
        }
    }

    /// One past the value that starts at the current place.
    fn value_end(&self) -> Result<usize, NotAnObject> {
        match self.text[self.at] {
            b'"' => self.string_end(self.at),
            b'{' | b'[' => self.nested_end(),
            _ => {
                let length = self.text[self.at..]
                    .iter()
                    .position(|byte| matches!(byte, b',' | b'}') || byte.is_ascii_whitespace())
                    .ok_or(NotAnObject)?;
                if length == 0 {
                    Err(NotAnObject)
                } else {
                    Ok(self.at + length)
                }
            }
        }
    }

    fn nested_end(&self) -> Result<usize, NotAnObject> {
        let mut depth = 0_usize;
        let mut at = self.at;
        loop {
            match self.text.get(at).ok_or(NotAnObject)? {
                b'"' => at = self.string_end(at)? - 1,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return Ok(at);
            }
        }
    }
}

impl Iterator for Members<'_> {
    type Item = Result<Member, NotAnObject>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.state, State::Ended) {
            return None;
        }
        let member = self.advance();
        if member.is_err() {
            self.state = State::Ended;
        }
        member.transpose()
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON and a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn members(text: &str) -> Result<Vec<(String, String)>, NotAnObject> {
        Members::new(text)
            .map(|member| {
                member.map(|Member { key, value }| (text[key].to_owned(), text[value].to_owned()))
            })
            .collect()
    }

    #[test]
    fn finds_members_whatever_their_values_hold() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("{}", &[]),
            (" { } ", &[]),
            (r#"{"a":1}"#, &[("\"a\"", "1")]),
            (
                r#"{"a":"x,}\"","b":null}"#,
                &[("\"a\"", r#""x,}\"""#), ("\"b\"", "null")],
            ),
            (
                r#"{"a\"b":{"c":["}",{}]},"d":[]}"#,
                &[(r#""a\"b""#, r#"{"c":["}",{}]}"#), ("\"d\"", "[]")],
            ),
            (
                "{\"j\": {\n \"k\" : 1 } ,\"n\":-1.5e+3}",
                &[("\"j\"", "{\n \"k\" : 1 }"), ("\"n\"", "-1.5e+3")],
            ),
        ];
        for (text, expected) in cases {
            let found = members(text).unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            assert_eq!(&found, expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_object() {
        for text in [
            "",
            "[]",
            "null",
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1"#,
            r#"{"a":"\"#,
            r#"{"a":[}"#,
            r#"{1:2}"#,
            r#"{"a":1 "b":2}"#,
        ] {
            assert_eq!(members(text), Err(NotAnObject), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_full_parser(map in prop::collection::btree_map(".*", json(), 0..6), pretty: bool) {
            let object = Value::Object(map.into_iter().collect());
            let text = if pretty { format!("{object:#}") } else { object.to_string() };
            let found: Map<String, Value> = members(&text)
                .unwrap()
                .iter()
                .map(|(key, value)| (serde_json::from_str(key).unwrap(), serde_json::from_str(value).unwrap()))
                .collect();
            prop_assert_eq!(Value::Object(found), object);
        }

        #[test]
        fn never_panics(text in ".*|[{\\[\"a:,0\\\\}\\]]*") {
            drop(members(&text));
        }
    }
}
