//! Maintenance under load: segments switch, are recycled and the ring grows as they never would in peace.

use std::time::Duration;

use fastrand::Rng;
use pgrelay_test_support::Session;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;

use crate::script::{chance, millis};
use crate::violation::Kind;
use crate::world::{Failure, World};

/// A size that no run reaches.
const NO_BOUND_BYTES: i64 = 1 << 40;

/// A round that takes longer is cancelled.
const ROUND_MILLIS_MAX: u64 = 250;

/// What maintenance did in a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Upkeep {
    /// Writers were moved to another segment.
    pub switched: usize,
    /// Segments emptied.
    pub recycled: usize,
    /// Segments added.
    pub grown: usize,
}

/// Keeps house until nobody sequences any more.
pub(crate) async fn keep_house(world: &World, mut dice: Rng) {
    while world.sequencers_left.get() > 0
        && let Some((session, backend)) = world.connect_mortal().await
    {
        let limit = format!("set statement_timeout = {ROUND_MILLIS_MAX}");
        if session.batch_execute(&limit).await.is_err() {
            continue;
        }
        let outcome = loop {
            world.while_held().await;
            if world.sequencers_left.get() == 0 {
                break Ok(());
            }
            let outcome = if chance(&mut dice, 2) {
                squeeze(world, &session).await
            } else if chance(&mut dice, 3) {
                let (retention, delay) = (retention(&mut dice), millis(&mut dice, 20));
                let fire = async {
                    sleep(delay).await;
                    world.terminate(backend).await;
                };
                futures::join!(maintain(world, &session, retention), fire).0
            } else {
                maintain(world, &session, retention(&mut dice)).await
            };
            match outcome {
                Ok(()) | Err(Failure::Refused(SqlState::QUERY_CANCELED, _)) => {
                    sleep(millis(&mut dice, 80)).await;
                }
                Err(failure) => break Err(failure),
            }
        };
        if let Err(Failure::Refused(_, message)) = outcome {
            world.notice(Kind::RelayFailed, format!("maintenance: {message}"));
            break;
        }
    }
}

/// How long ago the reader that follows must have delivered what may go.
///
/// Retention is counted back from some moment of the round; as no round takes longer than this, what is not delivered stays.
fn retention(dice: &mut Rng) -> Duration {
    Duration::from_millis(dice.u64(ROUND_MILLIS_MAX..900))
}

/// One round that may give up what was delivered `retention` ago.
async fn maintain(world: &World, session: &Session, retention: Duration) -> Result<(), Failure> {
    let position = world.position();
    let retention = format!("{} ms", retention.as_millis());
    let actions = session
        .query(
            "select m.action from pgrelay.maintain(
                 (select clock_timestamp() - l.at + $2::text::interval from pgrelay.ledger l where l.id = $1), $3) m",
            &[&position, &retention, &NO_BOUND_BYTES],
        )
        .await?;
    count(world, &actions);
    check_floor(world, session, position).await
}

/// Nothing but the size counts: all history may go, while nobody adds to it.
async fn squeeze(world: &World, session: &Session) -> Result<(), Failure> {
    let _nobody_sequences = world.sequencing.write().await;
    let last: i64 = session
        .query_one("select max(l.id) from pgrelay.ledger l", &[])
        .await?
        .get(0);
    while world.position() < last && !world.crashing.get() {
        sleep(Duration::from_millis(1)).await;
    }
    let actions = session
        .query("select m.action from pgrelay.maintain('1 day', 0) m", &[])
        .await?;
    count(world, &actions);
    check_floor(world, session, last).await
}

/// The floor may have come up to a position, and no further.
async fn check_floor(world: &World, session: &Session, position: i64) -> Result<(), Failure> {
    let floor: i64 = session
        .query_one(
            "select m.value::bigint from pgrelay.meta m where m.key = 'floor'",
            &[],
        )
        .await?
        .get(0);
    if floor > position {
        world.notice(
            Kind::TooShort,
            format!("the floor is {floor}, and all after {position} was to stay"),
        );
    }
    Ok(())
}

fn count(world: &World, actions: &[tokio_postgres::Row]) {
    let mut upkeep = world.upkeep.get();
    for action in actions {
        match action.get(0) {
            "switched" => upkeep.switched += 1,
            "recycled" => upkeep.recycled += 1,
            "grown" => upkeep.grown += 1,
            _ => {}
        }
    }
    world.upkeep.set(upkeep);
}
