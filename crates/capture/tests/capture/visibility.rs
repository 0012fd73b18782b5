//! What the relay decides is what a SELECT says: random tables, policies, privileges, claims and rows, and
//! every decision compared with a SELECT under that role with those claims.

use std::{collections::HashMap, sync::Arc};

use pgrelay_relay::{
    change::{Change, Operation, Page},
    ports::{Authorizer, Claims, FeedEvent},
    project::write_data,
    view::{Glance, Sight, View, Viewer},
};
use pgrelay_test_support::{Role, Session};
use serde_json::{Value, json};

use crate::rig::{Following, Rig};

/// Decisions in the one run of the tests that is thorough, and in the others.
const DECISIONS: usize = 100_000;
const DECISIONS_ELSEWHERE: usize = 10_000;
const ROLES: [&str; 3] = ["anon", "authenticated", "service_role"];
const USERS: u64 = 6;

/// A generator of test data: xorshift, seeded, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

fn user(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

const QUALS: &[&str] = &[
    "user_id = auth.uid()",
    "auth.uid() = user_id",
    "user_id = (select auth.uid())",
    "(select auth.uid()) = peer",
    "peer = auth.uid()",
    "user_id = auth.uid() or peer = auth.uid()",
    "visible",
    "not visible",
    "auth.role() = 'authenticated' and visible",
    "exists (select from members m where m.room = things.room and m.user_id = auth.uid())",
    "room = any (array(select m.room from members m where m.user_id = (select auth.uid())))",
    "(auth.jwt() ->> 'level')::int > room",
    "current_setting('request.jwt.claims', true)::json ->> 'sub' = user_id::text",
    "current_user = 'authenticated' and room > 1",
    "false",
    "true",
    "null",
];

/// A table `things` with random policies and privileges.
async fn make_table(sql: &Session, random: &mut Random) -> String {
    let key = random.pick(&["id", "id, label", "label", "tags, id"]);
    let mut ddl = format!(
        "drop table if exists things;
         create table things (id int not null, label text not null, tags text[] not null, user_id uuid, peer uuid,
                              room int, visible boolean, note text, primary key ({key}));
         {}",
        if random.chance(50) { "alter table things replica identity full;" } else { "" }
    );
    let has_security = random.chance(85);
    if has_security {
        ddl.push_str("alter table things enable row level security;");
    }
    if random.chance(20) {
        ddl.push_str("alter table things force row level security;");
    }
    for number in 0..random.below(4) {
        let kind = if random.chance(20) {
            "restrictive"
        } else {
            "permissive"
        };
        let command = random.pick(&["select", "select", "all", "update"]);
        let role = random.pick(&["public", "public", "authenticated", "anon"]);
        let qual = random.pick(QUALS);
        ddl.push_str(&format!(
            "create policy p{number} on things as {kind} for {command} to {role} using ({qual});"
        ));
    }
    for role in ROLES {
        match random.below(10) {
            0 => ddl.push_str(&format!(
                "grant select (id, label, tags, room) on things to {role};"
            )),
            1 => ddl.push_str(&format!("grant select (note, room) on things to {role};")),
            2 => {}
            _ => ddl.push_str(&format!("grant select on things to {role};")),
        }
    }
    sql.run(&ddl).await;
    sql.run("select pgrelay.enable('things')").await;
    ddl
}

/// A script that inserts, changes and deletes rows; some change again before anybody can look.
fn script(random: &mut Random) -> Vec<String> {
    let uid = |random: &mut Random| {
        if random.chance(10) {
            "null".to_owned()
        } else {
            format!("'{}'", user(random.below(USERS)))
        }
    };
    (0..60)
        .map(|number| {
            let (a, b) = (uid(random), uid(random));
            let id = random.below(30);
            match random.below(10) {
                0..5 => format!(
                    "insert into things values ({number}, 'l \"{number}\\', array['x,{number}', null], {a}, {b}, {}, {}, 'n{number}')
                     on conflict do nothing",
                    random.below(4),
                    random.pick(&["true", "false", "null"])
                ),
                5 => format!("update things set user_id = {a} where id % 7 = {}", id % 7),
                6 => format!("update things set note = 'redacted', peer = {b} where id = {id}"),
                7 => format!("update things set visible = not visible where id % 5 = {}", id % 5),
                8 => format!("update things set id = id + 100, label = label || '+' where id = {id}"),
                _ => format!("delete from things where id = {id}"),
            }
        })
        .collect()
}

fn viewers(random: &mut Random) -> Vec<Arc<Claims>> {
    (0..24)
        .map(|number| {
            let role = random.pick(&ROLES);
            let sub = user(random.below(USERS));
            let mut claims = json!({"role": role, "number": number});
            if random.chance(90) {
                claims["sub"] = json!(sub);
            }
            if random.chance(90) {
                claims["level"] = json!(random.below(4));
            }
            Arc::new(Claims {
                role: role.into(),
                subject: claims["sub"].as_str().map(Into::into),
                expires_at: None,
                json: claims.to_string().into(),
            })
        })
        .collect()
}

/// What a SELECT says, by primary key: the columns that may be selected, as one JSON object per row.
/// `None` where nothing may be.
async fn select(sql: &Session, key: &[&str], claims: &Claims) -> Option<HashMap<String, Value>> {
    let columns = sql
        .value(&format!(
            "select string_agg(quote_ident(attname), ', ') from pg_attribute
              where attrelid = 'things'::regclass and attnum > 0 and not attisdropped
                and has_column_privilege('{}', attrelid, attnum, 'select')",
            claims.role
        ))
        .await;
    if key
        .iter()
        .any(|key| !columns.split(", ").any(|column| column == *key))
    {
        return None;
    }
    sql.run(&format!(
        "begin; set local \"request.jwt.claims\" = '{}'; set local role {}",
        claims.json, claims.role
    ))
    .await;
    let rows = sql
        .rows(&format!(
            "select row_to_json(r) from (select {columns} from things) r"
        ))
        .await;
    sql.run("rollback").await;
    let rows = rows.into_iter().map(|row| {
        let row: Value = serde_json::from_str(row[0].as_deref().unwrap()).unwrap();
        (key_of(&row, key), row)
    });
    Some(rows.collect())
}

fn key_of(row: &Value, key: &[&str]) -> String {
    let values: Vec<_> = key.iter().map(|column| row[*column].to_string()).collect();
    values.join(" ")
}

/// What the relay would send of `change`: `None` for nothing, else the `data` of the message.
fn sent(sight: &Sight, place: u32, change: &Change) -> Option<Value> {
    let (_, rights) = sight
        .rights
        .iter()
        .find(|(oid, _)| *oid == change.relation.oid)?;
    let mut view = View::logged(Arc::clone(rights));
    if rights.needs_row(change) {
        let found = sight
            .rows
            .binary_search_by_key(&place, |(place, _)| *place)
            .ok()?;
        view.current = sight.rows[found].1.clone();
    }
    let mut data = Vec::new();
    write_data(&mut data, change, &view, None);
    Some(serde_json::from_slice(&data).unwrap())
}

/// One viewer's decisions against what its SELECT says; how many there were.
fn compare(
    sight: &Sight,
    changes: &[Glance],
    key: &[&str],
    rows: Option<&HashMap<String, Value>>,
    has_security: bool,
    context: &str,
) -> usize {
    for (place, (page, index)) in (0..).zip(changes) {
        let change = &page.changes[*index as usize];
        let sent = sent(sight, place, change);
        let says = || {
            format!(
                "{context}\n{:?} {:?}\nsent {sent:?}",
                change.operation,
                change.new.as_ref().map(pgrelay_relay::change::Row::text)
            )
        };
        if change.operation == Operation::Delete {
            // Told to everybody: the key under row security, and no column without privilege.
            let data = sent
                .as_ref()
                .unwrap_or_else(|| panic!("a deletion: {}", says()));
            let old = data["old_record"].as_object().unwrap();
            assert!(
                !has_security || old.keys().all(|column| key.contains(&&**column)),
                "{}",
                says()
            );
            assert!(
                rows.is_none() || key.iter().all(|column| old.contains_key(*column)),
                "{}",
                says()
            );
            continue;
        }
        let Some(rows) = rows else {
            assert_eq!(
                sent.as_ref().unwrap()["errors"],
                json!(["Error 401: Unauthorized"]),
                "{}",
                says()
            );
            assert_eq!(sent.as_ref().unwrap()["record"], json!({}), "{}", says());
            continue;
        };
        let logged: Value = serde_json::from_str(change.new.as_ref().unwrap().text()).unwrap();
        let row = rows.get(&key_of(&logged, key));
        if has_security && !sight.rights[0].1.policies {
            // The role is above policies: what was logged goes out.
            assert!(sent.is_some(), "{}", says());
        } else if has_security {
            assert_eq!(sent.as_ref().map(|data| &data["record"]), row, "{}", says());
        } else {
            assert!(sent.is_some(), "{}", says());
        }
    }
    changes.len()
}

/// Changes of `things` that came since this was last asked.
fn new_changes(following: &Following, done: &mut usize) -> Arc<[Glance]> {
    let pages = following.feed.pages();
    let fresh = pages[*done..].iter().flat_map(|page: &Arc<Page>| {
        let places = (0..).zip(&page.changes);
        places.map(move |(index, change)| (Arc::clone(page), index, change))
    });
    let of_things = fresh.filter(|(_, _, change)| {
        &*change.relation.table == "things" && change.operation != Operation::Hole
    });
    let changes = of_things.map(|(page, index, _)| (page, index)).collect();
    *done = pages.len();
    changes
}

/// Waits until everything that was committed has come.
async fn catch_up(sql: &Session, following: &Following) {
    let mark = sql
        .value("insert into t select count(*) from t returning id")
        .await;
    let is_mark = |change: &Change| {
        &*change.relation.table == "t"
            && change.new.as_ref().and_then(|row| row.value(0)) == Some(mark.as_str())
    };
    following
        .event("the mark", |event| match event {
            FeedEvent::Page(page) => page.changes.iter().any(is_mark).then_some(()),
            FeedEvent::Head(_)
            | FeedEvent::Break { .. }
            | FeedEvent::CatalogChanged
            | FeedEvent::Messages(_) => None,
        })
        .await;
}

#[tokio::test]
async fn every_decision_is_what_a_select_says() {
    let rig = Rig::new().await;
    let superuser = rig.database.connect_superuser().await;
    rig.sql
        .run(
            "create table members (room int, user_id uuid); grant select on members to anon, authenticated, service_role;
             insert into members select i % 4, ('00000000-0000-4000-8000-' || lpad((i % 6)::text, 12, '0'))::uuid
               from generate_series(1, 9) i",
        )
        .await;
    let following = rig.follow().await;
    let resolver = rig.resolver();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let version = superuser.value("show server_version_num").await;
    let is_thorough = version.starts_with("15") && rig.database.role() == Role::Superuser;
    let goal = if is_thorough {
        DECISIONS
    } else {
        DECISIONS_ELSEWHERE
    };
    let (mut decisions, mut seen, mut done) = (0, 0, 0);
    while decisions < goal {
        let ddl = make_table(&rig.sql, &mut random).await;
        let has_security = ddl.contains("enable row level security");
        let key = ddl
            .split("primary key (")
            .nth(1)
            .unwrap()
            .split(')')
            .next()
            .unwrap();
        let key: Vec<&str> = key.split(", ").collect();
        for statements in script(&mut random).chunks(6) {
            rig.sql
                .run(&format!("begin; {}; commit", statements.join(";")))
                .await;
        }
        catch_up(&rig.sql, &following).await;
        let changes = new_changes(&following, &mut done);
        let places: Vec<u32> = (0..u32::try_from(changes.len()).unwrap()).collect();
        let claims = viewers(&mut random);
        let asked = claims.iter().map(|claims| Viewer {
            claims: Arc::clone(claims),
            places: places.clone(),
        });
        let sights = resolver
            .look(Arc::clone(&changes), asked.collect())
            .await
            .unwrap();
        for (claims, sight) in claims.iter().zip(sights) {
            let context = format!("{ddl}\n{}", claims.json);
            let sight = sight.unwrap_or_else(|error| panic!("{error}: {context}"));
            let rows = select(&superuser, &key, claims).await;
            decisions += compare(
                &sight,
                &changes,
                &key,
                rows.as_ref(),
                has_security,
                &context,
            );
            seen += sight.rows.len();
        }
    }
    assert!(seen > goal / 50, "too few rows were visible: {seen}");
    following.stop().await;
}
