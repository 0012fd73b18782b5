//! Filters on rows: the same verdicts as PostgreSQL's own, whoever evaluates.

use std::sync::Arc;

use pgrelay_protocol::{Filter, FilterOp};
use pgrelay_relay::{
    change::{Change, Operation, Page},
    filter::{FilterTest, Ordering, Scalar, Test},
    ports::Authorizer,
};

use pgrelay_test_support::wait_for;

use crate::rig::{Rig, claims, spec};

const TABLE: &str = r#"
    create type mood as enum ('sad', 'ok', 'happy');
    create type pair as (a int, b text);
    create domain positive as int check (value > 0);
    create domain word as text;
    create table k (
      id int primary key, i2 int2, i8 int8, n numeric, f8 float8, b bool, t text, v varchar(9), c char(5), nm name,
      u uuid, d date, ts timestamp, tz timestamptz, tm time, iv interval, jb jsonb, ia int4[], ta text[], e mood,
      r int4range, ip inet, pos positive, w word, co pair, cs pair[], bt bit(3), o oid, "Odd ""name""" text[], bx box[])"#;

const ROWS: &str = r#"
    insert into k (id) values (1);
    insert into k values (2, 1, 1, 1.50, 1.5, true, 'a', 'a', 'a', 'a', '00000000-0000-0000-0000-000000000001',
      '2024-01-02', '2024-01-02 03:04:05', '2024-01-02 03:04:05+02', '10:00', '1 mon', '{"b": [1, "x"]}', '{1,2}', '{a,"b,c"}',
      'sad', '[1,5)', '10.0.0.1', 1, 'a', (1,'x'), array[(1,'x')::pair], '101', 1, '{"q\"uote",null}', '{(1,1),(0,0)}');
    insert into k values (3, -5, -9007199254740993, 1.5, -0.0, false, E'B "q" \\ % _ \n é', 'Bcd', 'Bcd', 'Bcd',
      'ffffffff-ffff-ffff-ffff-ffffffffffff', 'infinity', '-infinity', '2024-01-02 01:04:05', '23:59:59.5', '30 days', '"x"',
      '{}', '{NULL}', 'happy', 'empty', '10.0.0.0/8', 7, '', (null,null), '{}', '000', 4294967295, '{}', '{}');
    insert into k values (4, 32767, 9223372036854775807, 100000000000000000000000.1, 1e300, true, '', '', '', '', null,
      '0044-03-15 BC', '2024-01-02 03:04:05.6789', null, '00:00', '-1 day 00:00:01', '[1, 2.0]', '{{1,2},{3,4}}', '{"NULL",""}',
      'ok', '(,3]', '::1', 2147483647, 'zz', (2,''), array[null::pair], '111', 0, '{x}', null);
"#;

/// How the relay decides a native test on JSON text, written down once more.
fn native(change: &Change, test: &FilterTest) -> Option<bool> {
    let place = change.relation.column(&test.column)?;
    let row = if change.operation == Operation::Delete {
        change.old.as_ref()
    } else {
        change.new.as_ref()
    };
    let json = row?.value(place)?;
    let null = json == "null";
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let is = |scalar: &Scalar| match scalar {
        Scalar::Int(n) => value.as_i64() == Some(*n),
        Scalar::Bool(b) => value.as_bool() == Some(*b),
        Scalar::Uuid(bytes) => value.as_str() == Some(&uuid::Uuid::from_bytes(*bytes).to_string()),
        Scalar::Text(text) => value.as_str() == Some(text),
    };
    let holds = match &test.test {
        Test::Database { .. } => return None,
        Test::IsNull => null,
        Test::IsBool(expected) => value.as_bool() == Some(*expected),
        Test::IsDistinct(scalar) => !is(scalar),
        Test::OneOf(_) | Test::Order(..) if null => return Some(false),
        Test::OneOf(scalars) => scalars.iter().any(is),
        Test::Order(ordering, bound) => {
            let n = value.as_i64().unwrap();
            match ordering {
                Ordering::Lt => n < *bound,
                Ordering::Lte => n <= *bound,
                Ordering::Gt => n > *bound,
                Ordering::Gte => n >= *bound,
            }
        }
    };
    Some(holds != test.negate)
}

