//! One received `postgres_changes` entry: what it says, its echo and its id.
//!
//! The id is deterministic, so that equal entries of different clients share their frames: the
//! first four bytes, big endian, of the SHA-256 of the entry without the keys `since` and `id`,
//! its top bit cleared, 0 replaced by 1. The entry is hashed as a JSON object without blanks, keys
//! in bytewise order, the last of repeated keys, strings with the shortest escapes, and other
//! values as they were sent.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::value::RawValue;

use crate::{
    binding::{BindingSpec, EventKind, NamePattern},
    filter,
    inspect::Inspect,
    json::{self, Object},
    limits::{NAME_BYTES_MAX, SELECT_COLUMNS_MAX},
};

/// Ids are 31 bits wide: a number of the same value in every language.
const ID_MAX: u32 = u32::MAX >> 1;

/// One entry of a join. Its `Debug` does not show the entry, which may hold a token.
pub struct JoinBinding {
    /// The entry as it was sent, less a key `id`, whose place is taken.
    pub echo: Box<RawValue>,
    /// Names the entry in `ids`: not zero, below 2^31, the same for equal entries whatever their
    /// `since` and the order of their keys.
    pub id: u32,
    /// Where the client wants to go on; our extension.
    pub since: Option<Since>,
    /// What to subscribe to, or the exact text of the `system` error.
    pub spec: Result<BindingSpec, String>,
}

/// The `since` of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// `"now"`: live from here, with cursors.
    Now,
    /// Any other string; whether it is a cursor shows when it is opened.
    Cursor(Box<str>),
}

impl JoinBinding {
    /// Reads an entry; `None` when it is no object.
    pub(crate) fn parse(entry: &RawValue) -> Option<Self> {
        let object = Object::parse(entry)?;
        let since = object
            .get("since")
            .map(|value| json::text(value).map(Since::read));
        let spec = match since {
            Some(None) => {
                Err("Error parsing `since` params: expected \"now\" or a cursor".to_owned())
            }
            Some(Some(_)) | None => parse_spec(&object),
        };
        Some(Self {
            echo: echo(entry, &object),
            id: id(&object),
            since: since.flatten(),
            spec,
        })
    }

    /// Appends the entry with its `id` added, all else verbatim.
    pub fn write_echo(&self, out: &mut Vec<u8>) {
        let members = self
            .echo
            .get()
            .strip_suffix('}')
            .expect("an echo is a JSON object")
            .trim_end();
        out.extend_from_slice(members.as_bytes());
        if !members.ends_with('{') {
            out.push(b',');
        }
        out.extend_from_slice(b"\"id\":");
        json::write_number(out, self.id);
        out.push(b'}');
    }
}

impl fmt::Debug for JoinBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinBinding")
            .field("id", &self.id)
            .field("since", &self.since)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Since {
    fn read(text: impl AsRef<str>) -> Self {
        match text.as_ref() {
            "now" => Self::Now,
            cursor => Self::Cursor(cursor.into()),
        }
    }
}

fn echo(entry: &RawValue, object: &Object<'_>) -> Box<RawValue> {
    if object.get("id").is_none() {
        return entry.to_owned();
    }
    let members = object.iter().filter(|(name, _)| *name != "id");
    let text = members.map(|(name, value)| format!("{}:{value}", json::string(name)));
    let text = format!("{{{}}}", text.collect::<Vec<_>>().join(","));
    RawValue::from_string(text).expect("members of an object make an object")
}

