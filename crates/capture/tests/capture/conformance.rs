//! The suite of the relay that every source and its log must pass.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use pgrelay_capture::{Log, Parts, Source, open};
use pgrelay_relay::{
    ports::{ChangeLog, ChangeSource},
    testing::{Rig, source_conformance},
};

struct Captured {
    rig: crate::rig::Rig,
    source: Option<Source>,
    log: Log,
    written: usize,
}

impl Rig for Captured {
    fn source(&mut self) -> Box<dyn ChangeSource> {
        Box::new(self.source.take().expect("the suite runs one source"))
    }

    fn log(&mut self) -> Arc<dyn ChangeLog> {
        Arc::new(self.log.clone())
    }

    fn write(&mut self, rows: usize) -> BoxFuture<'_, ()> {
        async move {
            let last = self.written + rows;
            while self.written < last {
                let to = last.min(self.written + 7);
                let first = self.written + 1;
                self.rig
                    .sql
                    .run(&format!(
                        "insert into t select generate_series({first}, {to})"
                    ))
                    .await;
                self.written = to;
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn source_and_log_keep_the_promises_of_their_ports() {
    let rig = crate::rig::Rig::new().await;
    let Parts { source, log, .. } = open(rig.config(), Arc::default());
    source_conformance(&mut Captured {
        rig,
        source: Some(source),
        log,
        written: 0,
    })
    .await;
}
