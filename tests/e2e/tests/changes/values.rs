//! The value of every type, to the letter. Read from an event stream, whose data is the payload as it was written.

use pgrelay_e2e::Stage;
use pgrelay_test_support::{EventStream, Request};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KINDS: &str = "create type mood as enum ('sad', 'ok', 'happy');
    create type pair as (a int, b text);
    create domain positive as int check (value > 0);
    create domain blob as bytea;
    create domain real_number as float8;
    create type \"Color\" as enum ('Red');
    create type shade as enum ('dark');
    create function to_json(shade) returns json immutable language sql as $$ select '{\"shade\": true}'::json $$;
    create cast (shade as json) with function to_json(shade)";

/// How a value is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Every character.
    Text,
    /// What JSON it means.
    Meaning,
}
use By::{Meaning, Text};

/// Type, its name in `columns`, the value in SQL, the value in JSON.
type Case = (&'static str, &'static str, &'static str, By, &'static str);

const CASES: &[Case] = &[
    ("int2", "int2", "-32768", Text, "-32768"),
    ("int4", "int4", "2147483647", Text, "2147483647"),
    (
        "int8",
        "int8",
        "9223372036854775807",
        Text,
        "9223372036854775807",
    ),
    ("numeric", "numeric", "12.3400", Text, "12.3400"),
    (
        "numeric(40,5)",
        "numeric",
        "12345678901234567890123456789012345.5",
        Text,
        "12345678901234567890123456789012345.50000",
    ),
    ("numeric", "numeric", "'NaN'", Text, "null"),
    ("float4", "float4", "0.1", Text, "0.1"),
    (
        "float8",
        "float8",
        "0.1::float8 + 0.2::float8",
        Text,
        "0.30000000000000004",
    ),
    (
        "float8",
        "float8",
        "1e20",
        Meaning,
        "100000000000000000000.0",
    ),
    ("float8", "float8", "'-0'", Meaning, "-0.0"),
    ("float8", "float8", "'NaN'", Text, "null"),
    ("float4", "float4", "'Infinity'", Text, "null"),
    ("float8", "float8", "'-Infinity'", Text, "null"),
    ("float8[]", "_float8", "'{NaN,1.5}'", Text, r#"["NaN",1.5]"#),
    ("real_number", "real_number", "'NaN'", Text, r#""NaN""#),
    ("bool", "bool", "true", Text, "true"),
    (
        "text",
        "text",
        r#"E'q"\\ \t é ❤ \u007f </script>'"#,
        Meaning,
        r#""q\"\\ \t é ❤ \u007f </script>""#,
    ),
    ("text", "text", "''", Text, r#""""#),
    ("varchar(9)", "varchar", "'v'", Text, r#""v""#),
    ("name", "name", "'n'", Text, r#""n""#),
    (r#""char""#, "char", "'c'", Text, r#""c""#),
    ("char(5)", "bpchar", "'abc'", Text, r#""abc  ""#),
    (
        "char(3)[]",
        "_bpchar",
        "'{abc,x}'",
        Text,
        r#"["abc","x  "]"#,
    ),
    ("bit(3)", "bit", "B'101'", Text, r#""101""#),
    ("varbit", "varbit", "B'1011'", Text, r#""1011""#),
    (
        "uuid",
        "uuid",
        "'{A0EEBC999C0B4EF8BB6D6BB9BD380A11}'",
        Text,
        r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#,
    ),
    ("bytea", "bytea", r"'\x0102ff'", Text, r#""0102ff""#),
    ("bytea", "bytea", "''", Text, r#""""#),
    (
        "bytea[]",
        "_bytea",
        r"array['\x01'::bytea]",
        Text,
        r#"["\\x01"]"#,
    ),
    ("blob", "blob", r"'\x0a0b'", Text, r#""\\x0a0b""#),
    (
        "timestamp",
        "timestamp",
        "'2024-01-02 03:04:05.678900'",
        Text,
        r#""2024-01-02T03:04:05.6789""#,
    ),
    (
        "timestamptz",
        "timestamptz",
        "'2024-01-02 03:04:05.6789+02'",
        Text,
        r#""2024-01-02T01:04:05.6789+00:00""#,
    ),
    (
        "timestamptz",
        "timestamptz",
        "'infinity'",
        Text,
        r#""infinity""#,
    ),
    (
        "timestamp",
        "timestamp",
        "'-infinity'",
        Text,
        r#""-infinity""#,
    ),
    ("date", "date", "'2024-01-02'", Text, r#""2024-01-02""#),
    ("date", "date", "'infinity'", Text, r#""infinity""#),
    (
        "date",
        "date",
        "'0044-03-15 BC'",
        Text,
        r#""0044-03-15 BC""#,
    ),
    ("time", "time", "'03:04:05'", Text, r#""03:04:05""#),
    (
        "timetz",
        "timetz",
        "'03:04:05+02'",
        Text,
        r#""03:04:05+02""#,
    ),
    (
        "interval",
        "interval",
        "'1 day 2 hours'",
        Text,
        r#""1 day 02:00:00""#,
    ),
    (
        "json",
        "json",
        r#"'{"b": 1,  "a": [1.10, null], "a": "\u0041"}'"#,
        Meaning,
        r#"{"a":"A","b":1}"#,
    ),
    (
        "json",
        "json",
        r#"'"\u0000 \ud800"'"#,
        Text,
        r#""\u0000 \ud800""#,
    ),
    (
        "jsonb",
        "jsonb",
        r#"'{"b": 1, "a": {"c": null}}'"#,
        Meaning,
        r#"{"a":{"c":null},"b":1}"#,
    ),
    ("jsonb", "jsonb", r#"'"123"'"#, Text, r#""123""#),
    ("jsonb", "jsonb", "'null'", Text, "null"),
    ("int4[]", "_int4", "'{1,NULL,3}'", Text, "[1,null,3]"),
    ("int4[]", "_int4", "'{}'", Text, "[]"),
    (
        "int4[][]",
        "_int4",
        "'{{1,2},{3,4}}'",
        Text,
        "[[1,2],[3,4]]",
    ),
    ("int4[]", "_int4", "'[5:6]={1,2}'", Text, "[1,2]"),
    (
        "text[]",
        "_text",
        r#"'{a,"b,c","\"",NULL,"NULL"}'"#,
        Text,
        r#"["a","b,c","\"",null,"NULL"]"#,
    ),
    ("mood", "mood", "'happy'", Text, r#""happy""#),
    (r#""Color""#, "Color", "'Red'", Text, r#""Red""#),
    ("mood[]", "_mood", "'{sad,ok}'", Text, r#"["sad","ok"]"#),
    ("positive", "positive", "7", Text, "7"),
    ("pair", "pair", "(1, 'x y')", Text, r#"{"a":1,"b":"x y"}"#),
    (
        "pair[]",
        "_pair",
        "array[(1, null)::pair]",
        Text,
        r#"[{"a":1,"b":null}]"#,
    ),
    ("shade", "shade", "'dark'", Meaning, r#"{"shade":true}"#),
    ("int4range", "int4range", "'[1,5)'", Text, r#""[1,5)""#),
    (
        "tstzrange",
        "tstzrange",
        "'[2024-01-02 03:04:05+02,)'",
        Text,
        r#""[\"2024-01-02 01:04:05+00\",)""#,
    ),
    ("oid", "oid", "16384", Text, r#""16384""#),
    (
        "regclass",
        "regclass",
        "'pg_catalog.pg_class'",
        Text,
        r#""pg_class""#,
    ),
    ("money", "money", "12.5", Text, r#""$12.50""#),
    ("inet", "inet", "'10.0.0.1/8'", Text, r#""10.0.0.1/8""#),
    ("cidr", "cidr", "'10.0.0.0/8'", Text, r#""10.0.0.0/8""#),
    (
        "macaddr",
        "macaddr",
        "'08002b:010203'",
        Text,
        r#""08:00:2b:01:02:03""#,
    ),
    ("point", "point", "'(1,2.5)'", Text, r#""(1,2.5)""#),
    ("tsvector", "tsvector", "'a b'", Text, r#""'a' 'b'""#),
    (
        "pg_lsn",
        "pg_lsn",
        "'16/B374D848'",
        Text,
        r#""16/B374D848""#,
    ),
    ("xid8", "xid8", "'5000000000'", Text, r#""5000000000""#),
    ("int4", "int4", "null", Text, "null"),
    ("jsonb", "jsonb", "null", Text, "null"),
    ("bytea", "bytea", "null", Text, "null"),
];
/// Since PostgreSQL 14.
const NEWER: &[Case] = &[
    (
        "int4multirange",
        "int4multirange",
        "'{[1,2),[3,4)}'",
        Text,
        r#""{[1,2),[3,4)}""#,
    ),
    ("numeric", "numeric", "'Infinity'", Text, "null"),
];
/// Where the extension comes with the server.
const EXTENSIONS: &[(&str, Case)] = &[
    ("citext", ("citext", "citext", "'Ab'", Text, r#""Ab""#)),
    (
        "hstore",
        (
            "hstore",
            "hstore",
            "'a=>1,b=>NULL'",
            Meaning,
            r#"{"a":"1","b":null}"#,
        ),
    ),
];

/// Settings that change how values are written, all of them strange.
const STRANGE_SETTINGS: &str = "set timezone = 'America/New_York'; set datestyle = 'German, DMY';
    set intervalstyle = 'iso_8601'; set bytea_output = 'escape'; set extra_float_digits = 0;
    set search_path = public, pg_temp; set xmlbinary = 'hex'";

async fn cases(stage: &Stage) -> Vec<Case> {
    let mut cases = CASES.to_vec();
    let version = stage.sql.value("show server_version_num").await;
    if version.parse::<u32>().unwrap() >= 140_000 {
        cases.extend(NEWER);
    }
    for (extension, case) in EXTENSIONS {
        let there =
            format!("select count(*) from pg_available_extensions where name = '{extension}'");
        if stage.sql.value(&there).await == "1" {
            stage
                .sql
                .run(&format!("create extension {extension}"))
                .await;
            cases.push(*case);
        }
    }
    cases
}

#[derive(Debug)]
struct Row {
    columns: Value,
    record: BTreeMap<String, Box<RawValue>>,
}

/// The row of the next change.
async fn next_row(stream: &mut EventStream) -> Row {
    let event = stream.expect(|event| event.event.is_none()).await;
    let mut payload: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&event.data).unwrap();
    let data = payload.remove("data").unwrap();
    let mut data: BTreeMap<String, Box<RawValue>> = serde_json::from_str(data.get()).unwrap();
    let mut take = |key: &str| data.remove(key).unwrap();
    Row {
        columns: serde_json::from_str(take("columns").get()).unwrap(),
        record: serde_json::from_str(take("record").get()).unwrap(),
    }
}

fn check(row: &Row, cases: &[Case], writer: &str) {
    let mut wrong = Vec::new();
    for (index, (kind, name, value, by, expected)) in cases.iter().enumerate() {
        let column = format!("c{index}");
        let told = row.record[&column].get();
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let same = match by {
            Text => told == *expected,
            Meaning => {
                let (told, expected) = (parse(told), parse(expected));
                told == expected || told.is_number() && told.as_f64() == expected.as_f64()
            }
        };
        if !same {
            wrong.push(format!("{kind} {value}: {told} instead of {expected}"));
        }
        let listed = &row.columns[index + 1];
        if *listed != json!({"name": column, "type": name}) {
            wrong.push(format!("{kind}: listed as {listed}"));
        }
    }
    assert!(wrong.is_empty(), "{writer}:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_type_is_rendered_as_documented_whatever_the_writers_settings() {
    let stage = Stage::open().await;
    stage.sql.run(KINDS).await;
    let cases = cases(&stage).await;
    let columns: String = cases
        .iter()
        .enumerate()
        .map(|(index, (kind, ..))| format!(", c{index} {kind}"))
        .collect();
    let values: Vec<&str> = cases.iter().map(|(_, _, value, ..)| *value).collect();
    stage
        .publish(
            &format!("create table kinds (id int primary key{columns})"),
            &["kinds"],
        )
        .await;
    let url = stage.relay.url("/events?table=kinds");
    let key = format!("Bearer {}", stage.relay.anon_key());
    let mut stream = EventStream::open(Request::get(&url).header("authorization", &key)).await;
    stream
        .expect(|event| event.data.contains("Subscribed to PostgreSQL"))
        .await;
    stage
        .sql
        .run(&format!(
            "insert into kinds values (1, {})",
            values.join(", ")
        ))
        .await;
    check(&next_row(&mut stream).await, &cases, "a plain writer");
    let stranger = stage.database.connect().await;
    stranger.run(STRANGE_SETTINGS).await;
    let all: String = (0..cases.len())
        .map(|index| format!(", c{index}"))
        .collect();
    stranger
        .run(&format!("insert into kinds select 2{all} from kinds"))
        .await;
    check(
        &next_row(&mut stream).await,
        &cases,
        "a writer with strange settings",
    );
}
