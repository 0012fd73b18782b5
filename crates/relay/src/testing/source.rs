//! What every source and every log must do, whatever they read from.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use pgrelay_protocol::{Position, RefetchReason};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    change::{Operation, Page},
    ports::{ChangeLog, ChangeSource, Feed, FeedEvent, Replay, ReplayError, Stopped},
};

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// An implementation under test, with a table to write to.
pub trait Rig: Send {
    /// A source of the rig's changes that does not run yet.
    fn source(&mut self) -> Box<dyn ChangeSource>;

    /// The log of the same changes.
    fn log(&mut self) -> Arc<dyn ChangeLog>;

    /// Writes so many rows to a published table, in several transactions, and returns when all are
    /// committed.
    fn write(&mut self, rows: usize) -> BoxFuture<'_, ()>;
}

/// Runs the suite.
///
/// # Panics
/// When the implementation breaks a promise of the ports; the message says which.
pub async fn source_conformance(rig: &mut dyn Rig) {
    let (log, source) = (rig.log(), rig.source());
    let (feed, stop) = (Arc::new(Recorder::default()), CancellationToken::new());
    let sink: Arc<dyn Feed> = Arc::<Recorder>::clone(&feed);
    let running = source.run(sink, stop.clone());
    let script = async {
        let start = feed.wait(|heard| heard.head).await;
        rig.write(100).await;
        let heard = feed
            .wait(|heard| (heard.changes() >= 100).then(|| heard.clone()))
            .await;
        heard.check(start);
        check_log(&*log, start, &heard).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(running, script) })
        .await
        .expect("a source ends when it is stopped");
    ended.expect("a source that was stopped has not failed");
}

/// One change as both sides must tell it.
type Told = (Position, u32, Operation, Option<String>, Option<String>);

fn told(page: &Page) -> impl Iterator<Item = Told> {
    page.changes.iter().map(|change| {
        let text = |row: &Option<crate::change::Row>| row.as_ref().map(|row| row.text().to_owned());
        (
            page.position(change),
            change.relation.oid,
            change.operation,
            text(&change.new),
            text(&change.old),
        )
    })
}

/// What a source has said.
#[derive(Debug, Clone, Default)]
struct Heard {
    /// The first head.
    head: Option<Position>,
    pages: Vec<Arc<Page>>,
    /// Ends of pages and heads, in order.
    ends: Vec<Position>,
    broken: bool,
}

impl Heard {
    fn changes(&self) -> usize {
        self.pages.iter().map(|page| page.changes.len()).sum()
    }

    fn check(&self, start: Position) {
        assert!(
            !self.broken,
            "a source that was not disturbed breaks nothing off"
        );
        assert!(
            self.ends.is_sorted(),
            "positions never go back: {:?}",
            self.ends
        );
        let mut last = start;
        for page in &self.pages {
            assert!(!page.changes.is_empty(), "a page holds changes");
            assert_eq!(
                (page.epoch, page.batch, page.tag),
                (page.end.epoch, page.end.batch, page.end.tag)
            );
            for change in &page.changes {
                let position = page.position(change);
                assert!(position > last, "{position:?} does not follow {last:?}");
                assert!(
                    position <= page.end,
                    "{position:?} is behind the end of its page"
                );
                last = position;
            }
        }
    }
}

/// The log tells what the source told, from wherever it is asked.
async fn check_log(log: &dyn ChangeLog, start: Position, heard: &Heard) {
    let all: Vec<Told> = heard.pages.iter().flat_map(|page| told(page)).collect();
    let end = heard.pages.last().expect("changes were heard").end;
    for bytes_max in [1, 10_000, 1 << 20] {
        assert_eq!(
            read_all(log, start, end, bytes_max).await,
            all,
            "reading {bytes_max} bytes at a time"
        );
    }
    for (index, (position, ..)) in all.iter().enumerate().step_by(7) {
        assert_eq!(
            read_all(log, *position, end, 10_000).await,
            all[index + 1..],
            "from {position:?}"
        );
    }
    let forged = Position {
        tag: !end.tag,
        ..end
    };
    let answer = log.read(forged, 10_000).await;
    let refused = matches!(answer, Err(ReplayError::Refetch(RefetchReason::Epoch)));
    assert!(
        refused,
        "a position whose tag is another batch's is refused, not {answer:?}"
    );
}

async fn read_all(
    log: &dyn ChangeLog,
    after: Position,
    end: Position,
    bytes_max: usize,
) -> Vec<Told> {
    let (mut at, mut all) = (after, Vec::new());
    while at < end {
        let Replay { pages, reached } = log
            .read(at, bytes_max)
            .await
            .expect("recent changes can be read");
        assert!(reached > at, "there is more after {at:?}");
        for page in &pages {
            all.extend(told(page).filter(|(position, ..)| *position <= end));
            assert!(
                page.end <= reached && page.end > at,
                "pages lie between what was asked and what was reached"
            );
        }
        at = reached;
    }
    all
}

/// A feed that remembers.
#[derive(Debug)]
struct Recorder {
    heard: watch::Sender<Heard>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            heard: watch::Sender::new(Heard::default()),
        }
    }
}

