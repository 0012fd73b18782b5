//! Defects put into the shipped SQL on purpose, each of which the judge must find.

use pgrelay_test_support::PostgresServer;

use crate::crash::survive;
use crate::restore::restore;
use crate::run::{Load, Telling, Verdict, run_telling};
use crate::schema::{Edit, Schema};
use crate::violation::Kind;

/// A defect, where it shows and as what.
#[derive(Debug)]
pub struct Mutant {
    /// What is wrong with it.
    pub name: &'static str,
    edits: &'static [Edit],
    scenario: Scenario,
    /// One of these must be found.
    expected: &'static [Kind],
}

#[derive(Debug, Clone, Copy)]
enum Scenario {
    Load(Telling),
    Crash,
    Restore,
}

/// The servers that the scenarios use.
#[derive(Debug)]
pub struct Servers {
    /// For loads.
    pub first: PostgresServer,
    /// Its transaction ids stay behind those of the first.
    pub second: PostgresServer,
    /// Crashes, and keeps its log in memory for long.
    pub fragile: PostgresServer,
}

impl Mutant {
    /// Runs the scenario in which the defect shows.
    pub async fn run(&self, servers: &mut Servers, load: Load, seed: u64) -> Verdict {
        let mut schema = Schema::shipped();
        for edit in self.edits {
            schema = schema.edited(edit);
        }
        match self.scenario {
            Scenario::Load(telling) => {
                run_telling(&servers.first.url(), &schema, load, seed, telling).await
            }
            Scenario::Crash => survive(&mut servers.fragile, &schema, load, seed).await,
            Scenario::Restore => {
                restore(&servers.first, &servers.second, &schema, load, seed).await
            }
        }
    }

    /// Whether it broke the promise that it is about.
    pub fn is_caught(&self, verdict: &Verdict) -> bool {
        let mut kinds = verdict.violations.iter().map(|violation| violation.kind);
        kinds.any(|kind| self.expected.contains(&kind))
    }
}

const fn edit(statement: &'static str, from: &'static str, to: &'static str) -> Edit {
    Edit {
        statement,
        from,
        to,
        times: 1,
    }
}

const STEP: &str = "function pgrelay.step(";
const READ: &str = "function pgrelay.read(";
const INVERSIONS: &str = "function pgrelay.inversions(";
const RECYCLE: &str = "function pgrelay.recycle(";
const MAINTAIN: &str = "function pgrelay.maintain(";

/// What STEP counts.
const FRESH: &str = "from pgrelay.log g
       where g.xid >= pg_snapshot_xmax(last.snap)
          or g.xid = any (array(select pg_snapshot_xip(last.snap)))";

const ALWAYS_DENSE: Edit = edit(
    READ,
    "if this.max_seq - this.min_seq < 4 * this.n + 10000 then",
    "if true then",
);

const AFTER_COMMIT: Scenario = Scenario::Load(Telling::AfterCommit);

