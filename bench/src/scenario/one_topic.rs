//! S3: one topic that cannot be batched.

use anyhow::Result;

use super::{Bench, Scenario, fan_out};
use crate::server::Subject;

pub(super) const WORDS: (&str, &str, &str) = (
    "S3",
    "one topic, unbatchable",
    "15,000 subscribers (quick: 3,000) of one topic; the next message of 256 bytes is published when the last one has \
     reached everybody, so every socket gets every frame alone. The server has one processor for itself, and what counts \
     is deliveries by second of processor time. The floor is a plain `send()` of one frame to each socket.",
);

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let load = fan_out::Load {
        topics: 1,
        subscribers_per_topic: bench.lab.size(15_000, 3_000),
        window: 1,
        seconds: bench.lab.seconds(15, 6),
    };
    let subjects = [
        Subject::Floor,
        Subject::Pgrelay,
        Subject::Bun,
        Subject::Ws,
        Subject::SocketIo,
        Subject::Nats,
        Subject::Nchan,
    ];
    bench.rounds(&subjects, |bench, subject| {
        fan_out::measure(bench, Scenario::OneTopic, subject, load)
    })
}
