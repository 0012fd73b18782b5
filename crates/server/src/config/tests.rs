use super::*;

fn values(pairs: &[(&str, &str)]) -> Values {
    Values::new(
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    )
}

const WORKING: &[(&str, &str)] = &[
    ("DATABASE_URL", "postgres://app:pa55@db.test/app"),
    (
        "PGRELAY_JWT_SECRET",
        "a secret of more than thirty-two bytes",
    ),
];

#[test]
fn the_defaults_of_the_table_are_usable() {
    let serve = values(WORKING).serve().unwrap();
    assert_eq!(serve.listen.to_string(), "127.0.0.1:4000");
    assert!(!serve.auto_migrate);
    assert!(serve.database.ddl);
}

#[test]
fn all_mistakes_of_a_start_are_told_at_once_and_no_secret_is() {
    let mistakes = values(&[
        ("DATABASE_URL", "nonsense:pa55"),
        ("PGRELAY_LISTEN", "4000"),
        ("PGRELAY_API_KEYS", "hunter2"),
        ("PGRELAY_IDLE_TIMEOUT", "60"),
        ("PGRELAY_AUTO_MIGRATE", "yes"),
        ("PGRELAY_JWT_CLAIMS", "aud="),
        ("PGRELAY_JWKS", "http://issuer.test/jwks.json"),
    ])
    .serve()
    .unwrap_err();
    let keys: Vec<_> = mistakes
        .0
        .iter()
        .map(|mistake| mistake.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "PGRELAY_LISTEN",
            "DATABASE_URL",
            "PGRELAY_AUTO_MIGRATE",
            "PGRELAY_JWKS",
            "PGRELAY_API_KEYS",
            "PGRELAY_JWT_CLAIMS",
            "PGRELAY_IDLE_TIMEOUT",
        ]
    );
    let text = mistakes.to_string();
    assert!(text.starts_with("7 settings cannot be used\n"), "{text}");
    assert!(
        text.contains("PGRELAY_LISTEN = \"4000\": expected an IP address"),
        "{text}"
    );
    assert!(
        !text.contains("pa55") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn a_secret_or_published_keys_are_needed() {
    let neither = values(&WORKING[..1]).serve().unwrap_err().to_string();
    assert!(
        neither.contains("PGRELAY_JWT_SECRET is not set: "),
        "{neither}"
    );
    let mut pairs = WORKING[..1].to_vec();
    pairs.push(("PGRELAY_JWKS", "https://issuer.test/jwks.json"));
    let serve = values(&pairs).serve().unwrap();
    assert!(!serve.signing.is_weak() && serve.signing.published().is_some());
    assert!(values(&pairs).secret().is_err());
}

#[test]
fn flags_override_the_environment_and_are_blamed_by_name() {
    let given =
        values(WORKING).with_flag("PGRELAY_LISTEN", "--listen", Some("0.0.0.0:1".to_owned()));
    assert_eq!(given.serve().unwrap().listen.port(), 1);
    let wrong = values(WORKING).with_flag("PGRELAY_LISTEN", "--listen", Some("here".to_owned()));
    assert_eq!(wrong.serve().unwrap_err().0[0].key, "--listen");
}

#[test]
fn an_empty_value_is_no_value() {
    let mut pairs = WORKING.to_vec();
    pairs.push(("PGRELAY_LISTEN", ""));
    assert!(values(&pairs).serve().is_ok());
}

#[test]
fn commands_need_only_their_own_settings() {
    assert!(values(&WORKING[..1]).database().is_ok());
    assert!(values(&WORKING[1..]).secret().is_ok());
    assert!(values(&[]).tail().is_ok());
}

#[test]
fn the_effective_settings_are_shown_masked() {
    let shown: Vec<_> = values(WORKING).effective().collect();
    let find = |key| shown.iter().find(|(shown, _, _)| *shown == key).unwrap();
    assert_eq!(find("DATABASE_URL").1, "postgres://app:***@db.test/app");
    assert_eq!(find("PGRELAY_JWT_SECRET").1, "***");
    assert_eq!(find("PGRELAY_LISTEN").2, Origin::Default);
}

#[test]
fn misspelt_keys_are_noticed() {
    let given = values(&[
        ("PGRELAY_LISTNE", "x"),
        ("PGRELAY_LOG", "debug"),
        ("HOME", "/"),
    ]);
    assert_eq!(given.unknown().collect::<Vec<_>>(), ["PGRELAY_LISTNE"]);
}