fn id(object: &Object<'_>) -> u32 {
    let mut text = vec![b'{'];
    for (name, value) in object.sorted() {
        if matches!(name, "since" | "id") {
            continue;
        }
        if text.len() > 1 {
            text.push(b',');
        }
        json::write_string(&mut text, name);
        text.push(b':');
        match json::text(value) {
            Some(string) => json::write_string(&mut text, &string),
            None => text.extend_from_slice(value.get().as_bytes()),
        }
    }
    text.push(b'}');
    let hash = digest(&SHA256, &text);
    shorten(*hash.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
}

/// Clients test ids for truth, so none is 0.
fn shorten(hash: [u8; 4]) -> u32 {
    (u32::from_be_bytes(hash) & ID_MAX).max(1)
}

fn parse_spec(entry: &Object<'_>) -> Result<BindingSpec, String> {
    let given = |key| entry.get(key).map(json::text);
    let (schema, table, filter) = match (given("schema"), given("table"), given("filter")) {
        (Some(Some(schema)), Some(Some(table)), Some(Some(filter))) => (schema, table, filter),
        (Some(Some(schema)), Some(Some(table)), None) => (schema, table, "".into()),
        (Some(Some(schema)), None, None) => (schema, "*".into(), "".into()),
        (None, Some(Some(table)), None) => ("public".into(), table, "".into()),
        _ => return Err(no_params(entry)),
    };
    for (key, name) in [("schema", &schema), ("table", &table)] {
        if name.len() > NAME_BYTES_MAX {
            return Err(format!(
                "Error parsing `{key}` params: must not be longer than {NAME_BYTES_MAX} bytes"
            ));
        }
    }
    let spec = BindingSpec {
        event: given("event")
            .flatten()
            .map_or(EventKind::All, |event| EventKind::parse(&event)),
        schema: NamePattern::parse(&schema),
        table: NamePattern::parse(&table),
        filters: filter::parse(&filter)?,
        select: parse_select(entry.get("select"))?,
    };
    let wildcard = spec.schema == NamePattern::Any || spec.table == NamePattern::Any;
    if wildcard && spec.select.is_some() {
        return Err(
            "Column selection is not supported for wildcard subscriptions. \
            Provide an explicit schema and table name."
                .to_owned(),
        );
    }
    Ok(spec)
}

/// The columns of a `select`. What is no string in the list is ignored; nothing left means all.
fn parse_select(select: Option<&RawValue>) -> Result<Option<Vec<Box<str>>>, String> {
    let error = |detail: &str| Err(format!("Error parsing `select` params: {detail}"));
    let Some(select) = select.filter(|select| !json::is_null(select)) else {
        return Ok(None);
    };
    let Some(items) = json::list(select, SELECT_COLUMNS_MAX) else {
        return error("expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]");
    };
    if items.len() > SELECT_COLUMNS_MAX {
        return error(&format!(
            "must not have more than {SELECT_COLUMNS_MAX} columns"
        ));
    }
    let columns: Vec<Box<str>> = items
        .into_iter()
        .filter_map(json::text)
        .map(Into::into)
        .collect();
    if columns.iter().any(|column| column.len() > NAME_BYTES_MAX) {
        return error(&format!(
            "column names must not be longer than {NAME_BYTES_MAX} bytes"
        ));
    }
    Ok((!columns.is_empty()).then_some(columns))
}

/// Neither schema nor table, or a value that is no string.
fn no_params(entry: &Object<'_>) -> String {
    let mut text = Inspect::after(
        "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: ".to_owned(),
    );
    if entry
        .get("user_token")
        .or_else(|| entry.get("auth_token"))
        .is_some()
    {
        text.raw("<redacted>");
    } else {
        text.list(("%{", "}"), entry.sorted(), |text, (name, value)| {
            text.string(name);
            text.raw(" => ");
            text.json(value.get());
        });
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entry: &str) -> JoinBinding {
        JoinBinding::parse(serde_json::from_str(entry).unwrap()).unwrap()
    }

    #[test]
    fn what_an_entry_may_hold_is_bounded() {
        let check = |key: &str, length: usize, expected: &str| {
            let entry = |length| match key {
                "select" => format!(
                    r#"{{"schema":"s","table":"t","select":["{}"]}}"#,
                    "x".repeat(length)
                ),
                "columns" => format!(
                    r#"{{"schema":"s","table":"t","select":[{}]}}"#,
                    vec!["\"x\""; length].join(",")
                ),
                key => format!(r#"{{"schema":"s","{key}":"{}"}}"#, "x".repeat(length)),
            };
            assert_eq!(parse(&entry(length)).spec.err(), None, "{key}");
            assert_eq!(parse(&entry(length + 1)).spec.unwrap_err(), expected);
        };
        check(
            "table",
            NAME_BYTES_MAX,
            "Error parsing `table` params: must not be longer than 255 bytes",
        );
        check(
            "select",
            NAME_BYTES_MAX,
            "Error parsing `select` params: column names must not be longer than 255 bytes",
        );
        check(
            "columns",
            SELECT_COLUMNS_MAX,
            "Error parsing `select` params: must not have more than 1600 columns",
        );
    }

    #[test]
    fn no_id_is_zero_or_has_32_bits() {
        assert_eq!(shorten([0x80, 0, 0, 0]), 1);
        assert_eq!(shorten([0xFF; 4]), ID_MAX);
    }

    #[test]
    fn different_entries_have_different_ids() {
        let entries = [
            r#"{"schema":"public"}"#,
            r#"{"table":"public"}"#,
            r#"{"schema":"public","filter":""}"#,
            r#"{"schema":"public","event":"*"}"#,
            r#"{"schema":"public","event":"INSERT"}"#,
            r#"{"schema":"public","event":"insert"}"#,
            r#"{"schema":null}"#,
            r#"{"schema":"null"}"#,
            "{}",
        ];
        let mut ids: Vec<u32> = entries.iter().map(|entry| parse(entry).id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), entries.len());
    }

    #[test]
    fn odd_json_is_echoed_as_it_came() {
        let entry = r#"{"schema":"s", "x":1e999 ,"y":"\ud800"}"#;
        let mut echo = Vec::new();
        let binding = parse(entry);
        binding.write_echo(&mut echo);
        let expected = entry.replace('}', &format!(",\"id\":{}}}", binding.id));
        assert_eq!(str::from_utf8(&echo), Ok(expected.as_str()));
    }
}
