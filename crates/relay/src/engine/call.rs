//! Questions of the engine to its ports, and their answers.
//!
//! The engine itself never waits: whoever runs it takes the calls, asks the ports and brings the
//! answers back, in any order.

use std::sync::Arc;

use pgrelay_protocol::{BindingSpec, Position, Topic};
use uuid::Uuid;

use super::{ClientKey, hold::EvaluationKey, look::RoundKey, scan::ScanKey};
use crate::{
    change::Page,
    filter::{FilterTest, ResolvedBinding},
    ports::{
        BindingError, ChannelError, ChannelRights, Claims, EvaluateError, Replay, ReplayError,
        SessionPlace, SessionUnavailable, StoredMessage,
    },
    session::{Incarnation, ReplayWish},
    view::{Glance, Sight, Viewer},
};

/// A question.
#[derive(Debug)]
pub enum Call {
    /// May these claims have this binding?
    Resolve {
        /// The binding.
        spec: Arc<BindingSpec>,
        /// Who asks.
        claims: Arc<Claims>,
    },
    /// Which of these changes pass these filters?
    Evaluate {
        /// Comes back with the answer.
        key: EvaluationKey,
        /// Holds the changes.
        page: Arc<Page>,
        /// Places in the page.
        changes: Vec<u32>,
        /// All must hold.
        tests: Arc<[FilterTest]>,
    },
    /// What may these claims do on this private topic?
    Channel {
        /// The topic.
        topic: Topic,
        /// Who asks.
        claims: Arc<Claims>,
    },
    /// Which messages of this topic are stored?
    Messages {
        /// Who asks.
        client: ClientKey,
        /// For which channel.
        incarnation: Incarnation,
        /// The topic.
        topic: Topic,
        /// Which of them.
        wish: ReplayWish,
    },
    /// Where did this session stand?
    LoadSession {
        /// Who asks.
        client: ClientKey,
        /// Its session.
        session: Uuid,
    },
    /// Remember where a session stands. There is no answer.
    SaveSession {
        /// Which session.
        session: Uuid,
        /// Where.
        place: SessionPlace,
    },
    /// Forget where a session stood. There is no answer.
    ForgetSession {
        /// Which session.
        session: Uuid,
        /// On which topic.
        topic: Topic,
    },
    /// What may these viewers see of these changes?
    Look {
        /// Comes back with the answer.
        key: RoundKey,
        /// The changes.
        changes: Arc<[Glance]>,
        /// Who looks, at which of them.
        viewers: Vec<Viewer>,
    },
    /// What came after this position?
    Read {
        /// Comes back with the answer.
        key: ScanKey,
        /// The position.
        after: Position,
        /// About how much to return.
        bytes_max: usize,
    },
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// To [`Call::Resolve`].
    Resolved {
        /// Of the call.
        spec: Arc<BindingSpec>,
        /// Of the call.
        claims: Arc<Claims>,
        /// What the authorizer said.
        outcome: Result<ResolvedBinding, BindingError>,
    },
    /// To [`Call::Evaluate`].
    Evaluated {
        /// Of the call.
        key: EvaluationKey,
        /// What the authorizer said.
        outcome: Result<Vec<bool>, EvaluateError>,
    },
    /// To [`Call::Channel`].
    Channel {
        /// Of the call.
        topic: Topic,
        /// Of the call.
        claims: Arc<Claims>,
        /// What the authorizer said.
        outcome: Result<ChannelRights, ChannelError>,
    },
    /// To [`Call::Messages`].
    Messages {
        /// Of the call.
        client: ClientKey,
        /// Of the call.
        incarnation: Incarnation,
        /// What the log said.
        outcome: Result<Vec<StoredMessage>, ReplayError>,
    },
    /// To [`Call::LoadSession`].
    SessionLoaded {
        /// Of the call.
        client: ClientKey,
        /// What the store said.
        outcome: Result<Vec<SessionPlace>, SessionUnavailable>,
    },
    /// To [`Call::Look`].
    Looked {
        /// Of the call.
        key: RoundKey,
        /// What the authorizer said, one for each viewer.
        outcome: Result<Vec<Result<Sight, EvaluateError>>, EvaluateError>,
    },
    /// To [`Call::Read`].
    Read {
        /// Of the call.
        key: ScanKey,
        /// What the log said.
        outcome: Result<Replay, ReplayError>,
    },
}
