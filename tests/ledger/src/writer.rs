//! A writer: one connection that plays its scripts and keeps book of what the server told it.

use fastrand::Rng;
use pgrelay_test_support::Session;
use tokio::time::sleep;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use crate::attempt::{Attempt, Outcome};
use crate::run::Load;
use crate::script::{Ending, Script, Step};
use crate::violation::Kind;
use crate::world::{Failure, World};

/// What the workload itself may run into, log or no log.
const EXPECTED: [SqlState; 3] = [
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    // A function changed a row that its own statement was about to change.
    SqlState::TRIGGERED_DATA_CHANGE_VIOLATION,
];

struct Writer<'a> {
    world: &'a World,
    session: Session,
    backend: i32,
    /// The index of the attempt in the world's book.
    attempt: usize,
    tag: String,
}

/// Plays its share of the load.
pub(crate) async fn write(world: &World, number: usize, mut dice: Rng, load: Load) {
    let mut connection = None;
    for round in 0..load.scripts {
        let script = Script::draw(&mut dice, load.asynchronous_percent);
        if connection.is_none() {
            connection = world.connect_mortal().await;
        }
        let Some((session, backend)) = connection.take() else {
            break;
        };
        let tag = format!("{}.{number}.{round}", world.part);
        let mut writer = Writer::begin(world, session, backend, tag, &script);
        match writer.play(&script).await {
            Ok(()) => connection = Some((writer.session, backend)),
            Err(Failure::Refused(state, message)) => {
                if !EXPECTED.contains(&state) {
                    let what = format!("{message} in {script:?}");
                    world.notice(Kind::WriterFailed, what);
                }
                if writer.session.batch_execute("rollback").await.is_ok() {
                    connection = Some((writer.session, backend));
                }
            }
            Err(Failure::Disconnected) => {
                if let Ending::Prepare { .. } = script.ending {
                    settle_prepared(world, writer.attempt, &writer.tag).await;
                }
            }
        }
    }
    world.writers_left.update(|left| left - 1);
}

/// A transaction that was prepared outlives its connection; left alone it would hold its locks for ever.
pub(crate) async fn settle_prepared(world: &World, attempt: usize, tag: &str) {
    let Some((session, _)) = world.connect_mortal().await else {
        return;
    };
    let committed = session
        .batch_execute(&format!("commit prepared '{tag}'"))
        .await;
    if committed.is_ok() {
        let acknowledged = world.tick();
        world.attempts.borrow_mut()[attempt].outcome = Outcome::Committed { acknowledged };
    }
}

impl<'a> Writer<'a> {
    fn begin(
        world: &'a World,
        session: Session,
        backend: i32,
        tag: String,
        script: &Script,
    ) -> Self {
        let mut attempts = world.attempts.borrow_mut();
        let synchronous = !script.asynchronous_commit;
        attempts.push(Attempt::begin(tag.clone(), world.tick(), synchronous));
        Self {
            world,
            session,
            backend,
            attempt: attempts.len() - 1,
            tag,
        }
    }

    async fn play(&mut self, script: &Script) -> Result<(), Failure> {
        // For the session, because a prepared transaction is committed by another one.
        self.run(match script.asynchronous_commit {
            true => "set synchronous_commit = off",
            false => "set synchronous_commit = on",
        })
        .await?;
        self.run(match script.repeatable_read {
            true => "begin isolation level repeatable read",
            false => "begin",
        })
        .await?;
        for step in &script.steps {
            match step {
                Step::Think(pause) => sleep(*pause).await,
                change => self.run(&change.sql(&self.tag)).await?,
            }
        }
        self.note_changes().await?;
        self.end(&script.ending).await
    }

    /// Learns its transaction id and how much it has changed, while it still can.
    async fn note_changes(&self) -> Result<(), Failure> {
        let messages = self
            .session
            .simple_query(
                "select pg_current_xact_id_if_assigned(), nullif(current_setting('test.changes', true), '')",
            )
            .await?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let number = |column| row.and_then(|row| row.get(column)?.parse().ok());
        let mut attempts = self.world.attempts.borrow_mut();
        let attempt = &mut attempts[self.attempt];
        attempt.xid = number(0);
        attempt.changes = number(1)
            .unwrap_or(0)
            .try_into()
            .expect("a count of changes");
        Ok(())
    }

    async fn end(&self, ending: &Ending) -> Result<(), Failure> {
        match ending {
            Ending::RollBack => self.run("rollback").await,
            Ending::Commit => self.commit("commit").await,
            Ending::CommitUnderFire(delay) => {
                let fire = async {
                    sleep(*delay).await;
                    self.world.terminate(self.backend).await;
                };
                futures::join!(self.commit("commit"), fire).0
            }
            Ending::Killed => {
                self.world.terminate(self.backend).await;
                self.commit("commit").await
            }
            Ending::Prepare { pause, then_commit } => {
                let tag = &self.tag;
                self.risk(&format!("prepare transaction '{tag}'")).await?;
                sleep(*pause).await;
                if *then_commit {
                    self.commit(&format!("commit prepared '{tag}'")).await
                } else {
                    self.risk(&format!("rollback prepared '{tag}'")).await?;
                    self.settle(Outcome::Never);
                    Ok(())
                }
            }
        }
    }

    async fn commit(&self, statement: &str) -> Result<(), Failure> {
        self.risk(statement).await?;
        let acknowledged = self.world.tick();
        self.settle(Outcome::Committed { acknowledged });
        Ok(())
    }

    /// Runs a statement that may decide the outcome; refused, it has rolled back.
    async fn risk(&self, statement: &str) -> Result<(), Failure> {
        self.settle(Outcome::Unknown);
        let result = self.run(statement).await;
        if let Err(Failure::Refused(..)) = result {
            self.settle(Outcome::Never);
        }
        result
    }

    fn settle(&self, outcome: Outcome) {
        self.world.attempts.borrow_mut()[self.attempt].outcome = outcome;
    }

    async fn run(&self, statement: &str) -> Result<(), Failure> {
        self.world.while_held().await;
        Ok(self.session.batch_execute(statement).await?)
    }
}
