//! Which bindings may go live, what their filters become, and what is said to the others.

use std::sync::Arc;

use pgrelay_capture::Resolver;
use pgrelay_protocol::{BindingSpec, FilterOp, binding};
use pgrelay_relay::{
    filter::{FilterTest, Ordering, ResolvedBinding, Scalar, Test},
    ports::{Authorizer, BindingError},
    view::Rights,
};

use crate::rig::{Rig, claims, spec};

const KINDS: &str = "
    create type mood as enum ('sad', 'ok', 'happy');
    create type pair as (a int, b text);
    create domain positive as int check (value > 0);
    create domain word as text;
    create table kinds (
      id int primary key, i2 int2, i8 int8, n numeric, f8 float8, b bool, t text, v varchar(5), c char(5), nm name,
      u uuid, d date, ts timestamp, tz timestamptz, tm time, iv interval, by bytea, j json, jb jsonb, ia int4[],
      ta text[], e mood, p point, r int4range, ip inet, pos positive, w word, co pair, bt bit(3), o oid, m money)";

async fn resolve_as(
    resolver: &Resolver,
    spec: BindingSpec,
    role: &str,
) -> Result<ResolvedBinding, BindingError> {
    resolver.resolve(Arc::new(spec), claims(role)).await
}

async fn kinds() -> (Rig, Resolver) {
    let rig = Rig::new().await;
    rig.table(KINDS, "kinds").await;
    rig.sql.run("grant select on kinds to anon").await;
    let resolver = rig.resolver();
    (rig, resolver)
}

fn one_of(values: impl IntoIterator<Item = Scalar>) -> Test {
    Test::OneOf(values.into_iter().collect())
}

fn text(value: &str) -> Scalar {
    Scalar::Text(value.into())
}

