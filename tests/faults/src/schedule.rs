//! Everything a run does, drawn from its seed before it begins.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use crate::fault::{Alteration, End, Fault};
use crate::writer::Load;

/// What goes wrong. Each seed is about one of these; consecutive seeds meet all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it; faults and README say how")]
pub enum Class {
    RelayKilled,
    RelaysReplaced,
    RelayFrozen,
    ServerEnded,
    BackendsEnded,
    FailoverLosingTail,
    FailoverSynchronous,
    CopyRestored,
    DatabaseLinkCut,
    DatabaseLinkHalfOpen,
    DatabaseLinkSlow,
    ClientLinkCut,
    ReadersSlow,
    ReconnectStorm,
    TransactionsLong,
    SavepointsRolledBack,
    TransactionsPrepared,
    RowsGiant,
    ValuesHostile,
    SchemaChanged,
    DoorbellForged,
    RetentionRacing,
    TokensExpiring,
    ConnectionsExhausted,
    DescriptorsExhausted,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::RelayKilled,
        Self::RelaysReplaced,
        Self::RelayFrozen,
        Self::ServerEnded,
        Self::BackendsEnded,
        Self::FailoverLosingTail,
        Self::FailoverSynchronous,
        Self::CopyRestored,
        Self::DatabaseLinkCut,
        Self::DatabaseLinkHalfOpen,
        Self::DatabaseLinkSlow,
        Self::ClientLinkCut,
        Self::ReadersSlow,
        Self::ReconnectStorm,
        Self::TransactionsLong,
        Self::SavepointsRolledBack,
        Self::TransactionsPrepared,
        Self::RowsGiant,
        Self::ValuesHostile,
        Self::SchemaChanged,
        Self::DoorbellForged,
        Self::RetentionRacing,
        Self::TokensExpiring,
        Self::ConnectionsExhausted,
        Self::DescriptorsExhausted,
    ];

    /// The class of a seed.
    pub fn of(seed: u64) -> Self {
        let count = u64::try_from(Self::ALL.len()).unwrap();
        Self::ALL[usize::try_from(seed % count).unwrap()]
    }

    /// Why a client may be told to fetch again.
    pub(crate) fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::FailoverLosingTail | Self::CopyRestored => &["epoch"],
            Self::SchemaChanged => &["schema", "hole"],
            Self::RetentionRacing => &["retention", "hole"],
            _ => &[],
        }
    }

    /// Whether the servers are not fit for another run afterwards.
    pub(crate) fn spends_servers(self) -> bool {
        matches!(
            self,
            Self::FailoverLosingTail | Self::FailoverSynchronous | Self::CopyRestored
        )
    }
}

/// A whole run.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub(crate) seed: u64,
    pub(crate) class: Class,
    pub(crate) load: Load,
    /// Of the relay.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Clients besides the usual ones, all alike.
    pub(crate) crowd: usize,
    pub(crate) token_seconds: Option<u64>,
    pub(crate) faults: Vec<(Duration, Fault)>,
    pub(crate) dice: Rng,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {:?}", self.seed, self.class)?;
        writeln!(f, "  {:?}", self.load)?;
        for (name, value) in &self.settings {
            writeln!(f, "  {name}={value}")?;
        }
        for (at, fault) in &self.faults {
            writeln!(f, "  after {at:?}: {fault:?}")?;
        }
        Ok(())
    }
}

impl Schedule {
    /// The run of a seed.
    pub fn of(seed: u64) -> Self {
        Self::of_class(seed, Class::of(seed))
    }

