//! A database with the schema, a source that follows it, and a feed that writes down what it is told.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use pgrelay_capture::{Arm, Config, Health, Log, Metrics, Resolver, migrate, open, parse_url};
use pgrelay_protocol::{BindingSpec, EventKind, NamePattern, Position};
use pgrelay_relay::{
    change::{Change, Operation, Page},
    ports::{ChangeLog, ChangeSource, Claims, Feed, FeedEvent, Replay, ReplayError, Stopped},
};
use pgrelay_test_support::{DatabaseUrl, Session, TestDatabase, wait_for};
use prometheus_client::registry::Registry;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// What the source told, in order.
#[derive(Debug)]
pub(crate) struct Recorder {
    events: Mutex<Vec<FeedEvent>>,
    /// One permit per page that may be handed over; closed when there is no limit.
    gate: Semaphore,
}

impl Recorder {
    fn open() -> Self {
        let gate = Semaphore::new(0);
        gate.close();
        Self {
            events: Mutex::default(),
            gate,
        }
    }

    fn gated() -> Self {
        Self {
            events: Mutex::default(),
            gate: Semaphore::new(0),
        }
    }

    /// Lets `n` more pages through a gate.
    pub(crate) fn admit(&self, n: usize) {
        self.gate.add_permits(n);
    }

    pub(crate) fn events(&self) -> Vec<FeedEvent> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn pages(&self) -> Vec<Arc<Page>> {
        let page = |event| match event {
            FeedEvent::Page(page) => Some(page),
            FeedEvent::Head(_)
            | FeedEvent::Break { .. }
            | FeedEvent::CatalogChanged
            | FeedEvent::Messages(_) => None,
        };
        self.events().into_iter().filter_map(page).collect()
    }
}

impl Feed for Recorder {
    fn publish(&self, event: FeedEvent) -> BoxFuture<'_, Result<(), Stopped>> {
        async move {
            if let FeedEvent::Page(_) = event
                && let Ok(permit) = self.gate.acquire().await
            {
                permit.forget();
            }
            self.events.lock().unwrap().push(event);
            Ok(())
        }
        .boxed()
    }
}

/// One change in a form that tests compare: operation, table, new image, old image.
pub(crate) fn told(change: &Change) -> String {
    let letter = match change.operation {
        Operation::Insert => "I",
        Operation::Update => "U",
        Operation::Delete => "D",
        Operation::Hole => "H",
    };
    let mut text = format!("{letter} {}", change.relation.table);
    for image in [&change.new, &change.old].into_iter().flatten() {
        text.push(' ');
        text.push_str(image.text());
    }
    text
}

/// A binding for `table` of schema public, or `schema.table`.
pub(crate) fn spec(table: &str, filter: &str) -> BindingSpec {
    let (schema, table) = table.split_once('.').unwrap_or(("public", table));
    BindingSpec {
        event: EventKind::All,
        schema: NamePattern::parse(schema),
        table: NamePattern::parse(table),
        filters: pgrelay_protocol::filter::parse(filter).unwrap(),
        select: None,
    }
}

/// Somebody with this role.
pub(crate) fn claims(role: &str) -> Arc<Claims> {
    Arc::new(Claims {
        role: role.into(),
        subject: None,
        expires_at: None,
        json: "{}".into(),
    })
}

/// Settings for a test's database.
pub(crate) fn config(url: &DatabaseUrl) -> Config {
    let endpoint = parse_url(&url.to_string()).unwrap();
    Config {
        database: endpoint.clone(),
        direct: endpoint,
        publication: "supabase_realtime".to_owned(),
        ddl: true,
        log_retention: Duration::from_secs(3600),
        log_bytes_max: 1 << 30,
        session_retention: Duration::from_secs(600),
        message_bytes_max: 3_000_500,
        pool_size: 4,
        safety_poll: Duration::from_millis(250),
        poll_busy: Duration::from_millis(2),
        arm: Arm::Auto,
        evaluate_timeout: Duration::from_secs(5),
    }
}

