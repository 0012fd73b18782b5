//! Who may depend on whom.

use std::process::Command;

use serde_json::Value;

use crate::assert_clean;

/// What `cargo metadata` says.
pub(crate) fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

/// A crate of the product, the crates of ours that it may build on, and what it must not know at all.
const RULES: [(&str, &[&str], &[&str]); 5] = [
    (
        "pgrelay-protocol",
        &[],
        &[
            "tokio",
            "tokio-util",
            "hyper",
            "axum",
            "tokio-postgres",
            "deadpool-postgres",
            "tracing",
        ],
    ),
    (
        "pgrelay-relay",
        &["pgrelay-protocol"],
        &[
            "hyper",
            "axum",
            "tower",
            "tokio-postgres",
            "deadpool-postgres",
        ],
    ),
    (
        "pgrelay-capture",
        &["pgrelay-protocol", "pgrelay-relay"],
        &["hyper", "axum", "tower", "tokio-tungstenite"],
    ),
    ("pgrelay-chat", &[], &["tokio-tungstenite"]),
    (
        "pgrelay-server",
        &[
            "pgrelay-protocol",
            "pgrelay-relay",
            "pgrelay-capture",
            "pgrelay-chat",
        ],
        &[],
    ),
];

/// What the product's own tests may use of ours.
const TEST_SUPPORT: &str = "pgrelay-test-support";

fn offences(metadata: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]);
        if !text(&package["manifest_path"]).contains("/crates/") {
            continue;
        }
        let Some((_, ours, unknown)) = RULES.iter().find(|(rule, ..)| *rule == name) else {
            found.push(format!("{name} has no rule in tests/tidy/src/cargo.rs"));
            continue;
        };
        for dependency in list(&package["dependencies"]) {
            let on = text(&dependency["name"]);
            let for_tests = dependency["kind"] == "dev";
            let is_ours = on.starts_with("pgrelay-");
            let may = ours.contains(&on) || (for_tests && (on == TEST_SUPPORT || on == name));
            if (is_ours && !may) || (unknown.contains(&on) && !for_tests) {
                found.push(format!("{name} must not depend on {on}"));
            }
        }
    }
    found
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, on: &str, kind: &Value) -> Vec<String> {
        offences(&json!({"packages": [{
            "name": name,
            "manifest_path": format!("/x/crates/{name}/Cargo.toml"),
            "dependencies": [{"name": on, "kind": kind}],
        }]}))
    }

    #[test]
    fn a_wrong_edge_is_an_offence() {
        let normal = Value::Null;
        for (name, on) in [
            ("pgrelay-relay", "pgrelay-capture"),
            ("pgrelay-protocol", "pgrelay-relay"),
            ("pgrelay-protocol", "tokio"),
            ("pgrelay-chat", "pgrelay-relay"),
            ("pgrelay-relay", "tokio-postgres"),
            ("pgrelay-server", "pgrelay-test-support"),
            ("pgrelay-new", "serde"),
        ] {
            assert_eq!(package(name, on, &normal).len(), 1, "{name} -> {on}");
        }
    }

    #[test]
    fn right_edges_and_tests_are_none() {
        assert!(package("pgrelay-capture", "pgrelay-relay", &Value::Null).is_empty());
        assert!(package("pgrelay-capture", "pgrelay-test-support", &json!("dev")).is_empty());
        assert!(package("pgrelay-relay", "pgrelay-capture", &json!("dev")).len() == 1);
    }

    #[test]
    fn crates_depend_in_one_direction() {
        assert_clean("dependency direction", &offences(&metadata(&["--no-deps"])));
    }
}
