//! The published supabase-js, unmodified, against the real binary: clients/typescript/compat.

use std::path::Path;
use std::time::Duration;

use pgrelay_test_support::{Relay, TestDatabase};
use tokio::process::Command;
use tokio::time::timeout;

/// All tests of the folder, both protocol versions. They have deadlines of their own; this one is for Node itself.
const DEADLINE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_published_client_works_unmodified() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../clients/typescript/compat"
    ));
    assert!(
        folder.join("node_modules").exists(),
        "the client is not installed; run: npm ci --prefix clients/typescript/compat"
    );
    let database = TestDatabase::create().await;
    // The oldest client does not say that it wants to see who is present.
    let relay = Relay::builder(database.url())
        .set("PGRELAY_PRESENCE_ENABLED", "true")
        .start()
        .await;
    let run = Command::new("node")
        .args(["--test", "--test-force-exit", "--test-reporter=spec"])
        .current_dir(folder)
        .env("COMPAT_RELAY_URL", relay.url(""))
        .env("COMPAT_KEY", relay.anon_key())
        .env("COMPAT_DATABASE_URL", database.url().to_string())
        .kill_on_drop(true)
        .output();
    let output = timeout(DEADLINE, run)
        .await
        .expect("Node to end")
        .expect("Node to run");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
