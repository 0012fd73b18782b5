//! A database of Supabase's, with a schema realtime of another owner, is used as it is.

use pgrelay_test_support::{Relay, RelayBuilder, Role, SupabaseDatabase, Vsn, WsClient, token};
use serde_json::json;

use crate::delivery::heard;

const ROOM: &str = "realtime:room";

/// Installs pgrelay. Who may not put a trigger on the partitions of others is told what to let their owner run.
async fn install(project: &SupabaseDatabase, relay: &RelayBuilder) {
    let (status, printed) = relay.run(&["migrate"]).await;
    assert!(status.success(), "{printed}");
    if project.database.role() == Role::Owner {
        let (_, found) = relay.run(&["doctor"]).await;
        let cure = found
            .lines()
            .find_map(|line| line.split_once("or as a superuser: "))
            .unwrap_or_else(|| panic!("{found}"));
        let superuser = project.database.connect_superuser().await;
        superuser.run(cure.1).await;
    }
}

#[tokio::test]
async fn nothing_that_is_there_is_changed() {
    let project = SupabaseDatabase::create().await;
    let relay = Relay::builder(project.database.url());
    let before = project.inventory().await;
    for _ in 0..2 {
        let (status, printed) = relay.run(&["migrate"]).await;
        assert!(status.success(), "{printed}");
    }
    let after = project.inventory().await;
    let added: Vec<&str> = after
        .lines()
        .filter(|line| !before.contains(line))
        .collect();
    let gone: Vec<&str> = before
        .lines()
        .filter(|line| !after.contains(line))
        .collect();
    assert_eq!(gone, Vec::<&str>::new());
    // What was not there is added where we may: for an owner of nothing in it, nothing.
    for line in &added {
        let ours = [
            "realtime.send_binary(",
            "realtime.broadcast_changes(",
            "auth.email(",
            "auth.jwt(",
        ];
        assert!(ours.iter().any(|name| line.contains(name)), "{added:?}");
    }
    assert_eq!(added.is_empty(), project.database.role() == Role::Owner);
}

#[tokio::test]
async fn an_application_finds_its_messages_policies_and_tables() {
    let project = SupabaseDatabase::create().await;
    let superuser = project.database.connect_superuser().await;
    superuser
        .run(
            "create policy members on realtime.messages for select to authenticated
               using (realtime.topic() = 'room' and extension = 'broadcast' and auth.uid() is not null)",
        )
        .await;
    let sql = project.database.connect().await;
    sql.run(
        "create table public.todos (id int primary key, details text);
         grant usage on schema public to anon, authenticated; grant select on todos to anon, authenticated",
    )
    .await;
    superuser
        .run("alter publication supabase_realtime add table todos")
        .await;
    let relay = Relay::builder(project.database.url()).set("PGRELAY_JOIN_ERROR_DELAY", "0ms");
    install(&project, &relay).await;
    let relay = relay.start().await;

    let key =
        token(&json!({"role": "authenticated", "sub": "7f0c0000-0000-4000-8000-000000000001"}));
    let mut member = WsClient::connect(relay.address(), Vsn::V2, &key).await;
    let entries = json!([{"event": "*", "schema": "public", "table": "todos"}]);
    member.join_changes("realtime:todos", entries).await;
    member.join(ROOM, json!({"private": true})).await;
    let mut stranger = WsClient::connect(relay.address(), Vsn::V2, &relay.anon_key()).await;
    let refused = stranger
        .request(ROOM, "phx_join", json!({"config": {"private": true}}))
        .await;
    assert_eq!(
        refused.payload["response"]["reason"],
        "Unauthorized: You do not have permissions to read from this Channel topic: room"
    );

    sql.run(
        "insert into todos values (1, 'x');
         select realtime.send('{\"id\": 1}', 'e', 'room')",
    )
    .await;
    let change = member.expect_change("realtime:todos").await;
    assert_eq!(change["data"]["record"], json!({"id": 1, "details": "x"}));
    assert_eq!(heard(&mut member).await.0["payload"], json!({"id": 1}));
    let mut late = WsClient::connect(relay.address(), Vsn::V2, &key).await;
    let since = json!({"private": true, "broadcast": {"replay": {"since": 0}}});
    late.join(ROOM, since).await;
    assert_eq!(heard(&mut late).await.0["meta"]["replayed"], true);
    // A partition that Supabase's own janitor makes hands the trigger on.
    superuser
        .run(
            "set role supabase_admin;
             do $$ declare day date := timezone('utc', now())::date + 9; begin
               execute format('create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
                              to_char(day, '\"messages_\"YYYY_MM_DD'), day, day + 1);
               execute format('insert into realtime.messages (topic, extension, event, payload, private, inserted_at)
                               values (''room'', ''broadcast'', ''later'', ''{}'', true, %L)', day);
             end $$;
             reset role",
        )
        .await;
    assert_eq!(heard(&mut member).await.0["event"], "later");
}

#[tokio::test]
async fn the_doctor_says_whose_schema_it_is_and_what_it_lacks() {
    let project = SupabaseDatabase::create().await;
    let superuser = project.database.connect_superuser().await;
    let relay = Relay::builder(project.database.url());
    let doctor = async || relay.run(&["doctor"]).await.1;
    install(&project, &relay).await;
    let found = doctor().await;
    assert!(
        found.contains("realtime.messages") && found.contains("belongs to supabase_realtime_admin"),
        "{found}"
    );
    superuser
        .run("drop trigger \"!pgrelay_message\" on realtime.messages")
        .await;
    let found = doctor().await;
    assert!(
        found.contains("messages are not captured")
            && found.contains(
                "run as supabase_realtime_admin or as a superuser: create trigger \"!pgrelay_message\" after insert on realtime.messages"
            ),
        "{found}"
    );
    superuser
        .run(
            "do $$ begin execute format('drop table realtime.%I',
               to_char(timezone('utc', now()) + interval '1 day', '\"messages_\"YYYY_MM_DD')); end $$;
             alter table realtime.messages disable row level security",
        )
        .await;
    let found = doctor().await;
    assert!(
        found.contains("there is no partition for tomorrow"),
        "{found}"
    );
    assert!(found.contains("row security is off"), "{found}");
    superuser.run("drop table realtime.messages").await;
    let found = doctor().await;
    assert!(
        found.contains("does not exist: no private channels"),
        "{found}"
    );
}

#[tokio::test]
async fn uninstalling_leaves_everything_as_it_was() {
    let project = SupabaseDatabase::create().await;
    let relay = Relay::builder(project.database.url());
    install(&project, &relay).await;
    let before = project.inventory().await;
    let (status, printed) = relay.run(&["uninstall", "--yes"]).await;
    assert!(status.success(), "{printed}");
    assert_eq!(project.inventory().await, before);
    let superuser = project.database.connect_superuser().await;
    let triggers = "select count(*) from pg_trigger where tgname like '!pgrelay%'";
    assert_eq!(superuser.value(triggers).await, "0");
    superuser.run("select realtime.send('{}', 'e', 'a')").await;
    let sent = superuser
        .value("select count(*) from realtime.messages")
        .await;
    assert_eq!(sent, "1");
}
