use super::*;

const MS: Duration = Duration::from_millis(1);

fn pace() -> Pace {
    Pace {
        busy: 2 * MS,
        refused_max: 10 * MS,
        safety: 250 * MS,
        unarmed: 20 * MS,
        arm: true,
    }
}

/// A doorbell with a clock of its own. `log` answers STEPs: rows visible at this moment.
struct Bench {
    bell: Doorbell,
    now: Instant,
}

impl Bench {
    fn new(pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            bell: Doorbell::new(pace, now),
            now,
        }
    }

    fn armed() -> Self {
        let mut bench = Self::new(pace());
        assert_eq!(bench.step(0), Key::Leave);
        assert_eq!(bench.step(0), Key::Take);
        assert!(bench.bell.is_armed());
        bench
    }

    /// Sleeps until the next STEP and answers it; K is free.
    fn step(&mut self, rows: u64) -> Key {
        self.step_with(rows, true)
    }

    fn step_with(&mut self, rows: u64, k_is_free: bool) -> Key {
        loop {
            match self.bell.next(self.now) {
                Action::Sleep(until) => {
                    assert!(until > self.now, "a sleep that does not move the clock");
                    self.now = until;
                    self.bell.explain(self.now);
                }
                Action::Step(key) => {
                    let taken = key == Key::Take && k_is_free;
                    let step = Stepped {
                        started: self.now,
                        key,
                        taken,
                        rows,
                        holes_only: false,
                    };
                    self.bell.stepped(self.now, step);
                    return key;
                }
            }
        }
    }
}

#[test]
fn quiet_leads_to_armed_after_one_empty_step_and_one_last_step_under_the_key() {
    let mut bench = Bench::new(pace());
    let start = bench.now;
    assert_eq!(bench.step(3), Key::Leave);
    assert_eq!(bench.step(0), Key::Leave);
    assert_eq!(
        bench.step(5),
        Key::Take,
        "the last step happens with K, whatever it finds"
    );
    assert!(bench.bell.is_armed());
    assert!(bench.now - start <= 2 * MS);
}

#[test]
fn a_ring_releases_the_key_before_the_step() {
    let mut bench = Bench::armed();
    bench.now += 100 * MS;
    bench.bell.rang();
    assert_eq!(bench.bell.next(bench.now), Action::Step(Key::Release));
    assert_eq!(bench.step(1), Key::Release);
    assert!(!bench.bell.is_armed());
    assert_eq!(bench.step(0), Key::Leave);
    assert_eq!(bench.step(0), Key::Take);
    assert!(bench.bell.is_armed());
}

#[test]
fn rings_while_busy_are_echoes() {
    let mut bench = Bench::new(pace());
    bench.step(1);
    let before = bench.bell.next(bench.now);
    bench.bell.rang();
    assert_eq!(bench.bell.next(bench.now), before);
}

#[test]
fn above_a_hundred_commits_a_second_it_polls_and_leaves_the_key_alone() {
    let mut bench = Bench::new(pace());
    for _ in 0..40 {
        assert_eq!(bench.step(1), Key::Leave);
    }
    let started = bench.now;
    let mut polls = 0;
    while bench.step(0) == Key::Leave {
        polls += 1;
    }
    let quiet_after = bench.now - started;
    assert!(
        polls > 20,
        "one empty step does not end a busy time: {polls}"
    );
    assert!(quiet_after < 400 * MS, "but silence does: {quiet_after:?}");
}

#[test]
fn at_fifty_commits_a_second_it_arms_after_every_one() {
    let mut bench = Bench::armed();
    for _ in 0..200 {
        bench.now += 20 * MS;
        bench.bell.rang();
        assert_eq!(bench.step(1), Key::Release);
        assert_eq!(bench.step(0), Key::Leave);
        assert_eq!(bench.step(0), Key::Take);
    }
}

#[test]
fn a_refused_key_is_asked_for_again_at_most_ten_ms_apart_and_every_try_is_a_step() {
    let mut bench = Bench::new(pace());
    bench.step(0);
    let mut last = bench.now;
    let mut gaps = Vec::new();
    for _ in 0..8 {
        assert_eq!(bench.step_with(0, false), Key::Take);
        gaps.push((bench.now - last).as_millis());
        last = bench.now;
    }
    assert_eq!(gaps, [0, 2, 4, 8, 10, 10, 10, 10]);
    assert_eq!(bench.step_with(0, true), Key::Take);
    assert!(bench.bell.is_armed());
}

