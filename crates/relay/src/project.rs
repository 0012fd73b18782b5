//! The `data` object of a change, as subscribers of some columns receive it.
//!
//! Pure. Values are spliced as they were logged; only a type whose wire form differs is corrected.
//! Called once per change and column selection, by the encoder.

use crate::{
    change::{Change, Column, Operation, Relation, Rendering, Row},
    json::write_string,
    view::View,
};

/// Images above this size lose their long values; bytes of JSON text.
pub const CHANGE_BYTES_MAX: usize = 1_048_576;

/// What a value may measure and still be sent with a change above [`CHANGE_BYTES_MAX`].
const KEPT_VALUE_BYTES_MAX: usize = 64;

const NO_PRIMARY_KEY: &str = "Error 400: Bad Request, no primary key";
const UNAUTHORIZED: &str = "Error 401: Unauthorized";
const TOO_LARGE: &str = "Error 413: Payload Too Large";

impl Change {
    /// The change cannot be told apart from others of its table: it is announced without content
    /// to every subscriber of the table, whatever their filters.
    #[must_use]
    pub fn is_unidentified(&self) -> bool {
        matches!(self.operation, Operation::Insert | Operation::Update)
            && !self.relation.has_primary_key()
    }

    fn is_oversize(&self, view: &View) -> bool {
        let new = view.new_row(self).map_or(0, |row| row.text().len());
        let old = self.old.as_ref().map_or(0, |row| {
            let public = self
                .relation
                .columns
                .iter()
                .enumerate()
                .filter(|(_, column)| view.shows_old(self, column));
            public
                .filter_map(|(index, _)| row.value(index))
                .map(str::len)
                .sum()
        });
        // Of a row that has become too large nothing came.
        let is_cut = view.current.as_ref().is_some_and(|row| row.text() == "{}");
        self.too_large || is_cut || new + old > CHANGE_BYTES_MAX
    }
}

impl View {
    fn new_row<'a>(&'a self, change: &'a Change) -> Option<&'a Row> {
        self.current.as_deref().or(change.new.as_ref())
    }

    /// Of the old image the replica identity; only the primary key of rows deleted under row
    /// security, and of rows that say something else now: what they said before is nobody's business.
    fn shows_old(&self, change: &Change, column: &Column) -> bool {
        let key_only = self.current.is_some()
            || (change.operation == Operation::Delete && self.rights.row_security);
        column.identity && (column.primary_key || !key_only)
    }
}

/// Appends the `data` object of `change` as `view` shows it, restricted to `select` and the primary
/// key where columns were selected.
pub fn write_data(out: &mut Vec<u8>, change: &Change, view: &View, select: Option<&[Box<str>]>) {
    let relation = &*change.relation;
    let selected = |column: &Column| {
        view.rights.covers(&column.name)
            && select.is_none_or(|names| column.primary_key || names.contains(&column.name))
    };

    out.extend_from_slice(b"{\"schema\":");
    write_string(out, &relation.schema);
    out.extend_from_slice(b",\"table\":");
    write_string(out, &relation.table);
    out.extend_from_slice(b",\"type\":");
    write_string(out, change.operation.name());
    let is_deletion = change.operation == Operation::Delete;
    if change.is_unidentified() {
        write_bare(out, change, NO_PRIMARY_KEY);
        return;
    }
    if !is_deletion && !view.rights.identifies(relation) {
        write_bare(out, change, UNAUTHORIZED);
        return;
    }
    out.extend_from_slice(b",\"commit_timestamp\":");
    write_string(out, &change.commit_timestamp);
    out.extend_from_slice(b",\"columns\":");
    write_columns(out, relation, selected);
    let oversize = change.is_oversize(view);
    let fits = |text: &str| !oversize || text.len() <= KEPT_VALUE_BYTES_MAX;
    if let Some(new) = view.new_row(change).filter(|_| !is_deletion) {
        out.extend_from_slice(b",\"record\":");
        let is_whole = select.is_none() && view.rights.columns.is_none() && !oversize;
        if is_whole && is_wire_form(relation, new) {
            out.extend_from_slice(new.text().as_bytes());
        } else {
            write_record(out, relation, new, selected, fits);
        }
    }
    if let Some(old) = change
        .old
        .as_ref()
        .filter(|_| change.operation != Operation::Insert)
    {
        out.extend_from_slice(b",\"old_record\":");
        let visible = |column: &Column| selected(column) && view.shows_old(change, column);
        write_record(out, relation, old, visible, fits);
    }
    out.extend_from_slice(b",\"errors\":");
    write_errors(out, oversize.then_some(TOO_LARGE));
    out.push(b'}');
}

