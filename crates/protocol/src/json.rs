//! JSON read only as deep as needed, and JSON strings written.

use std::{borrow::Cow, fmt, io::Write as _};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::limits::{JSON_DEPTH_MAX, OBJECT_KEYS_MAX};

/// A JSON string that borrows from the frame unless it holds escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The members of a JSON object in their order, values unparsed.
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// The members of `value`; `None` when it is no object or has more than [`OBJECT_KEYS_MAX`].
    pub(crate) fn parse(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }

    /// The value of `key`; of several, the last.
    pub(crate) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| *value)
    }

    /// The members in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// One member per key, the last of each, in bytewise order of the keys.
    pub(crate) fn sorted(&self) -> Vec<(&str, &'a RawValue)> {
        let mut members: Vec<_> = self.iter().collect();
        members.reverse();
        members.sort_by_key(|(name, _)| *name);
        members.dedup_by_key(|(name, _)| *name);
        members
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry()? {
                    if members.len() == OBJECT_KEYS_MAX {
                        return Err(A::Error::custom("too many keys"));
                    }
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// The elements of a list that are not `null`, but at most one more than `items_max`; `None` when
/// `value` is no list.
pub(crate) fn list(value: &RawValue, items_max: usize) -> Option<Vec<&RawValue>> {
    struct Elements {
        items_max: usize,
    }

    impl<'de> Visitor<'de> for Elements {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if !is_null(item) && items.len() <= self.items_max {
                    items.push(item);
                }
            }
            Ok(items)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(value.get());
    deserializer.deserialize_seq(Elements { items_max }).ok()
}

/// The string that `value` is.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value.get())
        .ok()
        .map(|Text(text)| text)
}

/// Whether `value` is an object; its text is known to be JSON.
pub(crate) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// Whether `value` is `null`.
pub(crate) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Whether the JSON `text` nests deeper than [`JSON_DEPTH_MAX`].
///
/// Unparsed values are skipped without recursion, so nothing else bounds them. Few texts have
/// that many brackets at all, so most are only counted, and short ones not even that.
pub(crate) fn is_too_deep(text: &[u8]) -> bool {
    text.len() > 2 * JSON_DEPTH_MAX
        && opening_brackets(text) > JSON_DEPTH_MAX
        && depth(text) > JSON_DEPTH_MAX
}

/// Counts in bytes as long as a byte can count, which the compiler turns into vector code.
fn opening_brackets(text: &[u8]) -> usize {
    // '[' and '{' differ in one bit.
    let count = |chunk: &[u8]| {
        chunk
            .iter()
            .map(|byte| u8::from(*byte | 0x20 == b'{'))
            .sum::<u8>()
    };
    text.chunks(usize::from(u8::MAX))
        .map(|chunk| usize::from(count(chunk)))
        .sum()
}

fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut quoted = false;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if quoted => {
                bytes.next();
            }
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Appends the JSON string of `text`: valid JSON whatever `text` holds.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string always serializes into memory");
}

/// Appends a number.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u32) {
    write!(out, "{number}").expect("memory takes every write");
}

/// The JSON string of `text`.
pub(crate) fn string(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serializes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        let check = |text: &str, expected| assert_eq!(depth(text.as_bytes()), expected, "{text}");
        check("1", 0);
        check("[]", 1);
        check(r#"{"a":[{}],"b":[]}"#, 3);
        check(r#"["[[[[", "\\", "\"[[", []]"#, 2);
        check("]]][", 1);
    }

    #[test]
    fn only_what_nests_too_deep_is_too_deep() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(nested(JSON_DEPTH_MAX).as_bytes()));
        assert!(is_too_deep(nested(JSON_DEPTH_MAX + 1).as_bytes()));
        assert!(is_too_deep(nested(1_000_000).as_bytes()));
        let wide = format!("[{}]", vec!["{}"; 10_000].join(","));
        assert!(!is_too_deep(wide.as_bytes()));
        let quoted = format!("[{:?}]", "[{".repeat(500));
        assert!(!is_too_deep(quoted.as_bytes()));
    }

    #[test]
    fn every_opening_bracket_is_counted() {
        assert_eq!(opening_brackets("[{".repeat(700).as_bytes()), 1_400);
        assert_eq!(opening_brackets("]};x".repeat(700).as_bytes()), 0);
    }

    #[test]
    fn of_repeated_keys_the_last_counts() {
        let raw = RawValue::from_string(r#"{"b":1,"a":2,"b":3}"#.to_owned()).unwrap();
        let object = Object::parse(&raw).unwrap();
        assert_eq!(object.get("b").unwrap().get(), "3");
        let sorted: Vec<_> = object
            .sorted()
            .into_iter()
            .map(|(key, value)| (key, value.get()))
            .collect();
        assert_eq!(sorted, [("a", "2"), ("b", "3")]);
    }
}
