//! Whether the history in this database continues the one we were telling. Asked at every connect.
//!
//! A restore, a clone or a failover that lost its tail can hand out the same numbers again for other
//! rows; going on would skip or repeat changes without anyone noticing.

use pgrelay_relay::FailPoint;

use crate::{error::Error, ledger::Batch, session::Session, statements};

/// What is known of the history when a connection is made.
#[derive(Debug, Clone)]
struct State {
    last: Option<Batch>,
    /// The last snapshot lies in the future of this cluster.
    future: bool,
    cluster_noted: Option<String>,
    cluster: String,
}

/// The batch we told last, and what the ledger holds under its number.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    told: Batch,
    found: Option<Batch>,
}

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// From where we were, or from the last batch where we were nowhere.
    Same(Batch),
    /// Earlier positions mean nothing any more; on from this batch.
    Broken(Batch),
    /// What we have not told was recycled; on from this batch.
    Overrun(Batch),
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Go(Continuity),
    NewEpoch(&'static str),
}

/// Compares, and begins a new epoch where the history cannot be continued.
pub(crate) async fn check(session: &mut Session, told: Option<Batch>) -> Result<Continuity, Error> {
    const ACTION: &str = "compare the ledger";
    let row = &session
        .rows(ACTION, &statements::ledger::STATE, &[])
        .await?[0];
    let last = row.get::<_, Option<i64>>(1).map(|_id| Batch::from_row(row));
    let state = State {
        last,
        future: row.get(4),
        cluster_noted: row.get(5),
        cluster: row.get(6),
    };
    let remembered = match told {
        None => None,
        Some(told) => {
            let found = session
                .rows(ACTION, &statements::ledger::BY_ID, &[&told.id])
                .await?;
            Some(Remembered {
                told,
                found: found.first().map(Batch::from_row),
            })
        }
    };
    match judge(&state, remembered) {
        Verdict::Go(continuity) => Ok(continuity),
        Verdict::NewEpoch(reason) => {
            tracing::info!(reason, "a new epoch begins");
            let row = &session
                .rows(
                    "begin an epoch",
                    &statements::ledger::BEGIN_EPOCH,
                    &[&reason],
                )
                .await?[0];
            Ok(Continuity::Broken(Batch::from_row(row)))
        }
    }
}

fn judge(state: &State, remembered: Option<Remembered>) -> Verdict {
    let Some(last) = state.last else {
        return Verdict::NewEpoch("first start");
    };
    if state
        .cluster_noted
        .as_ref()
        .is_some_and(|noted| *noted != state.cluster)
    {
        return Verdict::NewEpoch("the database was copied to another cluster");
    }
    if state.future {
        return Verdict::NewEpoch("the cluster is behind the ledger");
    }
    let Some(Remembered { told, found }) = remembered else {
        return Verdict::Go(Continuity::Same(last));
    };
    if FailPoint::GoesOnAfterALostTail.is_on() || FailPoint::SkipsTheOutage.is_on() {
        return Verdict::Go(Continuity::Same(last));
    }
    match found {
        Some(batch) if batch.tag == told.tag => Verdict::Go(Continuity::Same(told)),
        // Somebody else noticed and began a new epoch already.
        _ if last.epoch > told.epoch => Verdict::Go(Continuity::Broken(last)),
        Some(_) => Verdict::NewEpoch("the ledger holds another history"),
        None if told.id > last.id => Verdict::NewEpoch("the ledger lost its tail"),
        None => Verdict::Go(Continuity::Overrun(last)),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn batch(epoch: i32, id: i64, tag: u128) -> Batch {
        Batch {
            epoch,
            id,
            tag: Uuid::from_u128(tag),
            n: 1,
        }
    }

    fn state(last: Option<Batch>) -> State {
        State {
            last,
            future: false,
            cluster_noted: Some("7".to_owned()),
            cluster: "7".to_owned(),
        }
    }

    fn remembered(told: Batch, found: Option<Batch>) -> Option<Remembered> {
        Some(Remembered { told, found })
    }

    #[test]
    fn an_untouched_history_goes_on() {
        let last = batch(1, 9, 9);
        assert_eq!(
            judge(&state(Some(last)), None),
            Verdict::Go(Continuity::Same(last))
        );
        let told = batch(1, 5, 5);
        assert_eq!(
            judge(&state(Some(last)), remembered(told, Some(told))),
            Verdict::Go(Continuity::Same(told))
        );
        let unnoted = State {
            cluster_noted: None,
            ..state(Some(last))
        };
        assert_eq!(judge(&unnoted, None), Verdict::Go(Continuity::Same(last)));
    }

    #[test]
    fn what_cannot_be_this_clusters_past_begins_an_epoch() {
        let last = batch(1, 9, 9);
        let begins =
            |state: &State, remembered| matches!(judge(state, remembered), Verdict::NewEpoch(_));
        assert!(begins(&state(None), None));
        assert!(begins(
            &State {
                future: true,
                ..state(Some(last))
            },
            None
        ));
        assert!(begins(
            &State {
                cluster: "8".to_owned(),
                ..state(Some(last))
            },
            None
        ));
        assert!(begins(
            &state(Some(last)),
            remembered(batch(1, 9, 1), Some(last))
        ));
        assert!(begins(
            &state(Some(last)),
            remembered(batch(1, 12, 1), None)
        ));
    }

    #[test]
    fn two_relays_begin_one_epoch_between_them() {
        let last = batch(2, 10, 10);
        let told = batch(1, 12, 1);
        assert_eq!(
            judge(&state(Some(last)), remembered(told, None)),
            Verdict::Go(Continuity::Broken(last))
        );
        let told = batch(1, 10, 1);
        assert_eq!(
            judge(&state(Some(last)), remembered(told, Some(last))),
            Verdict::Go(Continuity::Broken(last))
        );
    }

    #[test]
    fn a_relay_that_was_away_for_too_long_is_overrun() {
        let last = batch(1, 9_000_000, 9);
        assert_eq!(
            judge(&state(Some(last)), remembered(batch(1, 5, 5), None)),
            Verdict::Go(Continuity::Overrun(last))
        );
    }
}