/// Announces a change without its content.
fn write_bare(out: &mut Vec<u8>, change: &Change, error: &str) {
    out.extend_from_slice(b",\"commit_timestamp\":null,\"columns\":[],\"record\":{}");
    if change.operation == Operation::Update {
        out.extend_from_slice(b",\"old_record\":{}");
    }
    out.extend_from_slice(b",\"errors\":");
    write_errors(out, Some(error));
    out.push(b'}');
}

fn write_errors(out: &mut Vec<u8>, error: Option<&str>) {
    match error {
        None => out.extend_from_slice(b"null"),
        Some(text) => {
            out.push(b'[');
            write_string(out, text);
            out.push(b']');
        }
    }
}

fn write_columns(out: &mut Vec<u8>, relation: &Relation, visible: impl Fn(&Column) -> bool) {
    let mut separator = b'[';
    for column in relation.columns.iter().filter(|column| visible(column)) {
        out.push(separator);
        separator = b',';
        out.extend_from_slice(b"{\"name\":");
        write_string(out, &column.name);
        out.extend_from_slice(b",\"type\":");
        write_string(out, &column.type_name);
        out.push(b'}');
    }
    if separator == b'[' {
        out.push(b'[');
    }
    out.push(b']');
}

fn write_record(
    out: &mut Vec<u8>,
    relation: &Relation,
    row: &Row,
    visible: impl Fn(&Column) -> bool,
    fits: impl Fn(&str) -> bool,
) {
    let mut separator = b'{';
    for (index, column) in relation.columns.iter().enumerate() {
        let Some(logged) = row.value(index).filter(|_| visible(column)) else {
            continue;
        };
        let (prefix, text) = column.rendering.apply(logged);
        if !fits(text) {
            continue;
        }
        out.push(separator);
        separator = b',';
        write_string(out, &column.name);
        out.push(b':');
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

/// Whether the logged text can be sent as it is.
fn is_wire_form(relation: &Relation, row: &Row) -> bool {
    row.is_exact()
        && relation.columns.iter().enumerate().all(|(index, column)| {
            column.rendering == Rendering::Verbatim
                || row
                    .value(index)
                    .is_none_or(|logged| column.rendering.apply(logged) == ("", logged))
        })
}

impl Operation {
    /// The `type` on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Hole => "HOLE",
        }
    }
}