#[test]
fn refused_under_load_it_goes_back_to_polling() {
    let mut bench = Bench::new(pace());
    bench.step(0);
    for _ in 0..60 {
        bench.step_with(1, false);
    }
    assert_eq!(bench.step_with(1, false), Key::Leave);
}

#[test]
fn armed_it_still_looks_every_quarter_second_without_giving_up_the_key() {
    let mut bench = Bench::armed();
    let start = bench.now;
    for n in 1..=4 {
        assert_eq!(bench.step(0), Key::Leave);
        assert_eq!(bench.now - start, 250 * MS * n);
        assert!(bench.bell.is_armed());
    }
}

#[test]
fn a_find_whose_bell_comes_within_fifty_ms_is_no_lost_wake_up() {
    let mut bench = Bench::armed();
    assert_eq!(bench.step(2), Key::Leave);
    assert_eq!(bench.bell.explain(bench.now), None);
    bench.now += 49 * MS;
    assert_eq!(bench.bell.explain(bench.now), None);
    bench.bell.rang();
    assert_eq!(bench.bell.explain(bench.now), Some(Find::BellInTheAir));
    assert_eq!(bench.bell.explain(bench.now), None, "counted once");
    assert_eq!(bench.bell.next(bench.now), Action::Step(Key::Release));
}

#[test]
fn a_find_that_stays_unrung_is_a_lost_wake_up() {
    let mut bench = Bench::armed();
    bench.step(2);
    let found_at = bench.now;
    assert_eq!(
        bench.bell.next(bench.now),
        Action::Sleep(found_at + RING_GRACE)
    );
    bench.now = found_at + RING_GRACE;
    assert_eq!(bench.bell.explain(bench.now), Some(Find::LostWakeUp));
    assert_eq!(bench.bell.explain(bench.now), None);
    assert!(bench.bell.is_armed());
}

#[test]
fn our_own_hole_marks_are_told_apart() {
    let mut bench = Bench::armed();
    bench.now += 250 * MS;
    let step = Stepped {
        started: bench.now,
        key: Key::Leave,
        taken: false,
        rows: 1,
        holes_only: true,
    };
    bench.bell.stepped(bench.now, step);
    assert_eq!(bench.bell.explain(bench.now), Some(Find::Hole));
}

#[test]
fn where_transactions_are_prepared_it_polls_every_twenty_ms_and_never_arms() {
    let mut bench = Bench::new(Pace {
        arm: false,
        ..pace()
    });
    bench.step(0);
    let start = bench.now;
    for n in 1..=10 {
        assert_eq!(bench.step(0), Key::Leave);
        assert_eq!(bench.now - start, 20 * MS * n);
    }
    bench.step(1);
    let start = bench.now;
    bench.step(1);
    assert_eq!(bench.now - start, 2 * MS, "but follows a burst closely");
}

#[test]
fn looks_that_are_hard_work_for_nothing_become_rarer() {
    let mut bench = Bench::new(pace());
    bench.step(0);
    let started = bench.now;
    let hard = |bench: &mut Bench, took: Duration, rows| {
        let started = bench.now;
        bench.now += took;
        let step = Stepped {
            started,
            key: Key::Take,
            taken: false,
            rows,
            holes_only: false,
        };
        bench.bell.stepped(bench.now, step);
        bench.bell.next(bench.now)
    };
    assert_eq!(
        hard(&mut bench, 30 * MS, 0),
        Action::Sleep(started + 90 * MS)
    );
    let now = bench.now + 60 * MS;
    bench.now = now;
    assert_eq!(
        hard(&mut bench, 1000 * MS, 0),
        Action::Sleep(now + 1250 * MS),
        "but never rarer than the safety poll"
    );
    bench.now += 250 * MS;
    assert_eq!(
        hard(&mut bench, 30 * MS, 9),
        Action::Step(Key::Take),
        "what was worth it is done again at once"
    );
}
