//! What a row says does not depend on the session that wrote it.

use pgrelay_e2e::CaptureDatabase;

/// Everything in a session that PostgreSQL lets change the text of a value.
const STRANGE_SESSION: &str = "
    set timezone = 'Asia/Tokyo';
    set datestyle = 'German, DMY';
    set intervalstyle = 'iso_8601';
    set bytea_output = 'escape';
    set extra_float_digits = -15;
    set xmlbinary = 'hex';
    set quote_all_identifiers = on;
    set search_path = strange, public;";

/// What the columns below need.
const TYPES: &str = r#"
    create schema strange;
    create table strange.target (id int);
    create table public."Target Two" (id int);
    create type public.mood as enum ('sad', 'very happy');
    create domain public.bytes as bytea;
    create domain public.positive as int check (value > 0);
    create domain public.real_number as float8;
    create type public.pair as (a int, b text, at timestamptz, "Long name" bytea);
    create type public.spoken as enum ('yes');
    create function public.say(public.spoken) returns json language sql as $$ select '{"said" : "yes"}'::json $$;
    create cast (public.spoken as json) with function public.say(public.spoken);"#;

/// A column: its type, a value as SQL, and that value in the log.
type Column = (&'static str, &'static str, &'static str);

const COLUMNS: &[Column] = &[
    ("smallint", "-32768", "-32768"),
    ("int", "2147483647", "2147483647"),
    ("bigint", "9223372036854775807", "9223372036854775807"),
    ("numeric", "12.3400", "12.3400"),
    (
        "numeric",
        "123456789012345678901234567890.1",
        "123456789012345678901234567890.1",
    ),
    ("numeric", "'NaN'", r#""NaN""#),
    ("real", "1e20", "1e+20"),
    ("real", "0.1", "0.1"),
    (
        "double precision",
        "0.1::float8 + 0.2::float8",
        "0.30000000000000004",
    ),
    ("double precision", "'NaN'", r#""NaN""#),
    ("double precision", "'-Infinity'", r#""-Infinity""#),
    ("double precision", "'-0'", "-0"),
    ("double precision[]", "'{NaN,1.5}'", r#"["NaN",1.5]"#),
    ("boolean", "true", "true"),
    (
        "text",
        r#"e'say "hi"\n\t\\ \u0001 ü'"#,
        r#""say \"hi\"\n\t\\ \u0001 ü""#,
    ),
    ("varchar(5)", "'abc'", r#""abc""#),
    ("char(5)", "'abc'", r#""abc  ""#),
    ("char(3)[]", "'{abc,x}'", r#"["abc","x  "]"#),
    ("name", "'a name'", r#""a name""#),
    (r#""char""#, "'c'", r#""c""#),
    ("bit(3)", "B'101'", r#""101""#),
    ("varbit", "B'1011'", r#""1011""#),
    ("bytea", r"'\x0102ff'", r#""\\x0102ff""#),
    ("bytea[]", r"array['\x01'::bytea]", r#"["\\x01"]"#),
    ("public.bytes", r"'\x0a0b'", r#""\\x0a0b""#),
    (
        "timestamp",
        "'2024-01-02 03:04:05.678900'",
        r#""2024-01-02T03:04:05.6789""#,
    ),
    (
        "timestamptz",
        "'2024-01-02 03:04:05.678900+02'",
        r#""2024-01-02T01:04:05.6789+00:00""#,
    ),
    (
        "timestamptz[]",
        "array['2024-01-02 03:04:05+02'::timestamptz]",
        r#"["2024-01-02T01:04:05+00:00"]"#,
    ),
    ("date", "'2024-01-02'", r#""2024-01-02""#),
    ("date", "'infinity'", r#""infinity""#),
    ("timestamp", "'-infinity'", r#""-infinity""#),
    ("time", "'03:04:05'", r#""03:04:05""#),
    ("timetz", "'03:04:05+02'", r#""03:04:05+02""#),
    ("interval", "'1 day 2 hours'", r#""1 day 02:00:00""#),
    (
        "json",
        r#"'{"b" : 1, "a": 2, "b":"\u0000"}'"#,
        r#"{"b" : 1, "a": 2, "b":"\u0000"}"#,
    ),
    (
        "json",
        r#"'["\ud800", 1e200000]'"#,
        r#"["\ud800", 1e200000]"#,
    ),
    (
        "jsonb",
        r#"'{"b" : 1.50, "a": [true, null]}'"#,
        r#"{"a": [true, null], "b": 1.50}"#,
    ),
    ("int[]", "'{{1,2},{3,NULL}}'", "[[1,2],[3,null]]"),
    ("int[]", "'[5:6]={1,2}'", "[1,2]"),
    ("text[]", "'{}'", "[]"),
    ("public.mood", "'very happy'", r#""very happy""#),
    ("public.mood[]", "'{sad}'", r#"["sad"]"#),
    ("public.positive", "7", "7"),
    ("public.real_number", "'NaN'", r#""NaN""#),
    ("public.spoken", "'yes'", r#"{"said" : "yes"}"#),
    (
        "public.pair",
        r"row(1, 'x y', '2024-01-02 03:04:05+02', '\xff')",
        r#"{"a":1,"b":"x y","at":"2024-01-02T01:04:05+00:00","Long name":"\\xff"}"#,
    ),
    ("int4range", "'[1,4]'", r#""[1,5)""#),
    (
        "tstzrange",
        "tstzrange('2024-01-02 03:04:05+02', null)",
        r#""[\"2024-01-02 01:04:05+00\",)""#,
    ),
    (
        "daterange",
        "'[2024-01-02,2024-01-04)'",
        r#""[2024-01-02,2024-01-04)""#,
    ),
    ("oid", "16384", r#""16384""#),
    ("regclass", "'strange.target'", r#""strange.target""#),
    (
        "regclass",
        r#"'public."Target Two"'"#,
        r#""public.\"Target Two\"""#,
    ),
    ("regtype", "'public.mood'", r#""public.mood""#),
    ("regproc", "'public.say'", r#""public.say""#),
    ("money", "1234.5", r#""$1,234.50""#),
    (
        "uuid",
        "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
        r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#,
    ),
    ("inet", "'192.168.1.5/24'", r#""192.168.1.5/24""#),
    ("cidr", "'10.0.0.0/8'", r#""10.0.0.0/8""#),
    ("macaddr", "'08:00:2b:01:02:03'", r#""08:00:2b:01:02:03""#),
    ("point", "'(1.1,2)'", r#""(1.1,2)""#),
    ("box", "'(1,2),(0,0.1)'", r#""(1,2),(0,0.1)""#),
    ("tsvector", "'a:1 b:2'", r#""'a':1 'b':2""#),
    ("tsquery", "'a & b'", r#""'a' & 'b'""#),
    ("pg_lsn", "'0/16B3748'", r#""0/16B3748""#),
    ("xid8", "'4294967296'", r#""4294967296""#),
    ("text", "null", "null"),
];

/// Types that came with PostgreSQL 14.
const COLUMNS_SINCE_14: &[Column] = &[
    ("numeric", "'Infinity'", r#""Infinity""#),
    ("int4multirange", "'{[1,2), [3,4]}'", r#""{[1,2),[3,5)}""#),
    (
        "tstzmultirange",
        "tstzmultirange(tstzrange('2024-01-02 03:04:05+02', null))",
        r#""{[\"2024-01-02 01:04:05+00\",)}""#,
    ),
];

/// Types of extensions that come with PostgreSQL, and that some packages leave out.
const COLUMNS_OF_EXTENSIONS: &[(&str, Column)] = &[
    ("citext", ("public.citext", "'MiXed'", r#""MiXed""#)),
    (
        "hstore",
        (
            "public.hstore",
            "'a=>1, b=>NULL'",
            r#"{"a": "1", "b": null}"#,
        ),
    ),
];

/// A column that is not inserted into.
const GENERATED: &str = r#"generated numeric generated always as (c0 * 2) stored, "Mixed case, ""quoted""" text default 'here'"#;
const GENERATED_IMAGE: &str = r#""generated":-65536,"Mixed case, \"quoted\"":"here""#;

async fn columns_of(database: &CaptureDatabase) -> Vec<Column> {
    let mut columns = COLUMNS.to_vec();
    if database.version().await >= 140_000 {
        columns.extend(COLUMNS_SINCE_14);
    }
    // A server may be built without it.
    let xml = database.session().simple_query("select '<a/>'::xml").await;
    if xml.is_ok() {
        columns.push(("xml", r#"'<a b="c"/>'"#, r#""<a b=\"c\"/>""#));
    }
    for (extension, column) in COLUMNS_OF_EXTENSIONS {
        let available =
            format!("select count(*) from pg_available_extensions where name = '{extension}'");
        if database.session().value(&available).await == "1" {
            let create = format!("create extension {extension} schema public");
            database.session().run(&create).await;
            columns.push(*column);
        }
    }
    columns
}

fn list(columns: &[Column], item: impl Fn(usize, &Column) -> String) -> String {
    let items: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(number, column)| item(number, column))
        .collect();
    items.join(",")
}

/// One line a column, so that a failure shows the one that differs.
fn lines(image: &str) -> Vec<&str> {
    image.split(",\"c").collect()
}

#[tokio::test]
async fn every_type_is_logged_alike_from_a_plain_and_from_a_strange_session() {
    let database = CaptureDatabase::create().await;
    database.session().run(TYPES).await;
    let columns = columns_of(&database).await;
    let definitions = list(&columns, |number, (kind, _, _)| format!("c{number} {kind}"));
    database
        .capture(
            &format!("create table public.everything ({definitions}, {GENERATED})"),
            "public.everything",
        )
        .await;
    let names = list(&columns, |number, _| format!("c{number}"));
    let values = list(&columns, |_, (_, value, _)| (*value).to_owned());
    let expected = format!(
        "{{{},{GENERATED_IMAGE}}}",
        list(&columns, |number, (_, _, image)| format!(
            "\"c{number}\":{image}"
        ))
    );
    let writes = format!(
        "insert into public.everything ({names}) values ({values});
         update public.everything set c0 = c0;
         delete from public.everything"
    );
    let session = database.session();
    session.run(&writes).await;
    session.run(STRANGE_SESSION).await;
    session.run(&writes).await;
    let log = database.log().await;
    assert_eq!(log.len(), 6);
    for row in log {
        let images = [(row.new, "D"), (row.old, "I")];
        for (image, absent_in) in images {
            let expected = if row.op == absent_in { "" } else { &expected };
            assert_eq!(lines(&image), lines(expected), "{}", row.op);
        }
    }
}

#[tokio::test]
async fn an_image_is_what_the_server_itself_makes_of_the_row_under_the_settings_of_the_log() {
    let database = CaptureDatabase::create().await;
    database.session().run(TYPES).await;
    let columns = columns_of(&database).await;
    let definitions = list(&columns, |number, (kind, _, _)| format!("c{number} {kind}"));
    database
        .capture(
            &format!("create table public.everything ({definitions})"),
            "public.everything",
        )
        .await;
    let values = list(&columns, |_, (_, value, _)| (*value).to_owned());
    let session = database.session();
    session
        .run(&format!(
            "{STRANGE_SESSION} insert into public.everything values ({values}); reset all"
        ))
        .await;
    let reader = database.another_session().await;
    reader
        .run(
            "set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; set bytea_output = 'hex';
             set extra_float_digits = 1; set lc_monetary = 'C'; set search_path = pg_catalog",
        )
        .await;
    let image = reader
        .value("select row_to_json(e) from public.everything e")
        .await;
    assert_eq!(lines(&database.log().await[0].new), lines(&image));
}

#[tokio::test]
async fn rows_of_many_tables_and_shapes_are_rendered_in_one_strange_session() {
    let database = CaptureDatabase::create().await;
    database
        .capture(
            "create schema strange;
             create table public.one (at timestamptz);
             create table public.two (id int, at date, only_nulls text);
             create table public.no_columns ();",
            "public.one, public.two, public.no_columns",
        )
        .await;
    database
        .session()
        .run(&format!(
            "{STRANGE_SESSION}
             insert into public.one values ('2024-01-02 00:00+00');
             insert into public.two values (1, '2024-01-02');
             insert into public.two values (null, null);
             insert into public.no_columns default values;
             alter table public.one add column more bytea;
             insert into public.one values (null, '\\x00')"
        ))
        .await;
    let images: Vec<_> = database
        .log()
        .await
        .into_iter()
        .map(|row| row.new)
        .collect();
    assert_eq!(
        images,
        [
            r#"{"at":"2024-01-02T00:00:00+00:00"}"#,
            r#"{"id":1,"at":"2024-01-02","only_nulls":null}"#,
            r#"{"id":null,"at":null,"only_nulls":null}"#,
            "{}",
            r#"{"at":null,"more":"\\x00"}"#,
        ]
    );
}

#[tokio::test]
async fn a_column_that_is_computed_when_read_is_null_in_the_log() {
    let database = CaptureDatabase::create().await;
    // PostgreSQL 18 brought generated columns that are not stored; a trigger sees nothing in them. Before, every generated
    // column is stored.
    let (kind, image) = if database.version().await >= 180_000 {
        ("virtual", "null")
    } else {
        ("stored", "4")
    };
    let table = format!(
        "create table public.doubles (id int, double int generated always as (id * 2) {kind})"
    );
    database.capture(&table, "public.doubles").await;
    database
        .session()
        .run("insert into public.doubles values (2)")
        .await;
    assert_eq!(
        database.log().await[0].new,
        format!(r#"{{"id":2,"double":{image}}}"#)
    );
}
