//! A sequencer, as the relay has one, except that it loses its connection often and has a rival.

use fastrand::Rng;
use pgrelay_test_support::Session;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;

use crate::page::Pages;
use crate::reader::next_batch;
use crate::script::{chance, millis};
use crate::violation::Kind;
use crate::world::{Failure, World};

/// Batches that may still come when nobody writes any more.
const REST_MAX: usize = 100;

/// Takes steps until the writers are done and a step finds nothing.
pub(crate) async fn sequence(world: &World, mut dice: Rng) {
    let mut rest = 0;
    while let Some((session, backend)) = world.connect_mortal().await {
        let outcome = loop {
            let is_end = world.writers_left.get() == 0;
            let nobody_interferes = world.sequencing.read().await;
            let outcome = if chance(&mut dice, 1) && !is_end {
                let delay = millis(&mut dice, 2);
                let fire = async {
                    sleep(delay).await;
                    world.terminate(backend).await;
                };
                futures::join!(step(&session), fire).0
            } else {
                step(&session).await
            };
            drop(nobody_interferes);
            match outcome {
                Ok(None) if is_end => break Ok(()),
                Ok(batch) => {
                    rest += usize::from(is_end && batch.is_some());
                    if rest > REST_MAX {
                        break Ok(());
                    }
                    // Often in step with the rival.
                    if chance(&mut dice, 50) {
                        sleep(millis(&mut dice, 8)).await;
                    }
                }
                // The rival was first.
                Err(Failure::Refused(SqlState::UNIQUE_VIOLATION, _)) => {
                    world.collisions.update(|collisions| collisions + 1);
                }
                Err(failure) => break Err(failure),
            }
        };
        match outcome {
            Ok(()) => break,
            Err(Failure::Disconnected) => {}
            Err(failure) => {
                world.notice(Kind::RelayFailed, format!("a sequencer: {failure:?}"));
                break;
            }
        }
    }
    if rest > REST_MAX {
        let what = format!("{rest} batches after the last writer");
        world.notice(Kind::Endless, what);
    }
    world.sequencers_left.update(|left| left - 1);
}

/// The batch that was made, if there was anything new.
async fn step(session: &tokio_postgres::Client) -> Result<Option<i64>, Failure> {
    let row = session
        .query_opt("select s.id from pgrelay.step(false) s", &[])
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// A defect: delivers inside the transaction of the step, and loses its connection before the commit now and then.
pub(crate) async fn sequence_rashly(world: &World, mut dice: Rng) {
    while let Some((session, backend)) = world.connect_mortal().await {
        loop {
            let is_end = world.writers_left.get() == 0;
            let is_killed = chance(&mut dice, 3) && !is_end;
            match step_rashly(world, &session, is_killed.then_some(backend)).await {
                Ok(false) if is_end => {
                    world.sequencers_left.update(|left| left - 1);
                    return;
                }
                Ok(_) => sleep(millis(&mut dice, 4)).await,
                Err(_) => break,
            }
        }
    }
}

async fn step_rashly(
    world: &World,
    session: &Session,
    killed: Option<i32>,
) -> Result<bool, Failure> {
    let pages = Pages {
        rows_max: 50,
        relations: None,
    };
    session.batch_execute("begin").await?;
    let made = step(session).await?;
    if let Some(id) = made
        && let Some(batch) = next_batch(session, id - 1, &pages).await?
    {
        world.deliver(batch);
    }
    if let Some(backend) = killed {
        world.terminate(backend).await;
    }
    session.batch_execute("commit").await?;
    Ok(made.is_some())
}
