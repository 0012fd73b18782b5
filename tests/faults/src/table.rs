//! The tables of a run and what is written into them.

use pgrelay_test_support::Session;

/// A table that is written to and listened to.
#[derive(Debug)]
pub(crate) struct Table {
    /// As SQL has it.
    pub(crate) sql: &'static str,
    /// As the wire has it.
    pub(crate) name: &'static str,
}

/// The last one must never be heard of: row security hides all of it.
pub(crate) const TABLES: [Table; 4] = [
    Table {
        sql: "plain",
        name: "plain",
    },
    Table {
        sql: "zoo",
        name: "zoo",
    },
    Table {
        sql: r#""Straße ""q"" 'x' %\""#,
        name: r#"Straße "q" 'x' %\"#,
    },
    Table {
        sql: "secret",
        name: "secret",
    },
];

/// Place of the table that nobody may see.
pub(crate) const SECRET: usize = 3;

/// Rows are of one of so many rooms, by their id.
pub(crate) const ROOMS: i64 = 4;

/// Texts in rows, logs must not contain.
pub(crate) const CANARY: &str = "canary-of-a-row";

const COLUMNS: &str = "id bigint primary key, life bigint not null default nextval('lives'), v bigint not null default 1,
    room int not null, kind int not null, body text, tx text not null";

/// Every value here is legal and has hurt somebody.
const ZOO: &str = r#",
    a json default '{"zero": "a\u0000b", "deep": [[[[{}]]]], "twice": 1, "twice": 2}',
    b jsonb default '{"n": 123456789012345678901234567890.5}',
    c float8 default 'NaN', d float8 default '-Infinity', e numeric default 'NaN',
    f timestamptz default 'infinity', g date default '-infinity', h timestamp default '0044-03-15 BC',
    i bytea default '\x00ff0a', j text[] default array['a,b', null, '"', '{}', E'\\'], k int8range default '[1,)',
    l bit varying default B'101', m money default 12.5, n interval default '-1 mon 3 days', o inet default '::1/64',
    p xml default '<a>&lt;</a>', q bool default null, r mood default 'so so', s pair default row(1, 'x,"y'),
    t int8 default 9223372036854775807, u "char" default '"', "from" text default 'keyword',
    "a column whose name has exactly as many bytes as a name may be." text default 'long name'"#;

/// Creates and publishes them.
pub(crate) async fn create(sql: &Session) {
    sql.run(
        "create sequence lives; create table outcomes (tag text primary key);
             create type mood as enum ('so so', 'fine'); create type pair as (a int, b text)",
    )
    .await;
    for (place, table) in TABLES.iter().enumerate() {
        let more = if table.name == "zoo" { ZOO } else { "" };
        let name = table.sql;
        sql.run(&format!(
            "create table {name} ({COLUMNS}{more}); alter table {name} replica identity full;
             grant select on {name} to anon"
        ))
        .await;
        if place == SECRET {
            sql.run(&format!("alter table {name} enable row level security"))
                .await;
        }
        let literal = name.replace('\'', "''");
        sql.run(&format!("select pgrelay.enable('{literal}'::regclass)"))
            .await;
    }
}

/// Bodies of rows by kind: ordinary ones first, then large ones.
pub(crate) const ORDINARY: i32 = 12;
/// 30 kB.
pub(crate) const LARGE: i32 = 20;
/// 1 MB.
pub(crate) const HUGE: i32 = 21;
/// 6 MB.
pub(crate) const ENORMOUS: i32 = 22;

/// The body of a row of this kind.
pub(crate) fn body(kind: i32) -> String {
    match kind {
        0 => CANARY.into(),
        1 => String::new(),
        2 => "null".into(),
        3 => "\"quoted\" \\ back\\\\slash \\u0041".into(),
        4 => "line\nfeed\r\ttab \u{1}\u{1f}\u{7f}".into(),
        5 => "👩‍👩‍👧‍👦 🏳️‍🌈 𝄞".into(),
        6 => "\u{202e}אבג\u{202c} \u{2028}\u{2029}\u{feff}".into(),
        7 => "'; drop table plain; --".into(),
        8 => "<script>alert(1)</script>&amp;".into(),
        9 => "e\u{301}".into(),
        10 => "x".repeat(2_000),
        11 => "[1,2,{\"ids\":[1]}]".into(),
        LARGE => "l".repeat(30_000),
        HUGE => "h".repeat(1_000_000),
        ENORMOUS => "e".repeat(6_000_000),
        _ => format!("kind {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_sql_and_on_the_wire() {
        for table in TABLES {
            let quoted = format!("\"{}\"", table.name.replace('"', "\"\""));
            assert!(table.sql == table.name || table.sql == quoted, "{table:?}");
        }
    }
}