/// All of them.
pub const MUTANTS: [Mutant; 18] = [
    Mutant {
        name: "goes on after the highest seq seen",
        edits: &[
            edit(
                STEP,
                FRESH,
                "from pgrelay.log g where g.seq > coalesce((select max(l.max_seq) from pgrelay.ledger l), 0)",
            ),
            edit(
                READ,
                "(g.xid >= pg_snapshot_xmax(prev.snap) or g.xid = any (prev_running))",
                "g.seq > coalesce((select max(l.max_seq) from pgrelay.ledger l where l.id < batch), 0)",
            ),
            ALWAYS_DENSE,
        ],
        scenario: AFTER_COMMIT,
        expected: &[Kind::Lost],
    },
    Mutant {
        name: "orders by transaction id, then seq",
        edits: &[
            edit(
                READ,
                "order by w.seq offset 0",
                "order by w.xid, w.seq offset 0",
            ),
            edit(READ, "order by g.seq\n", "order by g.xid, g.seq\n"),
        ],
        scenario: AFTER_COMMIT,
        expected: &[Kind::OutOfOrder],
    },
    Mutant {
        name: "forgets the transactions that ran at the last step",
        edits: &[
            edit(
                STEP,
                "\n          or g.xid = any (array(select pg_snapshot_xip(last.snap)))",
                "",
            ),
            edit(
                READ,
                "prev_running := array(select pg_snapshot_xip(prev.snap));",
                "prev_running := '{}';",
            ),
        ],
        scenario: AFTER_COMMIT,
        expected: &[Kind::Lost],
    },
    Mutant {
        name: "counts without the transactions that ran at the last step",
        edits: &[edit(
            STEP,
            "\n          or g.xid = any (array(select pg_snapshot_xip(last.snap)))",
            "",
        )],
        scenario: AFTER_COMMIT,
        expected: &[Kind::Miscounted],
    },
    Mutant {
        name: "reads rows of later batches",
        edits: &[Edit {
            times: 2,
            ..edit(READ, "and pg_visible_in_snapshot(g.xid, this.snap)", "")
        }],
        scenario: AFTER_COMMIT,
        expected: &[Kind::Miscounted],
    },
    Mutant {
        name: "hands out seq in portions",
        edits: &[edit("sequence pgrelay.log_seq", "cache 1", "cache 32")],
        scenario: AFTER_COMMIT,
        expected: &[Kind::OutOfOrder],
    },
    Mutant {
        name: "takes at most ten rows a step and leaves the rest",
        edits: &[
            edit(
                STEP,
                FRESH,
                "from (select g.seq from pgrelay.log g
                        where g.xid >= pg_snapshot_xmax(last.snap)
                           or g.xid = any (array(select pg_snapshot_xip(last.snap)))
                        order by g.seq limit 10) g",
            ),
            ALWAYS_DENSE,
        ],
        scenario: AFTER_COMMIT,
        expected: &[Kind::Lost],
    },
    Mutant {
        name: "has no primary key on the ledger",
        edits: &[edit(
            "table pgrelay.ledger (",
            "id      bigint      not null primary key",
            "id      bigint      not null",
        )],
        scenario: AFTER_COMMIT,
        expected: &[Kind::Numbering],
    },
    Mutant {
        name: "tells before it commits",
        edits: &[],
        scenario: Scenario::Load(Telling::BeforeCommit),
        expected: &[Kind::Twice],
    },
    Mutant {
        name: "commits steps without waiting for the disk",
        edits: &[edit(
            STEP,
            "perform set_config('synchronous_commit', 'on', true);",
            "null;",
        )],
        scenario: Scenario::Crash,
        expected: &[Kind::Gone],
    },
    Mutant {
        name: "leaves inversions as they are",
        edits: &[edit(
            INVERSIONS,
            "where l.seq in (select u.seq from upset u)",
            "where false",
        )],
        scenario: AFTER_COMMIT,
        expected: &[Kind::OutOfOrder],
    },
    Mutant {
        name: "links only the two ends of an inversion",
        edits: &[edit(
            INVERSIONS,
            "where l.seq in (select u.seq from upset u)",
            "where l.seq < l.after_seq",
        )],
        scenario: AFTER_COMMIT,
        expected: &[Kind::OutOfOrder],
    },
    Mutant {
        name: "links rows across a TRUNCATE",
        edits: &[edit(INVERSIONS, "h.op = 'H' and", "false and")],
        scenario: AFTER_COMMIT,
        expected: &[Kind::OutOfOrder],
    },
    Mutant {
        name: "recycles rows that no batch has",
        edits: &[
            edit(
                RECYCLE,
                "if pgrelay.reaches_beyond(leaf, floor_max) then",
                "if false then",
            ),
            edit(
                MAINTAIN,
                "and not pgrelay.reaches_beyond(s.leaf, floor_max)",
                "",
            ),
        ],
        scenario: AFTER_COMMIT,
        expected: &[Kind::Lost],
    },
    Mutant {
        name: "recycles without raising the floor",
        edits: &[edit(
            MAINTAIN,
            "update pgrelay.meta set value = recycled::text where key = 'floor' and value::bigint < recycled;",
            "",
        )],
        scenario: AFTER_COMMIT,
        expected: &[Kind::Rewritten],
    },
    Mutant {
        name: "recycles what retention keeps",
        edits: &[edit(
            MAINTAIN,
            "case when total > bytes_max then last_id",
            "case when true then last_id",
        )],
        scenario: AFTER_COMMIT,
        expected: &[Kind::TooShort],
    },
    Mutant {
        name: "sends writers to a segment that they do not see yet",
        edits: &[edit(
            "function pgrelay.spare_segment(",
            "m.key = 'segment_pending' and",
            "false and",
        )],
        scenario: AFTER_COMMIT,
        expected: &[Kind::WriterFailed],
    },
    Mutant {
        name: "begins an epoch with the rows of another cluster",
        edits: &[edit(
            "function pgrelay.begin_epoch(",
            "delete from pgrelay.log g where not pg_visible_in_snapshot(g.xid, pg_current_snapshot());",
            "",
        )],
        scenario: Scenario::Restore,
        expected: &[Kind::Phantom, Kind::Endless],
    },
];