/// A source under way.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) feed: Arc<Recorder>,
    pub(crate) log: Log,
    pub(crate) health: Health,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Following {
    pub(crate) fn start(config: Config) -> Self {
        Self::start_with(config, Recorder::open())
    }

    pub(crate) fn start_gated(config: Config) -> Self {
        Self::start_with(config, Recorder::gated())
    }

    fn start_with(config: Config, recorder: Recorder) -> Self {
        let metrics = Arc::new(Metrics::default());
        let parts = open(config, Arc::clone(&metrics));
        let feed = Arc::new(recorder);
        let stop = CancellationToken::new();
        let run = Box::new(parts.source).run(Arc::clone(&feed) as Arc<dyn Feed>, stop.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "tests have no Tasks; dropping this value ends the task"
        )]
        let task = tokio::spawn(async move { run.await.unwrap() });
        Self {
            feed,
            log: parts.log,
            health: parts.health,
            metrics,
            stop,
            task,
        }
    }

    /// Waits until the source follows the log.
    pub(crate) async fn live(self) -> Self {
        wait_for("the source to be live", async || {
            self.health.is_live().then_some(())
        })
        .await;
        self
    }

    /// Waits for `n` changes in all, and returns them.
    pub(crate) async fn changes(&self, n: usize) -> Vec<String> {
        wait_for(&format!("{n} changes"), async || {
            let told: Vec<_> = self
                .feed
                .pages()
                .iter()
                .flat_map(|page| page.changes.iter().map(told))
                .collect();
            (told.len() >= n).then_some(told)
        })
        .await
    }

    /// Waits until an event passes `test`.
    pub(crate) async fn event<T>(&self, what: &str, test: impl Fn(&FeedEvent) -> Option<T>) -> T {
        wait_for(what, async || self.feed.events().iter().find_map(&test)).await
    }

    /// A figure, by its name without the prefix.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("pgrelay_capture_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
            .parse()
            .unwrap()
    }

    /// Waits until the relay sleeps.
    pub(crate) async fn armed(&self) {
        wait_for("the doorbell to be armed", async || {
            (self.metric("armed") == 1).then_some(())
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Every change after `after`, in one call after another.
    pub(crate) async fn replay(
        &self,
        after: Position,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Page>>, ReplayError> {
        let mut pages = Vec::new();
        let mut reached = after;
        loop {
            let Replay {
                pages: more,
                reached: further,
            } = self.log.read(reached, bytes_max).await?;
            if more.is_empty() && further == reached {
                return Ok(pages);
            }
            assert!(further > reached, "{further:?} after {reached:?}");
            pages.extend(more);
            reached = further;
        }
    }
}

/// A migrated database with a table `t (id int primary key, v text)` that is published.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) database: TestDatabase,
    pub(crate) sql: Session,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create().await;
        migrate(&config(database.url())).await.unwrap();
        let sql = database.connect().await;
        let rig = Self { database, sql };
        rig.table("create table t (id int primary key, v text)", "t")
            .await;
        rig
    }

    /// Creates and publishes a table.
    pub(crate) async fn table(&self, create: &str, name: &str) {
        self.sql.run(create).await;
        self.sql
            .run(&format!("select pgrelay.enable('{name}')"))
            .await;
    }

    /// Answers for this database, without a source.
    pub(crate) fn resolver(&self) -> Resolver {
        open(self.config(), Arc::new(Metrics::default())).resolver
    }

    /// Reads the past of this database, without a source.
    pub(crate) fn log(&self) -> Log {
        open(self.config(), Arc::new(Metrics::default())).log
    }

    pub(crate) fn config(&self) -> Config {
        config(self.database.url())
    }

    /// A source that follows this database.
    pub(crate) async fn follow(&self) -> Following {
        Following::start(self.config()).live().await
    }
}
