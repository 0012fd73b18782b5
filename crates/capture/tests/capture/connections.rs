//! TLS to PostgreSQL.

use pgrelay_capture::{Error, cursor_key, migrate};
use pgrelay_test_support::PostgresServer;

use crate::rig::config;

/// Whether a connection with these parameters comes about, else why not.
async fn connects(server: &PostgresServer, host: &str, parameters: &str) -> Result<(), String> {
    let url = server.url().to_string().replace("127.0.0.1", host);
    let endpoint = pgrelay_capture::parse_url(&format!("{url}?{parameters}"))
        .map_err(|error| error.to_string())?;
    let config = pgrelay_capture::Config {
        direct: endpoint,
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
    let server = PostgresServer::builder().tls().start().await;
    let other = PostgresServer::builder().tls().start().await;
    let ca = server.certificates().authority();
    let (ca, wrong) = (
        ca.display().to_string(),
        other.certificates().authority().display().to_string(),
    );
    // The certificate says localhost.
    for (host, parameters, works) in [
        ("127.0.0.1", "sslmode=disable", false),
        ("127.0.0.1", "sslmode=allow", true),
        ("127.0.0.1", "sslmode=prefer", true),
        ("127.0.0.1", "sslmode=require", true),
        ("127.0.0.1", "sslmode=require&sslrootcert={ca}", true),
        ("127.0.0.1", "sslmode=require&sslrootcert={wrong}", false),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert={ca}", true),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert={wrong}", false),
        ("127.0.0.1", "sslmode=verify-ca", false),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={ca}", false),
        ("localhost", "sslmode=verify-full&sslrootcert={ca}", true),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert={wrong}",
            false,
        ),
        ("localhost", "sslmode=verify-full&sslrootcert=system", false),
    ] {
        let parameters = parameters.replace("{ca}", &ca).replace("{wrong}", &wrong);
        let outcome = connects(&server, host, &parameters).await;
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
        let outcome = connects(&server, "127.0.0.1", parameters).await;
        assert_eq!(outcome.is_ok(), works, "{parameters}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let server = PostgresServer::builder().tls().start().await;
    let (certificate, key) = server.certificates().client();
    let parameters = format!(
        "sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
        server.certificates().authority().display(),
        certificate.display(),
        key.display()
    );
    connects(&server, "localhost", &parameters).await.unwrap();
    let url = format!(
        "{}?{parameters}",
        server.url().to_string().replace("127.0.0.1", "localhost")
    );
    let endpoint = pgrelay_capture::parse_url(&url).unwrap();
    let config = pgrelay_capture::Config {
        direct: endpoint.clone(),
        database: endpoint,
        ..config(&server.url())
    };
    // The pool goes the same way.
    migrate(&config).await.unwrap();
    let following = crate::rig::Following::start(config).live().await;
    let head = following.health.head().unwrap();
    assert!(following.replay(head, 1000).await.unwrap().is_empty());
    following.stop().await;
}
