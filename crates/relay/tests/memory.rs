//! What an idle client costs.

#![expect(clippy::unwrap_used, reason = "a file of tests")]

#[path = "socket/harness.rs"]
#[allow(dead_code, reason = "shared with the tests of sockets")]
mod harness;

use harness::{World, config};
use pgrelay_relay::Config;

/// Memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1_024
}

/// Clients with a channel, a token and a filter of their own, both ends of each socket in this
/// process, after each has received something.
#[tokio::test]
async fn an_idle_joined_client_costs_less_than_six_kibibytes() {
    const CLIENTS: i64 = 2_000;
    let config = Config {
        ring_bytes_max: 0,
        ..config()
    };
    World::run(config, |world| async move {
        let mut clients = Vec::new();
        let mut before = 0;
        for room in 0..2 * CLIENTS {
            // The first half pays for what all share.
            if room == CLIENTS {
                before = resident();
            }
            let mut client = world.connect().await;
            client.join(room, None).await;
            world
                .insert(2 + u64::try_from(room).unwrap(), &[room], 100)
                .await;
            client.json().await;
            clients.push(client.into_bare());
        }
        let bytes = (resident() - before) / usize::try_from(CLIENTS).unwrap();
        println!("{bytes} bytes per client");
        assert!(bytes < 6 * 1_024, "{bytes} bytes per client");
    })
    .await;
}
