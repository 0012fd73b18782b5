//! Waiting: always for a condition, always with a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for anything before it fails. Generous: a loaded machine is not a defect.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at a condition that cannot wake its waiter.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Looks at `condition` until it yields a value; fails the test, naming `what`, after [`DEADLINE`].
pub async fn wait_for<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = within(what, condition()).await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {DEADLINE:?} in vain for {what}"
        );
        sleep(LOOK_INTERVAL).await;
    }
}

/// The value of `future`; fails the test, naming `what`, after [`DEADLINE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain for {what}"))
}
