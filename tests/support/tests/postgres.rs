//! The databases and servers that tests stand on do what they say.

use tokio_postgres::error::SqlState;

use pgrelay_test_support::{PostgresServer, Role, Session, TcpProxy, TestDatabase};

#[tokio::test]
async fn an_owner_owns_its_database_and_nothing_else() {
    let database = TestDatabase::create_as(Role::Owner).await;
    let session = database.connect().await;
    session
        .run("create table public.t (id int primary key); create publication p for table public.t")
        .await;
    let rights = "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication
                  from pg_roles where rolname = current_user";
    assert_eq!(session.value(rights).await, "f");
    session.run("set role service_role; reset role").await;
}

#[tokio::test]
async fn a_database_is_gone_after_its_test() {
    let database = TestDatabase::create_as(Role::Owner).await;
    let name = database
        .connect()
        .await
        .value("select current_database()")
        .await;
    let server = database.superuser_url().with_database("postgres");
    let _still_connected = database.connect().await;
    drop(database);
    let session = Session::connect(&server).await;
    let left = format!(
        "select (select count(*) from pg_database where datname = '{name}')
              + (select count(*) from pg_roles where rolname = '{name}')"
    );
    assert_eq!(session.value(&left).await, "0");
}

#[tokio::test]
async fn a_crashed_server_comes_back_with_what_was_committed() {
    let mut server = PostgresServer::builder()
        .set("max_prepared_transactions", "10")
        .start()
        .await;
    let session = server.connect().await;
    session
        .run("create table t (id int); begin; insert into t values (1); prepare transaction 'p'")
        .await;
    server.crash().await;
    server.start().await;
    let session = server.connect().await;
    session.run("commit prepared 'p'").await;
    assert_eq!(session.value("select count(*) from t").await, "1");
    server.stop().await;
}

#[tokio::test]
async fn a_server_with_tls_refuses_plain_connections() {
    let server = PostgresServer::builder().tls().start().await;
    let database = TestDatabase::create_on(&server.url(), Role::Owner).await;
    let refusal = tokio_postgres::connect(&database.url().to_string(), tokio_postgres::NoTls)
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        refusal.code(),
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    );
    let ssl = database.connect_superuser().await.value("show ssl").await;
    assert_eq!(ssl, "on");
    assert!(server.certificates().authority().exists());
}

#[tokio::test]
async fn a_database_can_be_reached_through_a_proxy_and_cut_off() {
    let database = TestDatabase::create().await;
    let proxy = TcpProxy::start(database.url().address()).await;
    let session = Session::connect(&database.url().through(proxy.address())).await;
    assert_eq!(session.value("select 1").await, "1");
    proxy.cut();
    assert!(session.simple_query("select 1").await.is_err());
}