impl Recorder {
    /// Waits until `look` sees something.
    async fn wait<T>(&self, mut look: impl FnMut(&Heard) -> Option<T>) -> T {
        let mut heard = self.heard.subscribe();
        loop {
            if let Some(seen) = look(&heard.borrow_and_update()) {
                return seen;
            }
            let changed = tokio::time::timeout(PATIENCE, heard.changed()).await;
            changed
                .expect("the source says something in time")
                .expect("the recorder is still there");
        }
    }
}

impl Feed for Recorder {
    fn publish(&self, event: FeedEvent) -> BoxFuture<'_, Result<(), Stopped>> {
        self.heard.send_modify(|heard| match event {
            FeedEvent::Head(position) => {
                heard.head.get_or_insert(position);
                heard.ends.push(position);
            }
            FeedEvent::Page(page) => {
                heard.ends.push(page.end);
                heard.pages.push(page);
            }
            FeedEvent::Break { .. } => heard.broken = true,
            FeedEvent::CatalogChanged | FeedEvent::Messages(_) => {}
        });
        std::future::ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, page, position, table};

    /// A source in memory, one page per batch, right or wrong in one way.
    struct Memory {
        written: Arc<watch::Sender<Vec<Arc<Page>>>>,
        fault: Fault,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        None,
        Loses,
        Repeats,
        TrustsTags,
        IgnoresStop,
    }

    struct MemorySource(watch::Receiver<Vec<Arc<Page>>>, Fault);
    struct MemoryLog(watch::Receiver<Vec<Arc<Page>>>, Fault);

    impl ChangeSource for MemorySource {
        fn run(
            mut self: Box<Self>,
            feed: Arc<dyn Feed>,
            stop: CancellationToken,
        ) -> BoxFuture<'static, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
            async move {
                feed.publish(FeedEvent::Head(position(1, i64::MAX)))
                    .await
                    .unwrap();
                let mut told = 0;
                loop {
                    let pages = self.0.borrow_and_update().clone();
                    for (index, page) in pages.iter().enumerate().skip(told) {
                        if self.1 != Fault::Loses || index % 5 != 3 {
                            feed.publish(FeedEvent::Page(Arc::clone(page)))
                                .await
                                .unwrap();
                        }
                        if self.1 == Fault::Repeats && index == 3 {
                            feed.publish(FeedEvent::Page(Arc::clone(page)))
                                .await
                                .unwrap();
                        }
                    }
                    told = pages.len();
                    tokio::select! {
                        _ = self.0.changed() => {}
                        () = stop.cancelled(), if self.1 != Fault::IgnoresStop => return Ok(()),
                    }
                }
            }
            .boxed()
        }
    }

    impl ChangeLog for MemoryLog {
        fn read(
            &self,
            after: Position,
            bytes_max: usize,
        ) -> BoxFuture<'static, Result<Replay, ReplayError>> {
            let pages = self.0.borrow();
            let tag_is_known = position(after.batch, 0).tag == after.tag;
            let answer = if tag_is_known || self.1 == Fault::TrustsTags {
                let next = pages
                    .iter()
                    .filter(|page| page.end > after)
                    .take(1 + bytes_max / 5_000);
                let pages: Vec<_> = next.map(|page| rest(page, after)).collect();
                let reached = pages.last().map_or(after, |page| page.end);
                Ok(Replay {
                    pages: pages
                        .into_iter()
                        .filter(|page| !page.changes.is_empty())
                        .collect(),
                    reached,
                })
            } else {
                Err(ReplayError::Refetch(RefetchReason::Epoch))
            };
            std::future::ready(answer).boxed()
        }
    }

    fn rest(page: &Page, after: Position) -> Arc<Page> {
        let changes = page
            .changes
            .iter()
            .filter(|change| page.position(change) > after)
            .cloned();
        Arc::new(Page::new(changes.collect(), page.end))
    }

    impl Rig for Memory {
        fn source(&mut self) -> Box<dyn ChangeSource> {
            Box::new(MemorySource(self.written.subscribe(), self.fault))
        }

        fn log(&mut self) -> Arc<dyn ChangeLog> {
            Arc::new(MemoryLog(self.written.subscribe(), self.fault))
        }

        fn write(&mut self, rows: usize) -> BoxFuture<'_, ()> {
            let relation = Arc::new(table(1, "t", "id:int8:pk"));
            let written = Arc::clone(&self.written);
            async move {
                for (batch, first) in (2..).zip((0..rows).step_by(3)) {
                    let ids = first..rows.min(first + 3);
                    let changes = (1..)
                        .zip(ids)
                        .map(|(seq, id)| change(seq, &relation, &format!(r#"I {{"id":{id}}}"#)));
                    let page = page(batch, changes.collect());
                    written.send_modify(|pages| pages.push(page));
                }
            }
            .boxed()
        }
    }

    async fn run(fault: Fault) {
        let mut rig = Memory {
            written: Arc::new(watch::Sender::new(Vec::new())),
            fault,
        };
        source_conformance(&mut rig).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_source_passes() {
        run(Fault::None).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "the source says something in time")]
    async fn a_source_that_loses_fails() {
        run(Fault::Loses).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "does not follow")]
    async fn a_source_that_repeats_itself_fails() {
        run(Fault::Repeats).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "whose tag is another batch's")]
    async fn a_log_that_does_not_look_at_tags_fails() {
        run(Fault::TrustsTags).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "a source ends when it is stopped")]
    async fn a_source_that_does_not_stop_fails() {
        run(Fault::IgnoresStop).await;
    }
}
