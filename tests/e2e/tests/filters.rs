//! Filters: which rows they let through, and what is said of those that cannot be used.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: it fails the test that uses it"
)]

use pgrelay_e2e::Stage;
use pgrelay_test_support::Vsn;
use serde_json::{Value, json};

const TOPIC: &str = "realtime:room";

/// For each filter on `table`, the changes that `statements` make and it lets through: the first letter of the operation and
/// the key, such as `I1 U1`. All filters are entries of one channel.
async fn passing(stage: &Stage, table: &str, filters: &[&str], statements: &str) -> Vec<String> {
    let entries = filters
        .iter()
        .map(|filter| json!({"schema": "public", "table": table, "filter": filter}))
        .collect();
    let mut subscriber = stage.subscribe(entries).await;
    let ids = subscriber.ids();
    stage.sql.run(statements).await;
    let heard = subscriber.heard(&stage.sql).await;
    let of_filter = |id: &u64| {
        let changes = heard
            .iter()
            .filter(|change| change["ids"].as_array().unwrap().contains(&json!(id)));
        let name = |change: &Value| {
            let data = &change["data"];
            let row = data.get("record").unwrap_or(&data["old_record"]);
            let operation = &data["type"].as_str().unwrap()[..1];
            format!("{operation}{}", row["id"])
        };
        changes.map(name).collect::<Vec<_>>().join(" ")
    };
    ids.iter().map(of_filter).collect()
}

