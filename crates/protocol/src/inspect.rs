//! Values printed the way Elixir's `inspect` prints them, which is how Supabase Realtime words
//! its subscribe errors. Bounded, because the values are the client's own.

use std::fmt::Write as _;

use serde_json::Value;

/// Elements of all lists and maps of one text; `...` stands for the rest.
const ITEMS_MAX: usize = 50;
/// Bytes of all strings of one text; ` <> ...` stands for the rest.
const STRING_BYTES_MAX: usize = 4_096;
/// JSON text that is parsed to be printed.
const JSON_BYTES_MAX: usize = 16_384;

/// One growing text with what is left of its bounds.
pub(crate) struct Inspect {
    text: String,
    items_left: usize,
    bytes_left: usize,
}

impl Inspect {
    /// Continues `text`.
    pub(crate) fn after(text: String) -> Self {
        Self {
            text,
            items_left: ITEMS_MAX,
            bytes_left: STRING_BYTES_MAX,
        }
    }

    /// The text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    /// Appends `text` as it is.
    pub(crate) fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// `"text"`
    pub(crate) fn string(&mut self, text: &str) {
        self.text.push('"');
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            let Some(left) = self.bytes_left.checked_sub(char.len_utf8()) else {
                self.text.push_str("\" <> ...");
                return;
            };
            self.bytes_left = left;
            match char {
                '"' | '\\' => self.text.extend(['\\', char]),
                '#' if chars.peek() == Some(&'{') => self.text.push_str("\\#"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                char if char.is_control() => {
                    write!(self.text, "\\x{:02X}", u32::from(char)).expect("a String grows");
                }
                char => self.text.push(char),
            }
        }
        self.text.push('"');
    }

    /// `[a, b]`, or with other brackets.
    pub(crate) fn list<T>(
        &mut self,
        (open, close): (&str, &str),
        items: impl IntoIterator<Item = T>,
        mut item: impl FnMut(&mut Self, T),
    ) {
        self.raw(open);
        for (index, value) in items.into_iter().enumerate() {
            if index > 0 {
                self.raw(", ");
            }
            let Some(left) = self.items_left.checked_sub(1) else {
                self.raw("...");
                break;
            };
            self.items_left = left;
            item(self, value);
        }
        self.raw(close);
    }

    /// Any JSON value.
    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.raw("nil"),
            Value::Bool(value) => self.raw(if *value { "true" } else { "false" }),
            Value::Number(number) => self.raw(&number.to_string()),
            Value::String(text) => self.string(text),
            Value::Array(items) => self.list(("[", "]"), items, Self::value),
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _)| *name);
                self.list(("%{", "}"), members, |inspect, (name, value)| {
                    inspect.string(name);
                    inspect.raw(" => ");
                    inspect.value(value);
                });
            }
        }
    }

    /// The JSON text of any value; a value too long to be worth parsing is `...`.
    pub(crate) fn json(&mut self, json: &str) {
        if json.len() > JSON_BYTES_MAX {
            return self.raw("...");
        }
        match serde_json::from_str(json) {
            Ok(value) => self.value(&value),
            // A number beyond every range is JSON and yet no `Value`.
            Err(_) => self.string(json),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(value: &Value) -> String {
        let mut inspect = Inspect::after(String::new());
        inspect.value(value);
        inspect.finish()
    }

    #[test]
    fn values_are_printed_as_elixir_does() {
        let check = |json: &str, expected: &str| {
            assert_eq!(
                inspect(&serde_json::from_str(json).unwrap()),
                expected,
                "{json}"
            );
        };
        check("null", "nil");
        check("[]", "[]");
        check("{}", "%{}");
        check(
            r#"{"b":[true,false],"a":{"c":-1.5}}"#,
            r#"%{"a" => %{"c" => -1.5}, "b" => [true, false]}"#,
        );
        check(
            r#""\"\\ \n\r\t #{a} # é \u0000\u001b""#,
            r#""\"\\ \n\r\t \#{a} # é \x00\x1B""#,
        );
    }

    #[test]
    fn json_is_printed_whatever_it_holds() {
        let check = |json: &str, expected: &str| {
            let mut inspect = Inspect::after(String::new());
            inspect.json(json);
            assert_eq!(inspect.finish(), expected);
        };
        check("[1e2]", "[100.0]");
        check("1e999", "\"1e999\"");
        check(&format!("[{}1]", "1,".repeat(JSON_BYTES_MAX)), "...");
    }

    #[test]
    fn long_values_are_cut() {
        let long = inspect(&Value::from("é".repeat(STRING_BYTES_MAX)));
        assert_eq!(
            long,
            format!("\"{}\" <> ...", "é".repeat(STRING_BYTES_MAX / 2))
        );
        let many = inspect(&Value::from(vec![1; ITEMS_MAX + 1]));
        assert_eq!(many, format!("[{}...]", "1, ".repeat(ITEMS_MAX)));
        let nested = inspect(&Value::from(vec![
            Value::from(vec!["x".repeat(1_000); 40]);
            40
        ]));
        assert!(nested.len() < 10_000, "{} bytes", nested.len());
    }
}
