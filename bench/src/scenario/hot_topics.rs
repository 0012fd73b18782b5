//! S5: topics so hot that several frames wait for each socket.

use anyhow::Result;

use super::{Bench, Scenario, fan_out};
use crate::server::Subject;

pub(super) const WORDS: (&str, &str, &str) = (
    "S5",
    "hot topics",
    "5 topics with 200 subscribers each, 64 messages of 256 bytes under way in each topic at a time. The server has one \
     processor for itself, and what counts is deliveries by second of processor time. The floor puts all frames that came \
     together into one `send()` per socket.",
);

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let load = fan_out::Load {
        topics: 5,
        subscribers_per_topic: bench.lab.size(200, 200),
        window: 64,
        seconds: bench.lab.seconds(15, 6),
    };
    let subjects = [
        Subject::Floor,
        Subject::Pgrelay,
        Subject::Bun,
        Subject::Ws,
        Subject::SocketIo,
        Subject::Nats,
    ];
    bench.rounds(&subjects, |bench, subject| {
        fan_out::measure(bench, Scenario::HotTopics, subject, load)
    })
}