    /// Its seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What it is about.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The run of a seed that is about this class.
    pub fn of_class(seed: u64, class: Class) -> Self {
        let mut dice = Rng::with_seed(seed);
        let load = Load {
            writers: 4,
            transactions: 40,
            time: Duration::from_millis(2_500),
            asynchronous_percent: 30,
            prepared_percent: 0,
            savepoint_percent: 10,
            large_percent: 0,
            oversize: false,
            bulk_percent: 6,
            bulk_rows: 60,
            idle_percent: 0,
        };
        let mut schedule = Self {
            seed,
            class,
            load,
            settings: Vec::new(),
            crowd: 0,
            token_seconds: None,
            faults: Vec::new(),
            dice: dice.fork(),
        };
        // Some resume from memory, some from the log.
        let ring = ["0", "50KiB", "64MiB"][dice.usize(0..3)];
        schedule
            .settings
            .push(("PGRELAY_RING_BYTES_MAX", ring.into()));
        schedule.prepare(&mut dice);
        if class != Class::FailoverSynchronous && dice.bool() {
            schedule.at(&mut dice, Fault::CutClients);
        }
        schedule.faults.sort_by_key(|(at, _)| *at);
        schedule
    }

    /// Half the load: enough to show a defect.
    pub(crate) fn shorten(&mut self) {
        self.load.transactions = self.load.transactions.div_ceil(2);
        self.load.time /= 2;
        for (at, _) in &mut self.faults {
            *at /= 2;
        }
    }

    fn at(&mut self, dice: &mut Rng, fault: Fault) {
        let latest = u64::try_from(self.load.time.as_millis()).unwrap() * 9 / 10;
        let at = Duration::from_millis(dice.u64(latest / 10..latest));
        self.faults.push((at, fault));
    }

    fn several(&mut self, dice: &mut Rng, most: u32, mut fault: impl FnMut(&mut Rng) -> Fault) {
        for _ in 0..dice.u32(1..=most) {
            let fault = fault(dice);
            self.at(dice, fault);
        }
    }

    fn prepare(&mut self, dice: &mut Rng) {
        match self.class {
            Class::RelayKilled => self.several(dice, 3, |_| Fault::KillRelay),
            Class::RelaysReplaced => self.several(dice, 2, |_| Fault::ReplaceRelay),
            Class::RelayFrozen => {
                self.several(dice, 2, |dice| Fault::FreezeRelay(millis(dice, 300..6_500)));
            }
            Class::ServerEnded => self.several(dice, 2, |dice| Fault::EndServer(end(dice))),
            Class::BackendsEnded => self.several(dice, 6, |dice| match dice.u32(0..4) {
                0 => Fault::FreezeBackend(millis(dice, 100..2_000)),
                1 => Fault::EndBackends { relays: false },
                _ => Fault::EndBackends { relays: true },
            }),
            Class::FailoverLosingTail | Class::CopyRestored => {
                let lossy = self.class == Class::FailoverLosingTail;
                let fault = if lossy {
                    Fault::FailOverLosing {
                        time: millis(dice, 100..900),
                        end: end(dice),
                        relay_too: dice.bool(),
                    }
                } else {
                    Fault::RestoreAfter(millis(dice, 200..900))
                };
                self.at(dice, fault);
                if dice.bool() {
                    self.at(dice, Fault::KillRelay);
                }
            }
            Class::FailoverSynchronous => {
                let fault = Fault::FailOver(end(dice));
                self.at(dice, fault);
            }
            Class::DatabaseLinkCut => self.several(dice, 8, |dice| match dice.u32(0..3) {
                0 => Fault::CutDatabase,
                1 => Fault::CutDatabaseAfter(dice.usize(1..20_000), millis(dice, 100..600)),
                _ => Fault::TrickleDatabase(millis(dice, 100..800)),
            }),
            Class::DatabaseLinkHalfOpen => {
                let fault = if dice.bool() {
                    Fault::SwallowDatabase(Some(millis(dice, 200..2_500)))
                } else {
                    Fault::SwallowDatabase(None)
                };
                self.at(dice, fault);
            }
            Class::DatabaseLinkSlow => self.several(dice, 2, |dice| {
                Fault::SlowDatabase(millis(dice, 1..25), millis(dice, 500..2_000))
            }),
            Class::ClientLinkCut => self.several(dice, 12, |dice| match dice.u32(0..4) {
                0 => Fault::SwallowClients(millis(dice, 100..3_000)),
                1 => Fault::CutClientsAfter(dice.usize(1..60_000), millis(dice, 100..600)),
                _ => Fault::CutClients,
            }),
            _ => self.prepare_more(dice),
        }
    }

