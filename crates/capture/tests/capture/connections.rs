//! TLS to PostgreSQL.

use pgrelay_capture::{Config, Error, Kind, cursor_key, migrate, parse_url};
use pgrelay_test_support::{Certificates, PostgresServer};

use crate::rig::{Following, config};

/// A server that only lets superuser `postgres` in without TLS, and user `certified` with a certificate.
async fn server_with_tls() -> PostgresServer {
    let server = PostgresServer::builder().tls().start().await;
    let sql = server.connect().await;
    sql.run("create role guest login; create role certified login superuser")
        .await;
    server
}

fn url(server: &PostgresServer, user: &str, host: &str, parameters: &str) -> String {
    let url = server
        .url()
        .with_user(user)
        .with_parameters(parameters)
        .to_string();
    url.replace("127.0.0.1", host)
}

/// Whether a connection comes about, else why not.
async fn connects(server: &PostgresServer, url: &str) -> Result<(), String> {
    let direct = parse_url(url).map_err(|error| error.to_string())?;
    let config = Config {
        direct,
        ..config(&server.url())
    };
    match cursor_key(&config).await {
        // Connected, and found no schema: that is all this is about.
        Err(Error::Schema { .. }) => Ok(()),
        Ok(_) => panic!("an empty database has no cursor key"),
        Err(error) => Err(error.report().to_string()),
    }
}

#[tokio::test]
async fn every_sslmode_keeps_what_it_promises() {
    let server = server_with_tls().await;
    let other = PostgresServer::builder().tls().start().await;
    let authority =
        |server: &PostgresServer| server.certificates().authority().display().to_string();
    let (right, wrong) = (authority(&server), authority(&other));
    // The certificate says localhost.
    for (host, parameters, works) in [
        ("127.0.0.1", "sslmode=disable", false),
        ("127.0.0.1", "sslmode=allow", true),
        ("127.0.0.1", "sslmode=prefer", true),
        ("127.0.0.1", "sslmode=require", true),
        ("127.0.0.1", "sslmode=require&sslrootcert={right}", true),
        ("127.0.0.1", "sslmode=require&sslrootcert={wrong}", false),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert={right}", true),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert={wrong}", false),
        ("127.0.0.1", "sslmode=verify-ca", false),
        (
            "127.0.0.1",
            "sslmode=verify-full&sslrootcert={right}",
            false,
        ),
        ("localhost", "sslmode=verify-full&sslrootcert={right}", true),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert={wrong}",
            false,
        ),
        ("localhost", "sslmode=verify-full&sslrootcert=system", false),
    ] {
        let parameters = parameters
            .replace("{right}", &right)
            .replace("{wrong}", &wrong);
        let outcome = connects(&server, &url(&server, "guest", host, &parameters)).await;
        assert_eq!(outcome.is_ok(), works, "{host} {parameters}: {outcome:?}");
    }
}

#[tokio::test]
async fn without_tls_on_the_server_only_the_modes_that_insist_fail() {
    let server = PostgresServer::builder().start().await;
    for (parameters, works) in [
        ("sslmode=disable", true),
        ("sslmode=allow", true),
        ("sslmode=prefer", true),
        ("sslmode=require", false),
        ("sslmode=verify-full", false),
    ] {
        let outcome = connects(&server, &url(&server, "postgres", "127.0.0.1", parameters)).await;
        assert_eq!(outcome.is_ok(), works, "{parameters}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_by_the_session_and_the_pool() {
    let server = server_with_tls().await;
    let (certificate, key) = server.certificates().client();
    let without = format!(
        "sslmode=verify-full&sslrootcert={}",
        server.certificates().authority().display()
    );
    let with = format!(
        "{without}&sslcert={}&sslkey={}",
        certificate.display(),
        key.display()
    );
    assert!(
        connects(
            &server,
            &url(&server, Certificates::CLIENT, "localhost", &without)
        )
        .await
        .is_err()
    );
    let endpoint = parse_url(&url(&server, Certificates::CLIENT, "localhost", &with)).unwrap();
    let config = Config {
        direct: endpoint.clone(),
        database: endpoint,
        ..config(&server.url())
    };
    migrate(&config).await.unwrap();
    let following = Following::start(config).live().await;
    let head = following.health.head().unwrap();
    assert!(following.replay(head, 1000).await.unwrap().is_empty());
    following.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_connection_is_said_without_the_password() {
    let server = PostgresServer::builder().start().await;
    let url = server.url().with_user("nobody:hunter2").to_string();
    let config = Config {
        direct: parse_url(&url).unwrap(),
        ..config(&server.url())
    };
    let error = cursor_key(&config).await.unwrap_err();
    assert_eq!(
        error.report().to_string(),
        "connect to PostgreSQL: role \"nobody\" does not exist (SQLSTATE 28000)"
    );
    assert_eq!(error.kind(), Kind::Denied);
    assert!(!format!("{error:?} {config:?}").contains("hunter2"));
}
