use super::*;

fn mode(url: &str) -> SslMode {
    parse_url(url).unwrap().tls().mode()
}

#[test]
fn every_sslmode_of_libpq_is_understood() {
    for (text, want) in [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ] {
        assert_eq!(mode(&format!("postgres://u@h/d?sslmode={text}")), want);
        assert_eq!(mode(&format!("host=h user=u sslmode='{text}'")), want);
    }
    assert_eq!(mode("postgres://u@h/d"), SslMode::Prefer);
    assert!(matches!(
        parse_url("postgres://h/d?sslmode=yes"),
        Err(UrlError::SslMode)
    ));
}

#[test]
fn our_parameters_are_cut_out_and_the_others_kept() {
    let endpoint = parse_url(
        "postgresql://u:p%40s@h1:5433,h2/d?sslmode=disable&options=-c%20a%3Db&connect_timeout=3",
    )
    .unwrap();
    let config = endpoint.config();
    assert_eq!(config.get_user(), Some("u"));
    assert_eq!(config.get_password(), Some("p@s".as_bytes()));
    assert_eq!(config.get_hosts().len(), 2);
    assert_eq!(config.get_ports(), [5433, 5432]);
    assert_eq!(config.get_options(), Some("-c a=b"));
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));

    let endpoint = parse_url(r"host = h  password='a b\'c' sslmode = disable dbname=d\ e").unwrap();
    assert_eq!(endpoint.config().get_password(), Some("a b'c".as_bytes()));
    assert_eq!(endpoint.config().get_dbname(), Some("d e"));
}

#[test]
fn timeouts_and_keepalives_are_filled_in_only_where_the_url_is_silent() {
    let silent = parse_url("postgres://u@h/d").unwrap();
    assert_eq!(
        silent.config().get_connect_timeout(),
        Some(&CONNECT_TIMEOUT)
    );
    assert_eq!(silent.config().get_keepalives_idle(), KEEPALIVE_IDLE);
    assert_eq!(
        silent.config().get_tcp_user_timeout(),
        Some(&TCP_USER_TIMEOUT)
    );
    assert_eq!(silent.config().get_application_name(), Some("pgrelay"));
    let said =
        parse_url("postgres://u@h/d?keepalives_idle=60&tcp_user_timeout=1&application_name=x")
            .unwrap();
    assert_eq!(said.config().get_keepalives_idle(), Duration::from_secs(60));
    assert_eq!(
        said.config().get_tcp_user_timeout(),
        Some(&Duration::from_secs(1))
    );
    assert_eq!(said.config().get_application_name(), Some("x"));
}

#[test]
fn half_or_unusable_tls_parameters_are_refused() {
    assert!(matches!(
        parse_url("postgres://h/d?sslcert=/a"),
        Err(UrlError::HalfIdentity)
    ));
    assert!(matches!(
        parse_url("postgres://h/d?sslcrl=/a"),
        Err(UrlError::Unsupported("sslcrl"))
    ));
    assert!(matches!(
        parse_url("postgres://h/d?sslrootcert=system&sslmode=require"),
        Err(UrlError::Tls(TlsError::SystemRootsNeedVerifyFull))
    ));
    assert!(matches!(
        parse_url("postgres://h/d?sslmode=verify-full&sslrootcert=/no/such/file"),
        Err(UrlError::Tls(TlsError::File {
            what: "sslrootcert",
            ..
        }))
    ));
    assert_eq!(
        mode("postgres://h/d?sslrootcert=system"),
        SslMode::VerifyFull
    );
}

#[test]
fn a_unix_socket_needs_no_tls_whatever_is_asked() {
    assert_eq!(
        mode("host=/var/run/postgresql user=u sslmode=require"),
        SslMode::Disable
    );
}

#[test]
fn no_secret_shows_in_debug_or_errors() {
    let shown = |text: &str| match parse_url(text) {
        Ok(endpoint) => format!("{endpoint:?}"),
        Err(error) => format!("{error:?} {error}"),
    };
    for text in [
        "postgres://u:hunter2@h/d",
        "host=h password=hunter2",
        "host=h password='hunter2",
        "postgres://u:hunter2@h:x/d",
        "postgres://u:hunter2@h/d?sslmode=hunter2",
        "postgres://u:hunter2@h/d?port=hunter2",
        "postgres://u:hunter2@h/d?application_name=%ff&sslcert=%zz",
        "hunter2",
    ] {
        assert!(!shown(text).contains("hunter2"), "{}", shown(text));
    }
}