/// The filter as a condition in SQL.
fn condition(filter: &Filter) -> String {
    let column = format!("\"{}\"", filter.column.replace('"', "\"\""));
    let value = format!("'{}'", filter.value.replace('\'', "''"));
    // A literal of unknown type would be read as an anonymous record.
    let value = if &*filter.column == "co" {
        format!("{value}::pair")
    } else {
        value
    };
    let not = if filter.negate { "not " } else { "" };
    let sign = match filter.op {
        FilterOp::Is => return format!("{column} is {not}{}", filter.value),
        FilterOp::IsDistinct => return format!("{column} is {not}distinct from {value}"),
        FilterOp::In => return format!("{not}({column} = any ({value}))"),
        FilterOp::Eq => "=",
        FilterOp::Neq => "<>",
        FilterOp::Lt => "<",
        FilterOp::Lte => "<=",
        FilterOp::Gt => ">",
        FilterOp::Gte => ">=",
        FilterOp::Like => "like",
        FilterOp::Ilike => "ilike",
        FilterOp::Match => "~",
        FilterOp::Imatch => "~*",
    };
    format!("{not}({column} {sign} {value})")
}

async fn page_of(rig: &Rig, statements: &str, n: usize) -> Arc<Page> {
    let following = rig.follow().await;
    // Whatever was there before is told.
    following.armed().await;
    let before = following.feed.pages().len();
    rig.sql.run(statements).await;
    let page = wait_for("the page", async || {
        following.feed.pages().get(before).cloned()
    })
    .await;
    assert_eq!(page.changes.len(), n, "one batch");
    following.stop().await;
    page
}