/// Each filter lets through what stands beside it.
async fn check(stage: &Stage, table: &str, cases: &[(&str, &str)], statements: &str) {
    let filters: Vec<&str> = cases.iter().map(|(filter, _)| *filter).collect();
    let found = passing(stage, table, &filters, statements).await;
    let wrong: Vec<String> = cases
        .iter()
        .zip(found)
        .filter(|((_, expected), found)| found != expected)
        .map(|((filter, expected), found)| format!("{filter}: {found:?}, not {expected:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_operator_tells_inserts_updates_and_deletes_of_its_rows() {
    let stage = Stage::open().await;
    let table =
        "create table t (id int primary key, details text); alter table t replica identity full";
    stage.publish(table, &["t"]).await;
    let life = |id: u8, details: &str| {
        format!(
            "insert into t values ({id}, {details}); update t set details = details where id = {id};
             delete from t where id = {id};"
        )
    };
    let statements = life(1, "'hello'") + &life(2, "null") + &life(3, "'zebra'");
    let (hello, null, zebra) = ("I1 U1 D1", "I2 U2 D2", "I3 U3 D3");
    let not_null = format!("{hello} {zebra}");
    let not_hello = format!("{null} {zebra}");
    let cases: &[(&str, &str)] = &[
        ("details=eq.hello", hello),
        ("details=neq.hello", zebra),
        ("details=lt.m", hello),
        ("details=lte.hello", hello),
        ("details=gt.hello", zebra),
        ("details=gte.hello", &not_null),
        ("details=in.(hello,world)", hello),
        ("details=like.hel%", hello),
        ("details=ilike.HEL%", hello),
        ("details=is.null", null),
        ("details=match.^hel", hello),
        ("details=imatch.^HEL", hello),
        ("details=isdistinct.hello", &not_hello),
        ("details=not.eq.hello", zebra),
        ("details=not.neq.hello", hello),
        ("details=not.lt.m", zebra),
        ("details=not.lte.hello", zebra),
        ("details=not.gt.hello", hello),
        ("details=not.gte.hello", ""),
        ("details=not.in.(hello,world)", zebra),
        ("details=not.like.hel%", zebra),
        ("details=not.ilike.HEL%", zebra),
        ("details=not.is.null", &not_null),
        ("details=not.match.^hel", zebra),
        ("details=not.imatch.^HEL", zebra),
        ("details=not.isdistinct.hello", hello),
    ];
    check(&stage, "t", cases, &statements).await;
}

#[tokio::test]
async fn null_is_only_seen_by_is_and_isdistinct() {
    let stage = Stage::open().await;
    let table = "create table t (id int primary key, n int, t text, b bool, f float8)";
    stage.publish(table, &["t"]).await;
    let cases = [
        ("n=eq.1", ""),
        ("n=neq.1", "I2 I3"),
        ("n=not.eq.1", "I2 I3"),
        ("n=lt.1", ""),
        ("n=not.gte.1", ""),
        ("n=in.(1,2)", ""),
        ("n=in.(1,null)", ""),
        ("n=not.in.(1,2)", "I2 I3"),
        ("n=not.in.()", "I2 I3"),
        ("n=in.()", ""),
        ("n=is.null", "I1"),
        ("n=not.is.null", "I2 I3"),
        ("n=isdistinct.5", "I1 I3"),
        ("n=not.isdistinct.5", "I2"),
        ("n=not.in.(1,null)", ""),
        ("t=eq.null", "I3"),
        ("t=neq.null", "I2"),
        ("t=like.%", "I2 I3"),
        ("t=not.like.x%", "I2 I3"),
        ("t=not.match.x", "I2 I3"),
        ("t=is.null", "I1"),
        ("b=is.null", "I1"),
        ("b=is.unknown", "I1"),
        ("b=is.true", "I2"),
        ("b=is.false", "I3"),
        ("b=not.is.true", "I1 I3"),
        ("b=not.is.false", "I1 I2"),
        ("b=not.is.unknown", "I2 I3"),
        ("b=neq.true", "I3"),
        // What is sent as null is null.
        ("f=is.null", "I1 I3"),
        ("f=eq.NaN", ""),
        ("f=gt.0", "I2"),
    ];
    let statements = "insert into t values (1, null, null, null, null);
        insert into t values (2, 5, '', true, 1);
        insert into t values (3, 6, 'null', false, 'NaN')";
    check(&stage, "t", &cases, statements).await;
}

#[tokio::test]
async fn quotes_keep_commas_parentheses_and_blanks() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key, v text)", &["t"])
        .await;
    let cases = [
        (r#"v=eq."a,b""#, "I1"),
        ("v=eq.a,id=gt.0", ""),
        (r#"v=eq."say ""hi""""#, ""),
        (r#"v=eq."say \"hi\"""#, "I2"),
        (r#"v=eq.say "hi""#, "I2"),
        (r#"v=eq."C:\\tmp""#, "I3"),
        (r"v=eq.C:\tmp", "I3"),
        (r#"v=eq."  x  ""#, "I4"),
        ("v=eq.  x  ", ""),
        (r#"v=eq."""#, "I5"),
        ("v=eq.", "I5"),
        (r#"v=eq."x"#, "I6"),
        (r#"v=eq."ab"cd"#, "I7"),
        ("v=eq.x)", "I8"),
        ("v=eq.x),id=eq.8", "I8"),
        ("v=eq.(1,2)", "I9"),
        (r#"v=eq."(1,2)",id=eq.9"#, "I9"),
        (r#"v=eq.5" tall,id=gt.0"#, "I10"),
        (r#"v=in.("a,b","x)","say \"hi\"")"#, "I1 I2 I8"),
        ("v=in.(a, b ,\"(1,2)\")", "I9 I13"),
        (r#"v=in.("C:\\tmp","NULL",null)"#, "I3 I11"),
        (r#"v=in.("{}")"#, "I12"),
        ("v=in.(\"\")", "I5"),
        ("v=eq.it's", "I14"),
        ("v=eq.50%=x.y:z", "I15"),
        ("v=eq.not.x", "I16"),
        ("v=eq.ünï ❤", "I17"),
        (r#"v=match."^x{1,2}$""#, "I18"),
        (" v=eq.x) , id=eq.8 ", "I8"),
        (
            "",
            "I1 I2 I3 I4 I5 I6 I7 I8 I9 I10 I11 I12 I13 I14 I15 I16 I17 I18",
        ),
        (
            "  ",
            "I1 I2 I3 I4 I5 I6 I7 I8 I9 I10 I11 I12 I13 I14 I15 I16 I17 I18",
        ),
    ];
    let values = [
        "a,b",
        "say \"hi\"",
        r"C:\tmp",
        "  x  ",
        "",
        "\"x",
        "\"ab\"cd",
        "x)",
        "(1,2)",
        "5\" tall",
        "NULL",
        "{}",
        "b",
        "it''s",
        "50%=x.y:z",
        "not.x",
        "ünï ❤",
        "xx",
    ];
    let statements: String = (1..)
        .zip(values)
        .map(|(id, value)| format!("insert into t values ({id}, '{value}');"))
        .collect();
    check(&stage, "t", &cases, &statements).await;
}

#[tokio::test]
async fn all_conditions_must_hold() {
    let stage = Stage::open().await;
    stage
        .publish(
            "create table t (id int primary key, n int, s text, d text)",
            &["t"],
        )
        .await;
    let cases = [
        ("n=gte.2,n=lt.4", "I2 I3"),
        ("s=in.(a,b),d=like.x%", "I1 I2"),
        ("s=neq.a,d=not.like.x%", "I3 I4"),
        ("d=not.is.null,s=ilike.B", "I2 I3"),
        ("n=gt.0,n=lt.9,s=eq.b,d=eq.y", "I3"),
        ("s=eq.a,s=eq.b", ""),
        ("id=eq.1,s=eq.a,d=eq.x1", "I1"),
        ("id=eq.1,s=eq.b", ""),
        (
            "id=gt.0,id=lt.9,id=neq.7,id=neq.8,n=gt.0,n=lt.9,s=neq.z,d=neq.z,s=gte.a,s=lte.a",
            "I1",
        ),
    ];
    let statements = "insert into t values (1, 1, 'a', 'x1'), (2, 2, 'b', 'x2'), (3, 3, 'b', 'y'), (4, 4, 'c', 'z')";
    check(&stage, "t", &cases, statements).await;
}

#[tokio::test]
async fn values_are_compared_as_values_of_the_columns_type() {
    let stage = Stage::open().await;
    let table = "create type mood as enum ('sad', 'ok', 'happy');
        create table t (id int primary key, i8 int8, n numeric, u uuid, at timestamptz, d date, iv interval, e mood,
            b bool, v varchar(5), c char(5), by bytea, jb jsonb, ia int[], ip inet)";
    stage.publish(table, &["t"]).await;
    let cases = [
        ("id=eq. 01 ", "I1"),
        ("i8=eq.9007199254740993", "I1"),
        ("i8=eq.9007199254740992", ""),
        ("i8=gt.9007199254740992", "I1"),
        ("n=eq.1.500", "I1"),
        ("n=lt.1e1", "I1 I2"),
        ("n=gt.9", ""),
        ("u=eq.{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", "I1"),
        ("u=in.(a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11)", "I1"),
        ("at=eq.2024-01-02 03:04:05+02", "I1"),
        ("at=eq.2024-01-02T01:04:05Z", "I1"),
        ("at=lt.2024-06-01", "I1"),
        ("d=eq.Jan 2 2024", "I1"),
        ("d=gt.2024-01-02", "I2"),
        ("iv=eq.1 mon", "I1 I2"),
        // The order of the declaration.
        ("e=gt.sad", "I1"),
        ("e=lte.ok", "I2"),
        ("b=eq.yes", "I1"),
        ("b=eq.0", "I2"),
        ("v=like.a_c", "I1"),
        ("c=eq.abc", "I1"),
        ("by=eq.0102ff", "I1"),
        (r"by=eq.\x0102ff", ""),
        (r#"jb=eq.{"a": 1.0}"#, "I1"),
        (r#"ia=eq."{1,2}""#, "I1"),
        ("ip=eq.10.0.0.1/32", "I1"),
    ];
    let statements = r#"insert into t values (1, 9007199254740993, 1.5, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
            '2024-01-02 01:04:05Z', '2024-01-02', '1 month', 'happy', true, 'abc', 'abc', '\x0102ff', '{"a": 1}', '{1,2}', '10.0.0.1');
        insert into t values (2, 1, 2, null, '2025-01-01Z', '2024-01-03', '30 days', 'sad', false, 'x', 'abcde', '\x', '2', '{}', '::1')"#;
    check(&stage, "t", &cases, statements).await;
}

#[tokio::test]
async fn an_update_is_judged_by_its_new_row_alone() {
    let stage = Stage::open().await;
    let table = "create table t (id int primary key, v text); alter table t replica identity full";
    stage.publish(table, &["t"]).await;
    let cases = [("v=eq.a", "I1 U2"), ("v=eq.b", "U1 I2 D1")];
    let statements = "insert into t values (1, 'a'); update t set v = 'b' where id = 1;
        insert into t values (2, 'b'); update t set v = 'a' where id = 2; delete from t where id = 1";
    check(&stage, "t", &cases, statements).await;
}

#[tokio::test]
async fn a_delete_is_judged_by_the_columns_of_the_replica_identity() {
    let stage = Stage::open().await;
    let tables = "create table standard (id int primary key, v text not null, w text);
        create table indexed (like standard including all); create unique index by_v on indexed (v);
        alter table indexed replica identity using index by_v;
        create table whole (like standard including all); alter table whole replica identity full";
    stage
        .publish(tables, &["standard", "indexed", "whole"])
        .await;
    for (table, of_id, of_v, of_w, is_null) in [
        ("standard", "D1", "", "", ""),
        ("indexed", "", "Dnull", "", ""),
        ("whole", "D1", "D1", "D1", ""),
    ] {
        stage
            .sql
            .run(&format!("insert into {table} values (1, 'v', 'w')"))
            .await;
        let cases = [
            ("id=eq.1", of_id),
            ("v=eq.v", of_v),
            ("v=neq.x", of_v),
            ("w=like.w%", of_w),
            ("w=not.is.null", of_w),
            // What is not there is not null either.
            ("w=is.null", is_null),
            ("w=isdistinct.x", of_w),
            ("id=eq.2", ""),
        ];
        check(&stage, table, &cases, &format!("delete from {table}")).await;
    }
}

/// Joins `entries`; the `message` told for each of them, `None` for a live one.
async fn told(stage: &Stage, entries: &[Value]) -> Vec<Option<String>> {
    let mut client = stage.connect(Vsn::V2).await;
    let response = client
        .join(TOPIC, json!({"postgres_changes": entries}))
        .await;
    let ids: Vec<Value> = response["postgres_changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].clone())
        .collect();
    let mut messages = vec![None; entries.len()];
    // The entry that is live is told last or first; with it everybody has an answer.
    let mut live = 0;
    while messages.iter().flatten().count() + live < entries.len() {
        let frame = client
            .expect("a system message", |frame| frame.event == "system")
            .await;
        let payload = frame.payload;
        assert_eq!(payload["extension"], "postgres_changes");
        if payload["status"] == "ok" {
            assert_eq!(payload["message"], "Subscribed to PostgreSQL");
            live = 1;
            continue;
        }
        let place = ids
            .iter()
            .position(|id| *id == payload["binding"])
            .unwrap_or_else(|| panic!("no entry has the id of {payload}"));
        messages[place] = Some(payload["message"].as_str().unwrap().to_owned());
    }
    messages
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_told_so() {
    let stage = Stage::open().await;
    let parse = "Error parsing `filter` params:";
    let parentheses = format!("{parse} `in` filter value must be wrapped by parentheses");
    let empty = format!("{parse} filter must not contain empty segments (check for extra commas)");
    let eleven = ["id=gt.0"; 11].join(",");
    let cases = [
        ("undefined", format!(r#"{parse} ["undefined"]"#)),
        ("wrong", format!(r#"{parse} ["wrong"]"#)),
        ("id=5", format!(r#"{parse} ["5"]"#)),
        ("id=not.5", format!(r#"{parse} ["5"]"#)),
        ("id=foo.hey", format!(r#"{parse} ["foo", "hey"]"#)),
        ("id=EQ.5", format!(r#"{parse} ["EQ", "5"]"#)),
        ("id=gt.0,x=foo.1", format!(r#"{parse} ["foo", "1"]"#)),
        ("id=in.1,2", parentheses.clone()),
        ("id=in.(1", parentheses.clone()),
        ("id=in.", parentheses),
        ("id=gt.0,", empty.clone()),
        (",id=eq.1", empty.clone()),
        ("id=eq.1,,id=eq.2", empty),
        (
            &eleven,
            format!("{parse} filter must not have more than 10 conditions"),
        ),
    ];
    let mut entries: Vec<Value> = cases
        .iter()
        .map(|(filter, _)| json!({"schema": "public", "table": "mark", "filter": filter}))
        .collect();
    entries.push(json!({"schema": "public", "table": "mark", "filter": "id=gt.0"}));
    let mut expected: Vec<Option<String>> = cases
        .into_iter()
        .map(|(_, message)| Some(message))
        .collect();
    expected.push(None);
    assert_eq!(told(&stage, &entries).await, expected);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_told_so() {
    let stage = Stage::open().await;
    let none = "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to:";
    let select = "Error parsing `select` params: expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]";
    let wildcard = "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.";
    let cases = [
        (
            json!({"event": "*"}),
            format!(r#"{none} %{{"event" => "*"}}"#),
        ),
        (
            json!({"event": "INSERT", "filter": "id=eq.1"}),
            format!(r#"{none} %{{"event" => "INSERT", "filter" => "id=eq.1"}}"#),
        ),
        (
            json!({"schema": "public", "filter": "id=eq.1"}),
            format!(r#"{none} %{{"filter" => "id=eq.1", "schema" => "public"}}"#),
        ),
        (
            json!({"schema": "public", "table": "mark", "filter": null}),
            format!(r#"{none} %{{"filter" => nil, "schema" => "public", "table" => "mark"}}"#),
        ),
        (
            json!({"schema": 5, "table": "mark"}),
            format!(r#"{none} %{{"schema" => 5, "table" => "mark"}}"#),
        ),
        (
            json!({"event": "*", "user_token": "secret"}),
            format!("{none} <redacted>"),
        ),
        (
            json!({"schema": "public", "table": "mark", "select": "id"}),
            select.to_owned(),
        ),
        (
            json!({"schema": "public", "select": ["id"]}),
            wildcard.to_owned(),
        ),
        (
            json!({"schema": "*", "table": "mark", "select": ["id"]}),
            wildcard.to_owned(),
        ),
    ];
    let entries: Vec<Value> = cases.iter().map(|(entry, _)| entry.clone()).collect();
    let expected: Vec<Option<String>> = cases
        .into_iter()
        .map(|(_, message)| Some(message))
        .collect();
    assert_eq!(told(&stage, &entries).await, expected);
}

const KINDS: &str = "create type mood as enum ('sad', 'ok');
    create table kinds (id int primary key, t text, v varchar(9), n numeric, b bool, u uuid, e mood, j json, at timestamptz)";
const RAISED: &str = "ERROR P0001 (raise_exception)";

fn refused_filters() -> Vec<(String, String)> {
    let too_many = format!("id=in.({})", vec!["1"; 101].join(","));
    let raised = |text: &str| format!("{RAISED} {text}");
    let not_text = |op: &str, kind: &str| {
        raised(&format!(
            "operator {op} requires a text-compatible column type, got {kind}"
        ))
    };
    let boolean = |value: &str, kind: &str| {
        raised(&format!(
            "is {value} filter requires a boolean column, got {kind}"
        ))
    };
    let word = raised("invalid value for is filter: must be null, true, false, or unknown");
    [
        ("nope=eq.1", raised("invalid column for filter nope")),
        ("ID=eq.1", raised("invalid column for filter ID")),
        ("id =eq.1", raised("invalid column for filter id ")),
        ("ctid=eq.(0,1)", raised("invalid column for filter ctid")),
        (
            "id=eq.hey",
            r#"ERROR 22P02 (invalid_text_representation) invalid input syntax for type integer: "hey""#.to_owned(),
        ),
        (
            "id=in.(1,hey)",
            r#"ERROR 22P02 (invalid_text_representation) invalid input syntax for type integer: "hey""#.to_owned(),
        ),
        (
            "u=isdistinct.hey",
            r#"ERROR 22P02 (invalid_text_representation) invalid input syntax for type uuid: "hey""#.to_owned(),
        ),
        (
            "e=eq.glad",
            r#"ERROR 22P02 (invalid_text_representation) invalid input value for enum mood: "glad""#.to_owned(),
        ),
        (
            "at=gt.soon",
            r#"ERROR 22007 (invalid_datetime_format) invalid input syntax for type timestamp with time zone: "soon""#.to_owned(),
        ),
        (&too_many, raised("too many values for `in` filter. Maximum 100")),
        ("t=is.NULL", word.clone()),
        ("b=is.yes", word),
        ("t=is.true", boolean("true", "text")),
        ("id=is.unknown", boolean("unknown", "integer")),
        ("id=like.1%", not_text("like", "integer")),
        ("n=not.ilike.1%", not_text("ilike", "numeric")),
        ("u=match.a", not_text("match", "uuid")),
        ("e=imatch.a", not_text("imatch", "mood")),
        (
            r#"t=match."(""#,
            raised("invalid regular expression for match filter: invalid regular expression: parentheses () not balanced"),
        ),
        (
            "v=imatch.[",
            raised("invalid regular expression for match filter: invalid regular expression: brackets [] not balanced"),
        ),
        (
            "j=eq.{}",
            "ERROR 42883 (undefined_function) operator does not exist: json = json".to_owned(),
        ),
    ]
    .map(|(filter, message)| (filter.to_owned(), message))
    .into()
}

/// A filter as the parameters show it: its parts, decoded.
fn shown(filter: &str) -> String {
    let (column, rest) = filter.split_once('=').unwrap();
    let (negate, rest) = match rest.strip_prefix("not.") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (op, value) = rest.split_once('.').unwrap();
    let value = match op {
        "in" => format!("{{{}}}", &value[1..value.len() - 1]),
        _ => value.trim_matches('"').to_owned(),
    };
    format!(r#"[{{"{column}", "{op}", "{value}", {negate}}}]"#)
}

#[tokio::test]
async fn a_filter_that_does_not_fit_its_column_is_told_so_in_the_databases_words() {
    let stage = Stage::open().await;
    stage.publish(KINDS, &["kinds"]).await;
    let cases = refused_filters();
    let mut entries: Vec<Value> = cases
        .iter()
        .map(|(filter, _)| json!({"event": "UPDATE", "schema": "public", "table": "kinds", "filter": filter}))
        .collect();
    let exception = |filters: &str, select: &str, message: &str| {
        Some(format!(
            "Unable to subscribe to changes with given parameters. An exception happened so please check your connect \
             parameters: [event: UPDATE, schema: public, table: kinds, filters: {filters}, select: {select}]. \
             Exception: {message}"
        ))
    };
    let mut expected: Vec<Option<String>> = cases
        .iter()
        .map(|(filter, message)| exception(&shown(filter), "nil", message))
        .collect();
    entries.push(
        json!({"event": "UPDATE", "schema": "public", "table": "kinds", "select": ["id", "nope"]}),
    );
    let message = format!("{RAISED} invalid column for select nope");
    expected.push(exception("[]", r#"["id", "nope"]"#, &message));
    // What fits is live beside them.
    entries.push(
        json!({"event": "UPDATE", "schema": "public", "table": "kinds", "filter": "v=like.a%"}),
    );
    expected.push(None);
    let found = told(&stage, &entries).await;
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_hundred_values_are_not_too_many() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key)", &["t"])
        .await;
    let numbers: Vec<String> = (1..=100).map(|n| n.to_string()).collect();
    let filter = format!("id=in.({})", numbers.join(","));
    let statements = "insert into t values (0), (1), (100), (101)";
    check(&stage, "t", &[(&filter, "I1 I100")], statements).await;
}

#[tokio::test]
async fn one_bad_entry_does_not_stop_the_others() {
    let stage = Stage::open().await;
    stage
        .publish("create table t (id int primary key, v text)", &["t"])
        .await;
    let mut client = stage.connect(Vsn::V2).await;
    let entries = json!([
        {"schema": "public", "table": "t", "filter": "wrong"},
        {"schema": "public", "table": "t", "filter": "v=eq.a"},
        {"schema": "public", "table": "nowhere"},
        {"schema": "public", "table": "t", "filter": "id=eq.hey"},
        {"event": "*"},
        {"schema": "public", "table": "t", "event": "DELETE"},
    ]);
    let response = client
        .join(TOPIC, json!({"postgres_changes": entries}))
        .await;
    let ids: Vec<&Value> = (0..6)
        .map(|place| &response["postgres_changes"][place]["id"])
        .collect();
    let mut refused = Vec::new();
    let mut live = 0;
    while refused.len() + live < 5 {
        let frame = client
            .expect("a system message", |frame| frame.event == "system")
            .await;
        match frame.payload["status"].as_str() {
            Some("ok") => live += 1,
            _ => refused.push(frame.payload["binding"].clone()),
        }
    }
    assert_eq!(live, 1);
    for bad in [0, 2, 3, 4] {
        assert!(refused.contains(ids[bad]), "{bad}: {refused:?}");
    }
    stage
        .sql
        .run("insert into t values (1, 'b'), (2, 'a'); delete from t")
        .await;
    let told = client
        .changes_until(TOPIC, |change| change["data"]["old_record"]["id"] == 2)
        .await;
    let found: Vec<(&Value, &Value)> = told
        .iter()
        .map(|change| (&change["ids"], &change["data"]["type"]))
        .collect();
    let (insert, delete) = (json!([ids[1]]), json!([ids[5]]));
    assert_eq!(
        found,
        [
            (&insert, &json!("INSERT")),
            (&delete, &json!("DELETE")),
            (&delete, &json!("DELETE")),
        ]
    );
}
