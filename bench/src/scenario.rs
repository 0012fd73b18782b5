//! The scenarios, and what they share.

mod bulk;
mod commit_to_client;
mod fan_out;
mod hot_topics;
mod idle;
mod join_storm;
mod one_topic;
mod probe;
mod resume;
mod row_security;
mod slow_consumers;
mod topics;
mod writer_tax;

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    database::Postgres,
    lab::{self, Lab, Place},
    results::Results,
    server::Subject,
};

/// What is measured at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    Idle,
    JoinStorm,
    OneTopic,
    Topics,
    HotTopics,
    CommitToClient,
    WriterTax,
    Bulk,
    SlowConsumers,
    RowSecurity,
    Resume,
}

/// What a scenario gets.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) postgres: &'a Postgres,
    pub(crate) results: &'a mut Results,
}

impl Scenario {
    pub(crate) const ALL: [Self; 11] = [
        Self::Idle,
        Self::JoinStorm,
        Self::OneTopic,
        Self::Topics,
        Self::HotTopics,
        Self::CommitToClient,
        Self::WriterTax,
        Self::Bulk,
        Self::SlowConsumers,
        Self::RowSecurity,
        Self::Resume,
    ];

    pub(crate) fn name(self) -> &'static str {
        self.words().0
    }

    pub(crate) fn title(self) -> &'static str {
        self.words().1
    }

    /// How it is measured, in a few sentences.
    pub(crate) fn method(self) -> &'static str {
        self.words().2
    }

    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Idle => idle::WORDS,
            Self::JoinStorm => join_storm::WORDS,
            Self::OneTopic => one_topic::WORDS,
            Self::Topics => topics::WORDS,
            Self::HotTopics => hot_topics::WORDS,
            Self::CommitToClient => commit_to_client::WORDS,
            Self::WriterTax => writer_tax::WORDS,
            Self::Bulk => bulk::WORDS,
            Self::SlowConsumers => slow_consumers::WORDS,
            Self::RowSecurity => row_security::WORDS,
            Self::Resume => resume::WORDS,
        }
    }

    /// Measures it, every round.
    pub(crate) fn run(self, bench: &mut Bench<'_>) -> Result<()> {
        let run = match self {
            Self::Idle => idle::run,
            Self::JoinStorm => join_storm::run,
            Self::OneTopic => one_topic::run,
            Self::Topics => topics::run,
            Self::HotTopics => hot_topics::run,
            Self::CommitToClient => commit_to_client::run,
            Self::WriterTax => writer_tax::run,
            Self::Bulk => bulk::run,
            Self::SlowConsumers => slow_consumers::run,
            Self::RowSecurity => row_security::run,
            Self::Resume => resume::run,
        };
        run(bench).with_context(|| format!("{} ({})", self.name(), self.title()))
    }
}

impl Bench<'_> {
    /// Runs `measure` for each subject in every round, forth and back, so that a machine that slows down slows all alike.
    fn rounds(
        &mut self,
        subjects: &[Subject],
        mut measure: impl FnMut(&mut Self, Subject) -> Result<()>,
    ) -> Result<()> {
        for round in 0..self.lab.rounds() {
            let mut order: Vec<_> = subjects
                .iter()
                .copied()
                .filter(|subject| self.takes_part(*subject))
                .collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for subject in order {
                measure(self, subject).with_context(|| format!("measure {}", subject.name()))?;
            }
        }
        Ok(())
    }

    fn takes_part(&self, subject: Subject) -> bool {
        match subject {
            Subject::Pgrelay | Subject::Floor | Subject::Bun => true,
            Subject::Ws | Subject::SocketIo | Subject::Nats | Subject::Nchan | Subject::Notify => {
                !self.lab.quick
            }
        }
    }

    fn record(
        &mut self,
        scenario: Scenario,
        subject: &'static str,
        metric: &'static str,
        value: f64,
    ) {
        self.results.record(scenario.name(), subject, metric, value);
    }

    /// Where the generator runs from now on.
    fn settle(place: Place) -> Result<()> {
        lab::settle_generator(place)
    }

    /// What every scenario builds on: our schema, and a captured table of messages.
    pub(crate) fn prepare(&self) -> Result<()> {
        self.pgrelay(&["migrate"])?;
        self.sql(MESSAGES)?;
        self.enable("messages")
    }

    /// Has a table captured.
    fn enable(&self, table: &str) -> Result<()> {
        self.sql(&format!(
            "grant select on {table} to anon, authenticated, service_role"
        ))?;
        self.pgrelay(&["enable", &format!("public.{table}")])
    }

    fn pgrelay(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(Lab::pgrelay()?);
        command
            .env("DATABASE_URL", self.postgres.url())
            .args(arguments);
        lab::output(&mut command).map(drop)
    }

    /// Runs SQL of the scenario's own.
    fn sql(&self, sql: &str) -> Result<()> {
        self.postgres.execute(sql)
    }
}

const MESSAGES: &str = "
    create table messages (id bigint generated always as identity primary key, booking_id uuid not null, body text not null)";

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn figure(count: usize) -> f64 {
    count as f64
}
