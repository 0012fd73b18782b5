//! The checklists are green where all is well, red where it is not, and each cure cures.
#![allow(clippy::unwrap_used, reason = "it fails the test")]

use pgrelay_chat::demo;
use pgrelay_chat::doctor::{Check, Finding, examine};
use pgrelay_chat::schema::SchemaName;
use pgrelay_e2e::chat::{ChatServer, Person, install, install_base, install_in};
use pgrelay_test_support::{PostgresServer, Session, TestDatabase};

/// The tables that a realtime schema brings, as far as private channels need them.
const REALTIME: &str = "
    create schema realtime;
    create table realtime.messages (topic text, extension text);
    alter table realtime.messages enable row level security;
    create function realtime.topic() returns text language sql stable as $$ select current_setting('realtime.topic', true) $$;";

/// A database where everything is as it should be, with the demo in it.
async fn healthy() -> (TestDatabase, Session) {
    let database = TestDatabase::create().await;
    let session = database.connect().await;
    install_base(&session).await;
    session.run(REALTIME).await;
    install(&database).await;
    demo::seed(&session).await.unwrap();
    (database, session)
}

fn red(findings: &[Finding]) -> Vec<Check> {
    findings
        .iter()
        .filter(|finding| finding.problem.is_some())
        .map(|finding| finding.check)
        .collect()
}

#[tokio::test]
async fn a_healthy_chat_is_green_and_its_examination_leaves_nothing() {
    let (_database, session) = healthy().await;
    let rows = "select (select count(*) from bookings) || ' ' || (select count(*) from messages) || ' ' || (select count(*) from pgrelay.log)";
    let before = session.value(rows).await;
    let findings = examine(&session).await.unwrap();
    assert_eq!(red(&findings), [], "{findings:#?}");
    assert_eq!(
        findings
            .iter()
            .map(|finding| finding.check)
            .collect::<Vec<_>>(),
        Check::ALL
    );
    assert_eq!(session.value(rows).await, before);
    assert_eq!(session.value("select current_user = session_user and current_setting('request.jwt.claims', true) = ''").await, "t");
}

#[tokio::test]
async fn what_is_broken_is_red_and_sql_cures_cure() {
    let (_database, session) = healthy().await;
    // Triggers that were off can be put on again; what was written meanwhile stays as it is.
    for (breakage, check, is_cured_by_sql) in [
        (
            "alter publication supabase_realtime drop table messages",
            Check::Published,
            true,
        ),
        (
            "alter table messages disable row level security",
            Check::Protected,
            true,
        ),
        (
            "do $$ begin execute (select format('drop trigger %I on messages', tgname) from pg_trigger
               where tgrelid = 'messages'::regclass and tgfoid = 'pgrelay.capture()'::regprocedure); end $$",
            Check::Captured,
            false,
        ),
        (
            "drop policy chat_booking_read on realtime.messages",
            Check::Channel,
            false,
        ),
        ("drop function pgrelay_chat.send", Check::Rehearsed, false),
        (
            "create or replace function pgrelay_chat.resolve(reference text) returns uuid language sql as 'select null::uuid'",
            Check::Resolved,
            false,
        ),
        (
            "alter table bookings disable trigger user; update bookings set status_version = status_version + 1",
            Check::Told,
            false,
        ),
        (
            "alter table messages disable trigger user; delete from messages where seq = 1",
            Check::Complete,
            false,
        ),
    ] {
        session.run(&format!("begin; {breakage}")).await;
        let findings = examine(&session).await.unwrap();
        assert!(red(&findings).contains(&check), "{breakage}: {findings:#?}");
        let finding = findings
            .into_iter()
            .find(|finding| finding.check == check)
            .unwrap();
        let cure = finding.problem.unwrap().cure;
        if is_cured_by_sql {
            session.run(&cure).await;
            assert_eq!(red(&examine(&session).await.unwrap()), [], "{cure}");
        }
        assert!(!cure.is_empty());
        session.run("rollback").await;
    }
}

#[tokio::test]
async fn without_the_chat_there_is_one_finding() {
    let database = TestDatabase::create().await;
    let session = database.connect().await;
    assert_eq!(red(&examine(&session).await.unwrap()), [Check::Installed]);
    install_base(&session).await;
    assert_eq!(red(&examine(&session).await.unwrap()), [Check::Installed]);
    install(&database).await;
    assert_eq!(red(&examine(&session).await.unwrap()), [Check::Channel]);
}

#[tokio::test]
async fn the_demo_can_be_seeded_again() {
    let server = ChatServer::start().await;
    let session = server.database().connect().await;
    let rows = "select md5(string_agg(t, '' order by t)) from (
        select b::text from bookings b union all select m::text from messages m union all select a::text from assignments a) x (t)";
    demo::seed(&session).await.unwrap();
    let before = session.value(rows).await;
    demo::seed(&session).await.unwrap();
    assert_eq!(session.value(rows).await, before);
    for booking in demo::BOOKINGS {
        let person = |who: demo::Person| Person::with_claims(who.id.parse().unwrap(), who.claims());
        let path = format!("/api/messages?bookingId={}", booking.code);
        for who in [booking.client, booking.operator] {
            let page = server.get(&person(who), &path).await.expect(200);
            assert_eq!(page["booking"]["id"], booking.id);
            assert!(page["messages"].as_array().unwrap().len() > 1);
        }
        server
            .get(&person(booking.operator), "/api/bookings")
            .await
            .expect(200);
        server
            .get(&person(booking.client), "/api/bookings")
            .await
            .expect(403);
    }
}

/// As it is for an owner who may not make roles, on a server where nobody has made them yet.
#[tokio::test]
async fn without_the_roles_the_chat_installs_and_says_what_is_missing() {
    let server = PostgresServer::builder().start().await;
    let superuser = server.connect().await;
    superuser.run("create role owner login").await;
    superuser.run("create database app owner owner").await;
    let url = server.url().with_user("owner").with_database("app");
    let session = Session::connect(&url).await;
    install_base(&session).await;
    install_in(&url, &SchemaName::default()).await.unwrap();
    let findings = examine(&session).await.unwrap();
    assert_eq!(
        red(&findings),
        [Check::Roles, Check::Channel, Check::Rehearsed]
    );
    let roles = findings
        .into_iter()
        .find(|finding| finding.check == Check::Roles)
        .unwrap();
    superuser.run(&roles.problem.unwrap().cure).await;
    install_in(&url, &SchemaName::default()).await.unwrap();
    assert_eq!(red(&examine(&session).await.unwrap()), [Check::Channel]);
}
