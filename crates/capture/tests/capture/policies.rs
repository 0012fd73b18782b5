//! What policies on the table of messages allow, asked the way a role would find out.

use std::{sync::Arc, time::Duration};

use pgrelay_capture::{Metrics, Resolver, open};
use pgrelay_protocol::Topic;
use pgrelay_relay::ports::{Authorizer as _, ChannelError, ChannelRights, Claims, MessageLog as _};
use serde_json::{Value, json};

use crate::rig::Rig;

const ALL: &str = "read write presence_read presence_write";

fn claims(claims: &Value) -> Arc<Claims> {
    Arc::new(Claims {
        role: claims["role"].as_str().unwrap().into(),
        subject: claims["sub"].as_str().map(Into::into),
        expires_at: None,
        json: claims.to_string().into(),
    })
}

/// The rights by name.
fn shown(rights: ChannelRights) -> String {
    let names = [
        (rights.read, "read"),
        (rights.write, "write"),
        (rights.presence_read, "presence_read"),
        (rights.presence_write, "presence_write"),
    ];
    let names = names.iter().filter(|(has, _)| *has);
    names.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

async fn ask(resolver: &Resolver, topic: &str, of: &Value) -> Result<String, ChannelError> {
    let topic = Topic::parse(&format!("realtime:{topic}")).unwrap();
    resolver.channel(topic, claims(of)).await.map(shown)
}

#[tokio::test]
async fn without_policies_only_those_who_bypass_them_may_do_anything() {
    let rig = Rig::new().await;
    let resolver = rig.resolver();
    let may = async |role: &str| ask(&resolver, "a", &json!({"role": role})).await.unwrap();
    assert_eq!(may("anon").await, "");
    assert_eq!(may("authenticated").await, "");
    assert_eq!(may("service_role").await, ALL);
    // Nobody leaves anything behind.
    let left = rig
        .sql
        .value("select count(*) from realtime.messages")
        .await;
    assert_eq!(left, "0");
}

#[tokio::test]
async fn policies_see_topic_extension_and_claims() {
    let rig = Rig::new().await;
    rig.sql
        .run(
            r#"create policy r1 on realtime.messages for select to authenticated
                 using (realtime.topic() = 'room:' || auth.uid()::text and extension = 'broadcast');
               create policy r2 on realtime.messages for select to authenticated
                 using (topic = 'lobby' and extension = 'presence' and auth.role() = 'authenticated');
               create policy w1 on realtime.messages for insert to authenticated
                 with check (realtime.topic() = 'lobby' and extension in ('broadcast', 'presence')
                             and (auth.jwt() ->> 'level')::int > 2);
               create policy w2 on realtime.messages for insert to authenticated
                 with check (topic = 'track' and extension = 'presence'
                             and current_setting('request.jwt.claim.sub') = auth.uid()::text
                             and current_setting('request.jwt.claim.role') = 'authenticated');
               create policy a1 on realtime.messages to anon using (topic like 'open%') with check (false)"#,
        )
        .await;
    let resolver = rig.resolver();
    let sub = "7f0c0000-0000-4000-8000-000000000001";
    let user = json!({"role": "authenticated", "sub": sub, "level": 2});
    let chief = json!({"role": "authenticated", "sub": sub, "level": 3});
    let anon = json!({"role": "anon"});
    for (topic, of, rights) in [
        (&*format!("room:{sub}"), &user, "read"),
        (&*format!("room:{sub}2"), &user, ""),
        ("lobby", &user, "presence_read"),
        ("lobby", &chief, "write presence_read presence_write"),
        ("track", &user, "presence_write"),
        ("track", &anon, ""),
        ("open:1", &anon, "read presence_read"),
        ("open:1", &user, ""),
        ("' or true --", &user, ""),
    ] {
        assert_eq!(
            ask(&resolver, topic, of).await.unwrap(),
            rights,
            "{topic} {of}"
        );
    }
}

#[tokio::test]
async fn the_server_itself_is_no_role_of_an_application() {
    let rig = Rig::new().await;
    let resolver = rig.resolver();
    let superuser = rig.database.connect_superuser().await;
    let superuser = superuser.value("select current_user").await;
    for role in [
        &*superuser,
        "potato",
        "none",
        "",
        "pgrelay_capture\0",
        "anon; drop",
    ] {
        let rights = ask(&resolver, "a", &json!({"role": role})).await;
        assert_eq!(rights.unwrap(), "", "{role:?}");
    }
}

#[tokio::test]
async fn claims_are_values_and_never_sql() {
    let rig = Rig::new().await;
    rig.sql
        .run("create policy p on realtime.messages to anon using (auth.jwt() ->> 'x' = 'yes')")
        .await;
    let resolver = rig.resolver();
    let long = "x".repeat(100_000);
    let mut deep = json!("yes");
    for _ in 0..100 {
        deep = json!([deep]);
    }
    for (x, rights) in [
        (json!("yes"), ALL),
        (
            json!("'; select set_config('role', 'postgres', false); --"),
            "",
        ),
        (json!("a\nb\"c\\d"), ""),
        (json!("nul \u{0}"), ""),
        (json!(long), ""),
        (deep, ""),
    ] {
        let rights_found = ask(&resolver, "a", &json!({"role": "anon", "x": x})).await;
        assert_eq!(rights_found.unwrap(), rights, "{x:.40}");
    }
    let left = ask(&resolver, "a", &json!({"role": "anon"})).await;
    assert_eq!(left.unwrap(), "", "nothing of the last claims is left");
}

#[tokio::test]
async fn a_policy_that_fails_denies_and_one_that_sleeps_is_cut_short() {
    let rig = Rig::new().await;
    rig.sql
        .run(
            "create function fail() returns boolean language plpgsql as
               $$ begin raise exception 'row of a secret'; end $$;
             create function divide() returns boolean language sql as 'select 1 / (length(realtime.topic()) - 6) = 1';
             create policy f on realtime.messages for select to anon
               using (case realtime.topic() when 'fail' then fail() when 'divide' then divide()
                                            when 'sleep' then pg_sleep(60) is null else true end);
             create policy w on realtime.messages for insert to anon
               with check (case realtime.topic() when 'write' then fail() else true end)",
        )
        .await;
    let mut config = rig.config();
    // One connection, used again after everything that goes wrong.
    (config.pool_size, config.evaluate_timeout) = (1, Duration::from_millis(300));
    let resolver = open(config, Arc::new(Metrics::default())).resolver;
    let anon = json!({"role": "anon"});
    for _ in 0..2 {
        for (topic, rights) in [
            ("fail", "write presence_write"),
            ("divide", "write presence_write"),
            ("write", "read presence_read"),
            ("fine", ALL),
        ] {
            assert_eq!(
                ask(&resolver, topic, &anon).await.unwrap(),
                rights,
                "{topic}"
            );
        }
        let error = ask(&resolver, "sleep", &anon).await.unwrap_err();
        let message = "QueryCanceled: canceling statement due to statement timeout";
        assert_eq!((&*error.message, error.retryable), (message, true));
    }
    let left = rig
        .sql
        .value("select count(*) from realtime.messages")
        .await;
    assert_eq!(left, "0");
}

#[tokio::test]
async fn no_connection_is_handed_on_with_somebodys_role() {
    let rig = Rig::new().await;
    rig.sql.run("select realtime.send('{}', 'e', 'a')").await;
    let mut config = rig.config();
    config.pool_size = 1;
    let parts = open(config, Arc::new(Metrics::default()));
    for role in ["anon", "authenticated", "nobody"] {
        ask(&parts.resolver, "a", &json!({ "role": role }))
            .await
            .unwrap();
        // The next user of the only connection sees what none of these roles may see.
        let topic = Topic::parse("realtime:a").unwrap();
        let messages = parts.log.replay(topic, 0, 25).await.unwrap();
        assert_eq!(messages.len(), 1, "{role}");
    }
}

#[tokio::test]
async fn a_crowd_gets_each_its_own_answer() {
    let rig = Rig::new().await;
    rig.sql
        .run(
            "create policy p on realtime.messages to authenticated
               using (realtime.topic() = (select auth.uid())::text) with check (false)",
        )
        .await;
    let resolver = rig.resolver();
    let sub = |n: u32| format!("7f0c0000-0000-4000-8000-{n:012}");
    let questions = (0..200).map(|n| {
        let (resolver, topic) = (&resolver, sub(n / 2 * 2));
        let claims = json!({"role": "authenticated", "sub": sub(n)});
        async move { (n, ask(resolver, &topic, &claims).await.unwrap()) }
    });
    for (n, rights) in futures::future::join_all(questions).await {
        let wanted = if n % 2 == 0 { "read presence_read" } else { "" };
        assert_eq!(rights, wanted, "{n}");
    }
}

#[tokio::test]
async fn a_table_without_a_partition_for_today_is_named() {
    let rig = Rig::new().await;
    rig.sql
        .run(
            "do $$ declare part text; begin
               for part in select inhrelid::regclass::text from pg_inherits where inhparent = 'realtime.messages'::regclass loop
                 execute 'drop table ' || part;
               end loop;
             end $$",
        )
        .await;
    let anon = json!({"role": "anon"});
    let error = ask(&rig.resolver(), "a", &anon).await.unwrap_err();
    let message = "MissingPartition: Realtime was unable to find the expected messages partition";
    assert_eq!(error.message, message);
    rig.sql.run("drop table realtime.messages").await;
    let error = ask(&rig.resolver(), "a", &anon).await.unwrap_err();
    assert_eq!(
        error.message,
        "Realtime was unable to connect to the project database"
    );
}