    fn prepare_more(&mut self, dice: &mut Rng) {
        match self.class {
            Class::ReadersSlow => {
                self.load.large_percent = 40;
                self.settings
                    .push(("PGRELAY_QUEUE_BYTES_MAX", "64KiB".into()));
                self.several(dice, 2, |dice| {
                    Fault::StallReaders(millis(dice, 500..2_000))
                });
            }
            Class::ReconnectStorm => {
                self.crowd = 200;
                self.load.transactions = 12;
                self.several(dice, 3, |_| Fault::CutClients);
            }
            Class::TransactionsLong => {
                self.load.idle_percent = 40;
                self.load.transactions = 12;
                self.load.writers = 10;
                self.several(dice, 2, |dice| {
                    Fault::HoldTransaction(millis(dice, 500..3_000))
                });
            }
            Class::SavepointsRolledBack => {
                self.load.savepoint_percent = 60;
                self.at(dice, Fault::KillRelay);
            }
            Class::TransactionsPrepared => {
                self.load.prepared_percent = 40;
                let fault = Fault::EndServer(end(dice));
                self.at(dice, fault);
            }
            Class::RowsGiant => {
                self.load.large_percent = 25;
                self.load.oversize = true;
                self.load.bulk_percent = 10;
                self.load.bulk_rows = 2_000;
                self.load.transactions = 15;
                self.several(dice, 3, |dice| Fault::EndBackends {
                    relays: dice.bool(),
                });
            }
            Class::ValuesHostile => self.at(dice, Fault::OddSettings),
            Class::SchemaChanged => self.several(dice, 6, |dice| {
                Fault::Alter(Alteration::ALL[dice.usize(0..Alteration::ALL.len())])
            }),
            Class::DoorbellForged => self.several(dice, 4, |dice| match dice.u32(0..3) {
                0 => Fault::HoldKey(millis(dice, 100..700)),
                _ => Fault::ForgeBells(dice.u32(100..4_000)),
            }),
            Class::RetentionRacing => {
                self.settings.push(("PGRELAY_LOG_RETENTION", "1s".into()));
                self.load.large_percent = 10;
                self.several(dice, 3, |dice| {
                    Fault::SwallowClients(millis(dice, 500..3_000))
                });
            }
            Class::TokensExpiring => self.token_seconds = Some(dice.u64(2..5)),
            Class::ConnectionsExhausted => {
                self.settings
                    .push(("PGRELAY_POOL_SIZE", dice.u32(1..3).to_string()));
                self.several(dice, 3, |dice| match dice.u32(0..2) {
                    0 => Fault::TakeConnections(millis(dice, 300..1_500)),
                    _ => Fault::LockSchema(millis(dice, 100..900)),
                });
            }
            _ => self.several(dice, 2, |dice| {
                Fault::LimitDescriptors(millis(dice, 300..1_200))
            }),
        }
    }
}

fn millis(dice: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(dice.u64(range))
}

fn end(dice: &mut Rng) -> End {
    [End::Stop, End::Crash, End::Kill][dice.usize(0..3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_always_the_same_run() {
        for seed in 0..200 {
            assert_eq!(
                Schedule::of(seed).to_string(),
                Schedule::of(seed).to_string()
            );
        }
    }

    #[test]
    fn consecutive_seeds_meet_every_class() {
        let mut met: Vec<Class> = (0..25).map(Class::of).collect();
        met.sort_unstable();
        met.dedup();
        assert_eq!(met.len(), Class::ALL.len());
    }
}