fn database(op: FilterOp, value: &str) -> Test {
    Test::Database {
        op,
        value: value.into(),
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn native_cases() -> Vec<(&'static str, bool, Test)> {
    let uuid = Scalar::Uuid([
        0, 17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255,
    ]);
    vec![
        ("id=eq.5", false, one_of([Scalar::Int(5)])),
        ("id=eq. +05 ", false, one_of([Scalar::Int(5)])),
        ("id=neq.5", true, one_of([Scalar::Int(5)])),
        ("id=not.neq.5", false, one_of([Scalar::Int(5)])),
        (
            "i2=in.(1, 2,3)",
            false,
            one_of([Scalar::Int(1), Scalar::Int(2), Scalar::Int(3)]),
        ),
        ("id=in.()", false, one_of([])),
        ("id=not.in.()", true, one_of([])),
        ("id=in.(1,null)", false, one_of([Scalar::Int(1)])),
        (
            "i8=lt.9223372036854775807",
            false,
            Test::Order(Ordering::Lt, i64::MAX),
        ),
        ("id=not.gte.-3", true, Test::Order(Ordering::Gte, -3)),
        ("id=isdistinct.7", false, Test::IsDistinct(Scalar::Int(7))),
        ("b=eq.t", false, one_of([Scalar::Bool(true)])),
        ("b=is.true", false, Test::IsBool(true)),
        ("b=not.is.false", true, Test::IsBool(false)),
        ("b=is.unknown", false, Test::IsNull),
        ("ia=is.null", false, Test::IsNull),
        (
            "u=eq.{00112233445566778899AABBCCDDEEFF}",
            false,
            one_of([uuid.clone()]),
        ),
        (
            "u=in.(00112233-4455-6677-8899-aabbccddeeff)",
            false,
            one_of([uuid]),
        ),
        ("t=eq.null", false, one_of([text("null")])),
        ("t=eq.", false, one_of([text("")])),
        (
            r#"t=in.(a,"b,c","d\"e")"#,
            false,
            one_of([text("a"), text("b,c"), text("d\"e")]),
        ),
        (
            "v=eq.longer than five",
            false,
            one_of([text("longer than five")]),
        ),
        ("nm=eq.x", false, one_of([text("x")])),
        ("e=eq.happy", false, one_of([text("happy")])),
        ("w=neq.x", true, one_of([text("x")])),
        ("pos=eq.007", false, one_of([Scalar::Int(7)])),
        ("d=eq.Jan 2 2024", false, one_of([text("2024-01-02")])),
        ("d=eq.infinity", false, one_of([text("infinity")])),
        (
            "ts=eq.2024-01-02 03:04:05.600",
            false,
            one_of([text("2024-01-02T03:04:05.6")]),
        ),
        (
            "tz=eq.2024-01-02 03:04:05",
            false,
            one_of([text("2024-01-02T03:04:05+00:00")]),
        ),
        (
            "tz=eq.2024-01-02T03:04:05+02",
            false,
            one_of([text("2024-01-02T01:04:05+00:00")]),
        ),
    ]
}

#[tokio::test]
async fn filters_become_native_tests_where_the_relay_can_tell() {
    let (_rig, resolver) = kinds().await;
    for (filter, negate, test) in native_cases() {
        let resolved = resolve_as(&resolver, spec("kinds", filter), "anon").await;
        let resolved = resolved.unwrap_or_else(|error| panic!("{filter}: {}", error.message));
        let [found] = &*resolved.tests else {
            panic!("{filter}")
        };
        assert_eq!((found.negate, &found.test), (negate, &test), "{filter}");
        assert_eq!(resolved.rights.as_deref(), Some(&Rights::all()));
    }
}

#[tokio::test]
async fn the_others_are_left_to_postgresql() {
    let (_rig, resolver) = kinds().await;
    for (filter, op, value) in [
        ("id=not.in.(1,null)", FilterOp::In, "{1,null}"),
        ("n=eq.1.50", FilterOp::Eq, "1.50"),
        ("f8=lt.1e3", FilterOp::Lt, "1e3"),
        ("t=lt.m", FilterOp::Lt, "m"),
        ("t=like.a%", FilterOp::Like, "a%"),
        ("v=ilike.A%", FilterOp::Ilike, "A%"),
        ("w=match.^a", FilterOp::Match, "^a"),
        ("v=imatch.^A", FilterOp::Imatch, "^A"),
        ("c=eq.ab", FilterOp::Eq, "ab"),
        (
            "u=gt.00112233-4455-6677-8899-aabbccddeeff",
            FilterOp::Gt,
            "00112233-4455-6677-8899-aabbccddeeff",
        ),
        ("e=gt.sad", FilterOp::Gt, "sad"),
        ("tm=eq.10:00", FilterOp::Eq, "10:00"),
        ("iv=eq.30 days", FilterOp::Eq, "30 days"),
        (r#"ia=eq."{1,2}""#, FilterOp::Eq, "{1,2}"),
        ("jb=eq.{}", FilterOp::Eq, "{}"),
        (r#"co=eq."(1,x)""#, FilterOp::Eq, "(1,x)"),
        ("by=eq.0102ff", FilterOp::Eq, "0102ff"),
        (r#"r=eq."[1,5)""#, FilterOp::Eq, "[1,5)"),
        ("ip=eq.10.0.0.1", FilterOp::Eq, "10.0.0.1"),
        ("bt=eq.101", FilterOp::Eq, "101"),
    ] {
        let resolved = resolve_as(&resolver, spec("kinds", filter), "anon").await;
        let resolved = resolved.unwrap_or_else(|error| panic!("{filter}: {}", error.message));
        assert_eq!(resolved.tests[0].test, database(op, value), "{filter}");
    }
}

const TOO_MANY: &str = "ERROR P0001 (raise_exception) too many values for `in` filter. Maximum 100";

/// Filter, and what is said after the parameters.
const REFUSED: &[(&str, &str)] = &[
    (
        "nope=eq.1",
        "ERROR P0001 (raise_exception) invalid column for filter nope",
    ),
    (
        "id =eq.1",
        "ERROR P0001 (raise_exception) invalid column for filter id ",
    ),
    (
        "id=eq.hey",
        r#"ERROR 22P02 (invalid_text_representation) invalid input syntax for type integer: "hey""#,
    ),
    (
        "id=eq.null",
        r#"ERROR 22P02 (invalid_text_representation) invalid input syntax for type integer: "null""#,
    ),
    (
        "i2=gt.40000",
        r#"ERROR 22003 (numeric_value_out_of_range) value "40000" is out of range for type smallint"#,
    ),
    (
        "id=in.(1,x)",
        r#"ERROR 22P02 (invalid_text_representation) invalid input syntax for type integer: "x""#,
    ),
    (
        "u=eq.x",
        r#"ERROR 22P02 (invalid_text_representation) invalid input syntax for type uuid: "x""#,
    ),
    (
        "b=eq.maybe",
        r#"ERROR 22P02 (invalid_text_representation) invalid input syntax for type boolean: "maybe""#,
    ),
    (
        "e=eq.angry",
        r#"ERROR 22P02 (invalid_text_representation) invalid input value for enum mood: "angry""#,
    ),
    (
        "d=eq.2024-13-01",
        r#"ERROR 22008 (datetime_field_overflow) date/time field value out of range: "2024-13-01""#,
    ),
    (
        "n=eq.x",
        r#"ERROR 22P02 (invalid_text_representation) invalid input syntax for type numeric: "x""#,
    ),
    (
        "pos=eq.-1",
        r#"ERROR 23514 (check_violation) value for domain positive violates check constraint "positive_check""#,
    ),
    (
        "t=is.NULL",
        "ERROR P0001 (raise_exception) invalid value for is filter: must be null, true, false, or unknown",
    ),
    (
        "t=is.true",
        "ERROR P0001 (raise_exception) is true filter requires a boolean column, got text",
    ),
    (
        "v=is.unknown",
        "ERROR P0001 (raise_exception) is unknown filter requires a boolean column, got character varying",
    ),
    (
        "id=like.1%",
        "ERROR P0001 (raise_exception) operator like requires a text-compatible column type, got integer",
    ),
    (
        "e=ilike.h%",
        "ERROR P0001 (raise_exception) operator ilike requires a text-compatible column type, got mood",
    ),
    (
        "u=match.a",
        "ERROR P0001 (raise_exception) operator match requires a text-compatible column type, got uuid",
    ),
    (
        "by=imatch.a",
        "ERROR P0001 (raise_exception) operator imatch requires a text-compatible column type, got bytea",
    ),
    (
        r#"t=match."(""#,
        "ERROR P0001 (raise_exception) invalid regular expression for match filter: invalid regular expression: parentheses () not balanced",
    ),
    (
        r"t=like.a\",
        "ERROR 22025 (invalid_escape_sequence) LIKE pattern must not end with escape character",
    ),
    (
        "j=eq.{}",
        "ERROR 42883 (undefined_function) operator does not exist: json = json",
    ),
    (
        "jb=eq.{",
        "ERROR 22P02 (invalid_text_representation) invalid input syntax for type json",
    ),
];

#[tokio::test]
async fn what_cannot_be_filtered_is_refused_in_postgresqls_words() {
    let (_rig, resolver) = kinds().await;
    let long = format!("id=in.({})", vec!["1"; 101].join(","));
    for (filter, exception) in REFUSED.iter().copied().chain([(&*long, TOO_MANY)]) {
        let spec = spec("kinds", filter);
        let parameters = binding::describe(&spec);
        let error = resolve_as(&resolver, spec, "anon").await.expect_err(filter);
        let expected = format!(
            "Unable to subscribe to changes with given parameters. An exception happened so please check your connect \
             parameters: {parameters}. Exception: {exception}"
        );
        assert_eq!(error.message, expected);
        assert!(!error.retryable, "{filter}");
    }
}

#[tokio::test]
async fn tables_that_cannot_be_live_are_refused_with_the_cure() {
    let rig = Rig::new().await;
    let resolver = rig.resolver();
    let says = async |spec: BindingSpec, role: &str, expected: &str| {
        let error = resolve_as(&resolver, spec, role).await.expect_err(expected);
        assert!(
            error.message.contains(expected),
            "{} has not: {expected}",
            error.message
        );
    };
    rig.sql
        .run("create table unpublished (id int primary key)")
        .await;
    for table in ["unpublished", "no_such_table", "nowhere.t", "T", "t%"] {
        says(
            spec(table, ""),
            "anon",
            "Please check Realtime is enabled for the given connect parameters: [",
        )
        .await;
    }
    says(
        spec("t", ""),
        "nobody_at_all",
        "42704 (undefined_object) role \"nobody_at_all\" does not exist",
    )
    .await;
    says(
        spec("t", ""),
        "anon",
        "permission denied for table public.t; run: grant select on public.t to anon",
    )
    .await;
    says(
        spec("*", ""),
        "anon",
        "permission denied for table public.t",
    )
    .await;

    rig.sql
        .run("create schema locked; create table locked.t (id int primary key); select pgrelay.enable('locked.t'); grant select on locked.t to anon")
        .await;
    says(
        spec("locked.t", ""),
        "anon",
        "run: grant usage on schema locked to anon",
    )
    .await;

    rig.sql.run("create table narrow (id int primary key); grant select on narrow to anon; select pgrelay.enable('narrow')").await;
    let mut selecting = spec("narrow", "");
    selecting.select = Some(vec!["id".into(), "gone".into()]);
    says(selecting, "anon", "invalid column for select gone").await;
}

#[tokio::test]
async fn what_a_role_may_see_of_a_table_comes_with_the_resolution() {
    let rig = Rig::new().await;
    let resolver = rig.resolver();
    rig.sql.run("create table some_columns (id int primary key, secret text); grant select (id) on some_columns to anon").await;
    rig.sql.run("select pgrelay.enable('some_columns')").await;
    let some = resolve_as(&resolver, spec("some_columns", ""), "anon")
        .await
        .unwrap();
    assert_eq!(
        some.rights.as_deref(),
        Some(&Rights {
            columns: Some(["id".into()].into()),
            ..Rights::all()
        })
    );
    let error = resolve_as(&resolver, spec("some_columns", "secret=eq.x"), "anon")
        .await
        .unwrap_err();
    assert!(
        error.message.contains("invalid column for filter secret"),
        "{}",
        error.message
    );

    rig.sql.run("create table guarded (id int primary key); alter table guarded enable row level security").await;
    rig.sql
        .run("select pgrelay.enable('guarded'); grant select on guarded to anon, service_role")
        .await;
    for (role, policies) in [("anon", true), ("service_role", false)] {
        let resolved = resolve_as(&resolver, spec("guarded", ""), role)
            .await
            .unwrap();
        let rights = Rights {
            columns: None,
            row_security: true,
            policies,
        };
        assert_eq!(resolved.rights.as_deref(), Some(&rights), "{role}");
    }
}

#[tokio::test]
async fn a_join_attaches_missing_triggers_or_says_how() {
    let rig = Rig::new().await;
    rig.sql
        .run("create table late (id int primary key); grant select on late to anon")
        .await;
    rig.sql
        .run("alter publication supabase_realtime add table late")
        .await;
    rig.sql
        .run(
            "do $$ declare name name; begin
               for name in select tgname from pg_trigger
                            where tgrelid = 'late'::regclass and tgfoid = 'pgrelay.capture()'::regprocedure loop
                 execute format('drop trigger %I on late', name);
               end loop;
             end $$",
        )
        .await;
    let reports = pgrelay_capture::open(
        pgrelay_capture::Config {
            ddl: false,
            ..rig.config()
        },
        Arc::default(),
    )
    .resolver;
    let error = resolve_as(&reports, spec("late", ""), "anon")
        .await
        .unwrap_err();
    assert!(
        error.message.contains("its triggers are missing"),
        "{}",
        error.message
    );
    assert!(
        error.message.contains("create trigger \"!pgrelay_capture_"),
        "{}",
        error.message
    );
    let resolved = resolve_as(&rig.resolver(), spec("late", ""), "anon")
        .await
        .unwrap();
    assert!(resolved.relation.is_some());
    assert_eq!(
        rig.sql
            .value("select count(*) from pg_trigger where tgrelid = 'late'::regclass")
            .await,
        "2"
    );
}

#[tokio::test]
async fn wildcards_match_published_tables_by_name() {
    let rig = Rig::new().await;
    rig.sql.run("grant select on t to anon").await;
    let resolver = rig.resolver();
    for table in ["*", "public.*", "*.t", "*.*"] {
        let resolved = resolve_as(&resolver, spec(table, ""), "anon")
            .await
            .unwrap();
        assert_eq!(resolved.relation, None, "{table}");
    }
    let error = resolve_as(&resolver, spec("elsewhere.*", ""), "anon")
        .await
        .unwrap_err();
    assert!(error.message.contains("Please check Realtime is enabled"));
}

#[tokio::test]
async fn conjunctions_keep_their_order_and_the_first_mistake_is_told() {
    let (_rig, resolver) = kinds().await;
    let resolved = resolve_as(&resolver, spec("kinds", "t=eq.a,id=gt.3,b=is.true"), "anon")
        .await
        .unwrap();
    let columns: Vec<_> = resolved
        .tests
        .iter()
        .map(|FilterTest { column, .. }| &**column)
        .collect();
    assert_eq!(columns, ["t", "id", "b"]);
    let error = resolve_as(&resolver, spec("kinds", "t=eq.a,id=eq.x,nope=eq.1"), "anon")
        .await
        .unwrap_err();
    assert!(
        error
            .message
            .ends_with(r#"invalid input syntax for type integer: "x""#)
    );
}

#[tokio::test]
async fn a_database_that_is_away_makes_a_join_wait() {
    let mut server = pgrelay_test_support::PostgresServer::builder()
        .start()
        .await;
    let database = pgrelay_test_support::TestDatabase::create_on(
        &server.url(),
        pgrelay_test_support::Role::Superuser,
    )
    .await;
    let config = crate::rig::config(database.url());
    pgrelay_capture::migrate(&config).await.unwrap();
    let resolver = pgrelay_capture::open(config, Arc::default()).resolver;
    server.stop().await;
    let error = resolve_as(&resolver, spec("t", ""), "anon")
        .await
        .unwrap_err();
    assert_eq!(
        (&*error.message, error.retryable),
        ("{:error, \"Too many database timeouts\"}", true)
    );
    server.start().await;
}