const SCALAR: &[&str] = &["eq", "neq", "lt", "lte", "gt", "gte", "isdistinct"];
const TEXTUAL: &[&str] = &["like", "ilike", "match", "imatch"];
/// Column, operators, values.
const CASES: &[(&str, &[&str], &[&str])] = &[
    ("id", SCALAR, &["2", "0", "-1"]),
    ("i2", SCALAR, &["1", "-5", "32767"]),
    (
        "i8",
        SCALAR,
        &["1", "-9007199254740993", "9223372036854775807"],
    ),
    ("n", SCALAR, &["1.5", "1.500", "1e23", "NaN"]),
    ("f8", SCALAR, &["1.5", "0", "1e300", "Infinity"]),
    (
        "b",
        &["eq", "neq", "lt", "gte", "isdistinct"],
        &["true", "f", "no"],
    ),
    ("b", &["is"], &["null", "true", "false", "unknown"]),
    ("t", SCALAR, &["a", "", "B \"q\" \\ % _ \n é", "b"]),
    (
        "t",
        &["like", "ilike"],
        &["a", "%", "b%", "_", "B%\\%%", ""],
    ),
    ("t", &["match", "imatch"], &["a", "^b", "", "(a|B)", "\\d"]),
    ("v", SCALAR, &["a", "Bcd", "way too long for it"]),
    ("v", TEXTUAL, &["b", "B%", "c"]),
    ("c", SCALAR, &["a", "a    ", "Bcd", ""]),
    ("c", &["like", "ilike"], &["a%", "B%"]),
    ("nm", SCALAR, &["a", "Bcd"]),
    (
        "u",
        SCALAR,
        &[
            "00000000000000000000000000000001",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        ],
    ),
    (
        "d",
        SCALAR,
        &["2024-01-02", "infinity", "Jan 2, 2024", "0044-03-15 BC"],
    ),
    (
        "ts",
        SCALAR,
        &[
            "2024-01-02 03:04:05",
            "-infinity",
            "2024-01-02T03:04:05.6789",
        ],
    ),
    (
        "tz",
        SCALAR,
        &["2024-01-02 01:04:05+00", "2024-01-02 03:04:05 Europe/Kyiv"],
    ),
    ("tm", SCALAR, &["10:00", "24:00"]),
    ("iv", SCALAR, &["30 days", "1 mon", "-23:59:59"]),
    (
        "jb",
        SCALAR,
        &[r#"{"b":[1,"x"]}"#, r#""x""#, "[1,2]", "null"],
    ),
    ("ia", SCALAR, &["{1,2}", "{}", "{{1,2},{3,4}}"]),
    ("ta", SCALAR, &[r#"{a,"b,c"}"#, "{NULL}", r#"{"NULL",""}"#]),
    ("e", SCALAR, &["sad", "ok", "happy"]),
    ("r", SCALAR, &["[1,4]", "empty", "(,3]"]),
    ("ip", SCALAR, &["10.0.0.1", "10.0.0.0/8", "::1"]),
    ("pos", SCALAR, &["1", "7"]),
    ("w", SCALAR, &["a", ""]),
    ("w", TEXTUAL, &["a%", "^z"]),
    ("co", SCALAR, &["(1,x)", "(2,\"\")", "(,)"]),
    (
        "cs",
        &["eq", "neq", "isdistinct"],
        &[r#"{"(1,x)"}"#, "{}", "{NULL}"],
    ),
    ("bt", SCALAR, &["101", "000"]),
    ("o", SCALAR, &["1", "4294967295"]),
    (
        "Odd \"name\"",
        &["eq", "isdistinct"],
        &[r#"{"q\"uote",null}"#, "{x}"],
    ),
    ("ta", &["is"], &["null"]),
    ("jb", &["is"], &["null"]),
];
/// Column, list of `in`.
const LISTS: &[(&str, &str)] = &[
    ("id", "{1,2,3}"),
    ("id", "{}"),
    ("id", "{2,NULL}"),
    ("n", "{1.5,7}"),
    ("t", r#"{a,"",NULL}"#),
    ("t", r#"{"B \"q\" \\ % _ \n é"}"#),
    ("v", "{a,Bcd}"),
    ("u", "{00000000-0000-0000-0000-000000000001}"),
    ("e", "{sad,ok}"),
    ("tz", r#"{"2024-01-02 01:04:05+00"}"#),
    ("iv", r#"{"30 days"}"#),
    ("jb", r#"{"\"x\"","[1,2]"}"#),
    ("c", "{a}"),
];

fn every_filter() -> Vec<(String, FilterOp, String)> {
    let mut filters: Vec<(String, FilterOp, String)> = Vec::new();
    for (column, ops, values) in CASES {
        for op in *ops {
            for value in *values {
                filters.push((
                    (*column).to_owned(),
                    FilterOp::ALL
                        .into_iter()
                        .find(|known| known.as_str() == *op)
                        .unwrap(),
                    (*value).to_owned(),
                ));
            }
        }
    }
    filters.extend(
        LISTS
            .iter()
            .map(|(column, list)| ((*column).to_owned(), FilterOp::In, (*list).to_owned())),
    );
    filters
}

#[tokio::test]
async fn every_operator_on_every_type_decides_as_postgresql_does() {
    let rig = Rig::new().await;
    rig.table(TABLE, "k").await;
    rig.sql.run("grant select on k to anon").await;
    let page = page_of(&rig, &format!("begin; {ROWS} commit"), 4).await;
    let resolver = rig.resolver();
    let all: Vec<u32> = (0..4).collect();
    let filters = every_filter();
    let (mut natively, mut wrong) = (0, Vec::new());
    for (column, op, value) in filters {
        for negate in [false, true] {
            let filter = Filter {
                column: column.as_str().into(),
                op,
                negate,
                value: value.as_str().into(),
            };
            let sql = condition(&filter);
            let expected =
                rig.sql.value(&format!("set timezone = 'UTC'; select array_agg(coalesce({sql}, false) order by id) from k")).await;
            let expected: Vec<bool> = expected
                .trim_matches(['{', '}'])
                .split(',')
                .map(|b| b == "t")
                .collect();
            let mut binding = spec("k", "");
            binding.filters = vec![filter];
            let resolved = resolver.resolve(Arc::new(binding), claims("anon")).await;
            let tests = resolved
                .unwrap_or_else(|error| panic!("{sql}: {}", error.message))
                .tests;
            let found = resolver
                .evaluate(Arc::clone(&page), all.clone(), Arc::clone(&tests))
                .await
                .unwrap();
            if found != expected {
                wrong.push(format!("PostgreSQL: {sql}: {found:?}, not {expected:?}"));
            }
            let found: Option<Vec<bool>> = page
                .changes
                .iter()
                .map(|change| native(change, &tests[0]))
                .collect();
            if let Some(found) = found {
                natively += 1;
                if found != expected {
                    wrong.push(format!("natively: {sql}: {found:?}, not {expected:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(natively > 100, "{natively}");
}

#[tokio::test]
async fn a_delete_is_judged_by_its_replica_identity() {
    let rig = Rig::new().await;
    rig.sql
        .run("grant select on t to anon; insert into t values (1, 'x')")
        .await;
    let resolver = rig.resolver();
    let judged = async |page: &Arc<Page>, filter: &str| {
        let tests = resolver
            .resolve(Arc::new(spec("t", filter)), claims("anon"))
            .await
            .unwrap()
            .tests;
        resolver
            .evaluate(Arc::clone(page), vec![0], tests)
            .await
            .unwrap()[0]
    };
    let page = page_of(&rig, "delete from t", 1).await;
    assert!(judged(&page, "id=eq.1").await);
    assert!(!judged(&page, "v=like.x").await, "not a column of the key");
    rig.sql
        .run("insert into t values (1, 'x'); alter table t replica identity full")
        .await;
    let page = page_of(&rig, "delete from t", 1).await;
    assert!(judged(&page, "v=like.x").await);
}

#[tokio::test]
async fn what_is_sent_as_null_is_null_to_filters_and_bytes_are_the_digits_sent() {
    let rig = Rig::new().await;
    rig.table(
        "create table s (id int primary key, f float8, n numeric, b bytea)",
        "s",
    )
    .await;
    rig.sql.run("grant select on s to anon").await;
    let page = page_of(
        &rig,
        r"insert into s values (1, 'NaN', 'NaN', '\x0102ff')",
        1,
    )
    .await;
    let resolver = rig.resolver();
    for (filter, expected) in [
        ("f=eq.NaN", false),
        ("f=neq.1", false),
        ("f=isdistinct.1", true),
        ("n=gt.1", false),
        ("b=eq.0102ff", true),
        ("b=eq.\\x0102ff", false),
        ("b=like.01%", true),
        ("b=ilike.%FF", true),
        ("b=in.(00,0102ff)", true),
    ] {
        let tests = resolver
            .resolve(Arc::new(spec("s", filter)), claims("anon"))
            .await
            .unwrap()
            .tests;
        let found = resolver
            .evaluate(Arc::clone(&page), vec![0], tests)
            .await
            .unwrap();
        assert_eq!(found, [expected], "{filter}");
    }
}

#[tokio::test]
async fn operators_of_extensions_are_found_and_columns_without_readable_json_refused() {
    let rig = Rig::new().await;
    let superuser = rig.database.connect_superuser().await;
    superuser.run("create schema ext; create extension citext schema ext; create extension hstore schema ext; grant usage on schema ext to public").await;
    rig.table(
        "create table x (id int primary key, ci ext.citext, h ext.hstore)",
        "x",
    )
    .await;
    rig.sql.run("grant select on x to anon").await;
    let page = page_of(&rig, "insert into x values (1, 'AbC', 'a=>1')", 1).await;
    let resolver = rig.resolver();
    for filter in [
        "ci=eq.aBc",
        "ci=like.ab%",
        "ci=match.^abc$",
        "ci=in.(x,ABC)",
    ] {
        let tests = resolver
            .resolve(Arc::new(spec("x", filter)), claims("anon"))
            .await
            .unwrap()
            .tests;
        assert_eq!(
            resolver
                .evaluate(Arc::clone(&page), vec![0], tests)
                .await
                .unwrap(),
            [true],
            "{filter}"
        );
    }
    let error = resolver
        .resolve(Arc::new(spec("x", "h=eq.a=>1")), claims("anon"))
        .await
        .unwrap_err();
    assert!(
        error
            .message
            .ends_with("operator eq cannot be evaluated on type ext.hstore"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn a_slow_filter_is_given_up_and_harms_nobody() {
    let rig = Rig::new().await;
    rig.sql.run("grant select on t to anon").await;
    let page = page_of(
        &rig,
        "insert into t values (1, repeat('a', 100001) || 'x')",
        1,
    )
    .await;
    let config = pgrelay_capture::Config {
        evaluate_timeout: std::time::Duration::from_millis(50),
        pool_size: 1,
        ..rig.config()
    };
    let resolver = pgrelay_capture::open(config, Arc::default()).resolver;
    let slow: Arc<[FilterTest]> = Arc::new([FilterTest {
        column: "v".into(),
        negate: false,
        test: Test::Database {
            op: FilterOp::Match,
            value: r"^(.+)\1x$".into(),
        },
    }]);
    let error = resolver
        .evaluate(Arc::clone(&page), vec![0], slow)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "SQLSTATE 57014");
    let tests = resolver
        .resolve(Arc::new(spec("t", "v=like.a%")), claims("anon"))
        .await
        .unwrap()
        .tests;
    assert_eq!(
        resolver.evaluate(page, vec![0], tests).await.unwrap(),
        [true]
    );
}

#[tokio::test]
async fn code_of_table_owners_runs_as_nobody_and_writes_nothing() {
    let rig = Rig::new().await;
    let superuser = rig.database.connect_superuser().await;
    superuser
        .run(
            "create table who (name text);
             create function spy(v text) returns boolean language plpgsql as $$
             begin
               if current_user <> 'pgrelay_capture' then raise exception 'running as %', current_user; end if;
               return true;
             end $$;
             create domain spied as text check (spy(value));
             create table y (id int primary key, s spied);
             grant select on y to anon;",
        )
        .await;
    superuser.run("select pgrelay.enable('y')").await;
    let config = crate::rig::config(rig.database.superuser_url());
    let resolver = pgrelay_capture::open(config, Arc::default()).resolver;
    resolver
        .resolve(Arc::new(spec("y", "s=eq.x")), claims("anon"))
        .await
        .unwrap();
}
