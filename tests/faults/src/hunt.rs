//! Builds that are broken on purpose, each of which a few runs must find.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgrelay_relay::FailPoint;
use pgrelay_test_support::PostgresServer;
use tokio::runtime;

use crate::run::run;
use crate::schedule::{Class, Schedule};
use crate::tour::new_server;
use crate::violation::Kind;

/// A defect, and what it shows as where.
#[derive(Debug)]
pub struct Defect {
    /// What is broken.
    pub point: FailPoint,
    class: Class,
    /// One of these must be found.
    expected: &'static [Kind],
}

const fn defect(point: FailPoint, class: Class, expected: &'static [Kind]) -> Defect {
    Defect {
        point,
        class,
        expected,
    }
}

/// All of them.
pub const DEFECTS: [Defect; 18] = [
    defect(
        FailPoint::SkipsTheOutage,
        Class::BackendsEnded,
        &[Kind::Lost],
    ),
    defect(
        FailPoint::GoesOnAfterALostTail,
        Class::FailoverLosingTail,
        &[Kind::Phantom],
    ),
    defect(
        FailPoint::TakesAnyTag,
        Class::FailoverLosingTail,
        &[Kind::Phantom],
    ),
    defect(
        FailPoint::IgnoresTheFloor,
        Class::RetentionRacing,
        &[Kind::Lost],
    ),
    defect(
        FailPoint::ForgetsHoles,
        Class::SchemaChanged,
        &[Kind::Diverged, Kind::Stalled],
    ),
    defect(
        FailPoint::StopsAfterAnOutage,
        Class::BackendsEnded,
        &[Kind::Stalled],
    ),
    defect(
        FailPoint::SleepsThroughBells,
        Class::ClientLinkCut,
        &[Kind::Stalled],
    ),
    defect(
        FailPoint::KeepsQuietAboutBreaks,
        Class::CopyRestored,
        &[Kind::Phantom],
    ),
    defect(
        FailPoint::DropsOnOverflow,
        Class::ReadersSlow,
        &[Kind::Lost],
    ),
    defect(
        FailPoint::GoesLiveTooEarly,
        Class::ClientLinkCut,
        &[Kind::Lost],
    ),
    defect(
        FailPoint::RepeatsInReplays,
        Class::ClientLinkCut,
        &[Kind::Twice],
    ),
    defect(
        FailPoint::LeadsWithCursors,
        Class::ClientLinkCut,
        &[Kind::Lost],
    ),
    defect(
        FailPoint::LetsTokensLive,
        Class::TokensExpiring,
        &[Kind::Unauthorised],
    ),
    defect(
        FailPoint::TakesEveryRow,
        Class::RelayKilled,
        &[Kind::Unwanted],
    ),
    defect(
        FailPoint::ShowsHiddenTables,
        Class::ValuesHostile,
        &[Kind::Unauthorised],
    ),
    defect(
        FailPoint::OvertakesHeldChanges,
        Class::SavepointsRolledBack,
        &[Kind::Reordered],
    ),
    defect(FailPoint::SendsTwice, Class::ClientLinkCut, &[Kind::Twice]),
    defect(FailPoint::LogsTokens, Class::RelayKilled, &[Kind::Secret]),
];

/// Looks for every defect with up to `runs_max` runs, `jobs` at a time. Those that were not found, and what was found instead;
/// `tell` hears about each.
///
/// # Panics
/// When a thread cannot be started.
pub fn hunt(runs_max: u64, jobs: usize, tell: impl Fn(&str) + Sync) -> Vec<(FailPoint, Vec<Kind>)> {
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, 64) {
            scope.spawn(|| {
                let runtime = runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let mut server = None;
                    while let Some(defect) = DEFECTS.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let (found, runs) = defect.look_for(&mut server, runs_max).await;
                        let is_found = defect.is_among(&found);
                        tell(&format!(
                            "{:?}: found {is_found}, {runs} runs, {found:?}",
                            defect.point
                        ));
                        if !is_found {
                            missed.lock().unwrap().push((defect.point, found));
                        }
                    }
                });
            });
        }
    });
    missed.into_inner().unwrap()
}

impl Defect {
    fn is_among(&self, found: &[Kind]) -> bool {
        found.iter().any(|kind| self.expected.contains(kind))
    }

    /// What the run in which it was found has found, or the last one; and how many there were.
    async fn look_for(
        &self,
        server: &mut Option<PostgresServer>,
        runs_max: u64,
    ) -> (Vec<Kind>, u64) {
        let name = format!("{:?}", self.point);
        for seed in 1..=runs_max {
            let mut schedule = Schedule::of_class(seed, self.class);
            schedule.shorten();
            let here = match server.take() {
                Some(server) if !self.class.spends_servers() => server,
                other => {
                    *server = other;
                    new_server(false).await
                }
            };
            let (report, left) = run(&schedule, here, Some(&name)).await;
            if left.is_some() {
                *server = left;
            }
            let mut kinds: Vec<Kind> = report.violations.iter().map(|it| it.kind).collect();
            kinds.sort_unstable();
            kinds.dedup();
            if self.is_among(&kinds) || seed == runs_max {
                return (kinds, seed);
            }
        }
        (Vec::new(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fail_point_is_looked_for() {
        for point in FailPoint::ALL {
            assert!(
                DEFECTS.iter().any(|defect| defect.point == point),
                "{point:?}"
            );
        }
    }
}