impl Rendering {
    /// The wire form of a logged value, in two parts to be written one after the other.
    fn apply(self, logged: &str) -> (&'static str, &str) {
        match self {
            Self::FiniteOrNull if logged.starts_with('"') => ("", "null"),
            Self::BareHex => match logged.strip_prefix("\"\\\\x") {
                Some(digits) => ("\"", digits),
                None => ("", logged),
            },
            Self::Verbatim | Self::FiniteOrNull => ("", logged),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        testing::{change, table},
        view::Rights,
    };

    /// `columns` as in [`table`]; `images` as in [`change`].
    fn check(columns: &str, images: &str, select: Option<&[&str]>, expected: &Value) {
        let view = View::logged(Arc::new(Rights::all()));
        check_view(columns, images, &view, select, expected);
    }

    fn check_view(
        columns: &str,
        images: &str,
        view: &View,
        select: Option<&[&str]>,
        expected: &Value,
    ) {
        let select: Option<Vec<Box<str>>> =
            select.map(|names| names.iter().map(|name| (*name).into()).collect());
        let mut out = Vec::new();
        write_data(
            &mut out,
            &change(1, &table(1, "todos", columns).into(), images),
            view,
            select.as_deref(),
        );
        let data: Value = serde_json::from_slice(&out).unwrap();
        let mut expected = expected.clone();
        let head = json!({"schema": "public", "table": "todos", "commit_timestamp": "2026-01-02T03:04:05.678Z", "errors": null});
        for (key, value) in head.as_object().unwrap() {
            expected
                .as_object_mut()
                .unwrap()
                .entry(key)
                .or_insert(value.clone());
        }
        assert_eq!(data, expected, "{images}");
    }

    const TASKS: &str = "id:int8:pk title:text done:bool";

    fn todo_columns() -> Value {
        json!([{"name": "id", "type": "int8"}, {"name": "title", "type": "text"}, {"name": "done", "type": "bool"}])
    }

    #[test]
    fn has_the_keys_of_its_operation() {
        check(
            TASKS,
            r#"I {"id":1,"title":"x","done":false}"#,
            None,
            &json!({
            "type": "INSERT", "columns": todo_columns(), "record": {"id": 1, "title": "x", "done": false}}),
        );
        check(
            TASKS,
            r#"U {"id":1,"title":"y","done":true} {"id":1,"title":"x","done":false}"#,
            None,
            &json!({
            "type": "UPDATE", "columns": todo_columns(), "record": {"id": 1, "title": "y", "done": true}, "old_record": {"id": 1}}),
        );
        check(
            TASKS,
            r#"D {"id":1,"title":"x","done":false}"#,
            None,
            &json!({
            "type": "DELETE", "columns": todo_columns(), "old_record": {"id": 1}}),
        );
    }

    #[test]
    fn old_record_is_the_replica_identity() {
        let full = format!("full {TASKS}");
        let old = json!({"id": 1, "title": "x", "done": null});
        check(
            &full,
            r#"U {"id":2} {"id":1,"title":"x","done":null}"#,
            None,
            &json!({
            "type": "UPDATE", "columns": todo_columns(), "record": {"id": 2}, "old_record": old}),
        );
        check(
            &full,
            r#"D {"id":1,"title":"x","done":null}"#,
            None,
            &json!({
            "type": "DELETE", "columns": todo_columns(), "old_record": old}),
        );
        check(
            "id:int8:pk mail:text:identity",
            r#"D {"id":1,"mail":"x"}"#,
            None,
            &json!({
            "type": "DELETE", "columns": [{"name": "id", "type": "int8"}, {"name": "mail", "type": "text"}],
            "old_record": {"id": 1, "mail": "x"}}),
        );
    }

    fn rights(columns: Option<&[&str]>, row_security: bool) -> Arc<Rights> {
        Arc::new(Rights {
            columns: columns.map(|names| names.iter().map(|name| (*name).into()).collect()),
            row_security,
            policies: row_security,
        })
    }

    #[test]
    fn deletes_under_row_security_show_the_primary_key_only() {
        let columns = format!("full {TASKS}");
        let view = View::logged(rights(None, true));
        check_view(
            &columns,
            r#"D {"id":1,"title":"x","done":null}"#,
            &view,
            None,
            &json!({
            "type": "DELETE", "columns": todo_columns(), "old_record": {"id": 1}}),
        );
        check_view(
            &columns,
            r#"U {"id":1} {"id":1,"title":"x"}"#,
            &view,
            None,
            &json!({
            "type": "UPDATE", "columns": todo_columns(), "record": {"id": 1}, "old_record": {"id": 1, "title": "x"}}),
        );
    }

    #[test]
    fn columns_without_privilege_are_nowhere() {
        let columns = json!([{"name": "id", "type": "int8"}, {"name": "done", "type": "bool"}]);
        let view = View::logged(rights(Some(&["id", "done"]), false));
        let images = r#"U {"id":1,"title":"y","done":true} {"id":1,"title":"x","done":false}"#;
        for select in [None, Some(&["done", "title"][..])] {
            check_view(
                &format!("full {TASKS}"),
                images,
                &view,
                select,
                &json!({"type": "UPDATE", "columns": columns, "record": {"id": 1, "done": true}, "old_record": {"id": 1, "done": false}}),
            );
        }
    }

    #[test]
    fn without_the_key_only_the_error_is_told() {
        let view = View::logged(rights(Some(&["title"]), false));
        let errors = json!(["Error 401: Unauthorized"]);
        check_view(
            TASKS,
            r#"I {"id":1,"title":"x","done":true}"#,
            &view,
            None,
            &json!({"type": "INSERT", "columns": [], "record": {}, "commit_timestamp": null, "errors": errors}),
        );
        check_view(
            TASKS,
            r#"U {"id":1,"title":"x"} {"id":1}"#,
            &view,
            None,
            &json!({"type": "UPDATE", "columns": [], "record": {}, "old_record": {}, "commit_timestamp": null, "errors": errors}),
        );
        check_view(
            TASKS,
            r#"D {"id":1}"#,
            &view,
            None,
            &json!({"type": "DELETE", "columns": [{"name": "title", "type": "text"}], "old_record": {}}),
        );
    }

    #[test]
    fn a_row_that_says_something_else_now_says_only_that() {
        let relation = table(1, "todos", TASKS);
        let current = Row::parse(r#"{"id":1,"title":"redacted","done":true}"#, &relation).unwrap();
        let view = View {
            rights: rights(None, true),
            current: Some(Arc::new(current)),
        };
        check_view(
            &format!("full {TASKS}"),
            r#"U {"id":1,"title":"4111","done":true} {"id":1,"title":"4000","done":false}"#,
            &view,
            None,
            &json!({"type": "UPDATE", "columns": todo_columns(),
                "record": {"id": 1, "title": "redacted", "done": true}, "old_record": {"id": 1}}),
        );
    }

    #[test]
    fn selects_columns_and_always_the_primary_key() {
        let columns = json!([{"name": "id", "type": "int8"}, {"name": "done", "type": "bool"}]);
        check(
            &format!("full {TASKS}"),
            r#"U {"id":1,"title":"y","done":true} {"id":1,"title":"x","done":false}"#,
            Some(&["done", "gone"]),
            &json!({"type": "UPDATE", "columns": columns, "record": {"id": 1, "done": true}, "old_record": {"id": 1, "done": false}}),
        );
    }

    #[test]
    fn corrects_what_the_wire_writes_otherwise() {
        let columns = "id:int8:pk ratio:float8:finite raw:bytea:hex";
        let listed = json!([{"name": "id", "type": "int8"}, {"name": "ratio", "type": "float8"}, {"name": "raw", "type": "bytea"}]);
        for (logged, sent) in [
            (
                r#"{"id":1,"ratio":"NaN","raw":"\\x0102ff"}"#,
                json!({"id": 1, "ratio": null, "raw": "0102ff"}),
            ),
            (
                r#"{"id":1,"ratio":"-Infinity","raw":"\\x"}"#,
                json!({"id": 1, "ratio": null, "raw": ""}),
            ),
            (
                r#"{"id":1,"ratio":1e+20,"raw":null}"#,
                json!({"id": 1, "ratio": 1e20, "raw": null}),
            ),
        ] {
            check(
                columns,
                &format!("I {logged}"),
                None,
                &json!({"type": "INSERT", "columns": listed, "record": sent}),
            );
        }
    }

    #[test]
    fn sends_logged_text_unchanged() {
        let mut out = Vec::new();
        let relation = table(1, "t", "id:int8:pk j:json").into();
        write_data(
            &mut out,
            &change(1, &relation, r#"I {"id":1,"j":{"b": 1.10,  "a":"\u0041"}}"#),
            &View::logged(Arc::new(Rights::all())),
            None,
        );
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(r#""record":{"id":1,"j":{"b": 1.10,  "a":"\u0041"}},"#),
            "{text}"
        );
    }

    #[test]
    fn drops_members_that_are_no_column() {
        check(
            "id:int8:pk",
            r#"I {"id":1,"dropped":"x"}"#,
            None,
            &json!({"type": "INSERT", "columns": [{"name": "id", "type": "int8"}], "record": {"id": 1}}),
        );
    }

    #[test]
    fn without_a_primary_key_only_the_error_is_told() {
        let errors = json!(["Error 400: Bad Request, no primary key"]);
        check(
            "note:text",
            r#"I {"note":"x"}"#,
            None,
            &json!({"type": "INSERT", "columns": [], "record": {}, "commit_timestamp": null, "errors": errors}),
        );
        check(
            "full note:text",
            r#"U {"note":"y"} {"note":"x"}"#,
            Some(&["note"]),
            &json!({"type": "UPDATE", "columns": [], "record": {}, "old_record": {}, "commit_timestamp": null, "errors": errors}),
        );
        check(
            "full note:text",
            r#"D {"note":"x"}"#,
            None,
            &json!({"type": "DELETE", "columns": [{"name": "note", "type": "text"}], "old_record": {"note": "x"}}),
        );
    }

    #[test]
    fn oversize_changes_keep_short_values_only() {
        let errors = json!(["Error 413: Payload Too Large"]);
        let columns = json!([{"name": "id", "type": "int8"}, {"name": "a", "type": "text"}, {"name": "b", "type": "text"}, {"name": "c", "type": "text"}]);
        let (long, at_limit, above) =
            ("x".repeat(CHANGE_BYTES_MAX), "é".repeat(31), "x".repeat(63));
        let row = json!({"id": 1, "a": long, "b": at_limit, "c": above});
        check(
            "id:int8:pk a:text b:text c:text",
            &format!("I {row}"),
            None,
            &json!({
            "type": "INSERT", "columns": columns, "record": {"id": 1, "b": at_limit}, "errors": errors}),
        );
        check(
            "id:int8:pk",
            r#"I! {"id":1}"#,
            None,
            &json!({
            "type": "INSERT", "columns": [{"name": "id", "type": "int8"}], "record": {"id": 1}, "errors": errors}),
        );
    }

    #[test]
    fn a_change_at_the_limit_is_sent_whole() {
        let fill = CHANGE_BYTES_MAX - r#"{"id":1,"a":""}"#.len();
        for (length, sent_whole) in [(fill, true), (fill + 1, false)] {
            let mut out = Vec::new();
            let relation = table(1, "t", "id:int8:pk a:text").into();
            write_data(
                &mut out,
                &change(
                    1,
                    &relation,
                    &format!(r#"I {{"id":1,"a":"{}"}}"#, "x".repeat(length)),
                ),
                &View::logged(Arc::new(Rights::all())),
                None,
            );
            assert_eq!(out.len() > CHANGE_BYTES_MAX, sent_whole);
        }
    }
}
