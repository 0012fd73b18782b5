//! Payloads that tell a channel who is present.

use crate::json;

/// One presence of a channel.
#[derive(Debug, Clone, Copy)]
pub struct PresenceEntry<'a> {
    /// The key it is tracked under.
    pub key: &'a str,
    /// Names this state of it.
    pub reference: &'a str,
    /// Names the state it had before, where this one replaces it.
    pub previous: Option<&'a str>,
    /// What is tracked: JSON object text.
    pub meta: &'a str,
}

/// Appends the payload of `presence_state`: everybody, by key.
pub fn write_state(out: &mut Vec<u8>, entries: &mut [PresenceEntry<'_>]) {
    entries.sort_by_key(|entry| entry.key);
    out.push(b'{');
    for (index, group) in entries
        .chunk_by(|left, right| left.key == right.key)
        .enumerate()
    {
        if index > 0 {
            out.push(b',');
        }
        json::write_string(out, group[0].key);
        out.extend_from_slice(b":{\"metas\":[");
        for (index, entry) in group.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_meta(out, entry);
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b'}');
}

/// Appends the payload of `presence_diff`.
pub fn write_diff(
    out: &mut Vec<u8>,
    joins: &mut [PresenceEntry<'_>],
    leaves: &mut [PresenceEntry<'_>],
) {
    out.extend_from_slice(b"{\"joins\":");
    write_state(out, joins);
    out.extend_from_slice(b",\"leaves\":");
    write_state(out, leaves);
    out.push(b'}');
}

/// The references stand last: of equal keys the last counts, so no client can forge one.
fn write_meta(out: &mut Vec<u8>, entry: &PresenceEntry<'_>) {
    let open = entry.meta.trim_end().strip_suffix('}').unwrap_or("{");
    let open = open.trim_end();
    out.extend_from_slice(open.as_bytes());
    if !open.ends_with('{') {
        out.push(b',');
    }
    out.extend_from_slice(b"\"phx_ref\":");
    json::write_string(out, entry.reference);
    if let Some(previous) = entry.previous {
        out.extend_from_slice(b",\"phx_ref_prev\":");
        json::write_string(out, previous);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry<'a>(key: &'a str, reference: &'a str, meta: &'a str) -> PresenceEntry<'a> {
        PresenceEntry {
            key,
            reference,
            previous: None,
            meta,
        }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn presences_of_one_key_are_listed_together() {
        let mut entries = [
            entry("b", "1", r#"{"n":1}"#),
            entry("a\"", "2", "{ }"),
            entry("b", "3", r#"{"phx_ref":"forged","o":{}}"#),
        ];
        assert_eq!(
            written(|out| write_state(out, &mut entries)),
            json!({
                "a\"": {"metas": [{"phx_ref": "2"}]},
                "b": {"metas": [{"n": 1, "phx_ref": "1"}, {"o": {}, "phx_ref": "3"}]},
            })
        );
        assert_eq!(written(|out| write_state(out, &mut [])), json!({}));
    }

    #[test]
    fn a_diff_names_what_an_update_replaces() {
        let mut joins = [PresenceEntry {
            previous: Some("1"),
            ..entry("a", "2", r#"{"n":2}"#)
        }];
        let mut leaves = [entry("a", "1", r#"{"n":1}"#)];
        assert_eq!(
            written(|out| write_diff(out, &mut joins, &mut leaves)),
            json!({
                "joins": {"a": {"metas": [{"n": 2, "phx_ref": "2", "phx_ref_prev": "1"}]}},
                "leaves": {"a": {"metas": [{"n": 1, "phx_ref": "1"}]}},
            })
        );
    }
}
