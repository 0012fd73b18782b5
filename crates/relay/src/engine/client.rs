//! Clients, and the subscriptions they have.

use std::{sync::Arc, time::Duration};

use pgrelay_protocol::{
    BindingSpec, ClientFrame, FrameKind, JoinBinding, Ref, RefetchReason, Since, SystemMessage,
    Topic, Vsn,
};
use smallvec::SmallVec;

use super::{
    Engine, Turn,
    call::Call,
    keep::Keeping,
    rooms::MemberKey,
    subscription::{Binding, BindingKey, Start, Subscription, SubscriptionKey, Voice},
    timer::Timer,
};
use crate::{
    FailPoint,
    arena::Key,
    mail::PresenceWish,
    outlet::{Goodbye, Parcel},
    ports::Claims,
    session::{Effect, Incarnation, Opening, Rules, Seating, Session},
};

/// Names a [`Client`].
pub type ClientKey = Key<Client>;

/// The farthest a timer is set; expiries beyond are looked at again.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// Who receives: a socket with channels, or a plain stream.
#[derive(Debug)]
pub struct Client {
    kind: Kind,
    /// Subscriptions that go on when the outlet is no longer full.
    pub(super) paused: Vec<SubscriptionKey>,
    /// The session it named.
    pub(super) keeping: Option<Box<Keeping>>,
}

#[derive(Debug)]
enum Kind {
    Socket(Session),
    Stream(Option<SubscriptionKey>),
}

/// What a stream without channels asks for.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Who asks.
    pub claims: Arc<Claims>,
    /// What the claims were read from.
    pub token: Arc<str>,
    /// The bindings; their ids are their places, counted from one.
    pub specs: Vec<BindingSpec>,
    /// Where to go on; `None` means from now on.
    pub since: Option<Since>,
}

impl Engine {
    /// A socket came, with the token it connected with.
    pub fn connect(&mut self, vsn: Vsn, token: &str, claims: Arc<Claims>) -> ClientKey {
        let claims = self.shared.claims.share(claims);
        let session = Session::new(vsn, token, claims, &self.marks);
        self.clients.insert(Client {
            kind: Kind::Socket(session),
            paused: Vec::new(),
            keeping: None,
        })
    }

    /// A client gets nothing more. Its key stays its own until it is gone.
    pub fn abandon(&mut self, client: ClientKey) {
        let Some(client) = self.clients.get_mut(client) else {
            return;
        };
        match std::mem::replace(&mut client.kind, Kind::Stream(None)) {
            Kind::Socket(session) => {
                self.tally.channels -= session.channel_count() as i64;
                if session.is_counted() {
                    self.meters.release_client();
                }
                for (subscription, member) in session.holdings() {
                    subscription
                        .into_iter()
                        .for_each(|subscription| self.unsubscribe(subscription));
                    member.into_iter().for_each(|member| self.unseat(member));
                }
            }
            Kind::Stream(subscription) => subscription
                .into_iter()
                .for_each(|subscription| self.unsubscribe(subscription)),
        }
    }

    /// A client is gone.
    pub fn disconnect(&mut self, client: ClientKey) {
        self.abandon(client);
        self.clients.remove(client);
    }

    /// No further joins are taken.
    pub fn restart(&mut self) {
        self.restarting = true;
    }

    /// A client sent a frame.
    pub fn receive(&mut self, client: ClientKey, frame: ClientFrame, turn: &mut Turn<'_>) {
        self.with_session(client, turn, |session, rules| session.receive(frame, rules));
    }

    pub(super) fn expire(
        &mut self,
        client: ClientKey,
        incarnation: Incarnation,
        turn: &mut Turn<'_>,
    ) {
        self.with_session(client, turn, |session, rules| {
            session.expire(incarnation, rules)
        });
    }

    pub(super) fn with_session(
        &mut self,
        client: ClientKey,
        turn: &mut Turn<'_>,
        decide: impl FnOnce(&mut Session, Rules<'_>) -> Vec<Effect>,
    ) {
        let Some(Client {
            kind: Kind::Socket(session),
            ..
        }) = self.clients.get_mut(client)
        else {
            return;
        };
        let rules = Rules {
            config: &self.config,
            meters: &self.meters,
            now: turn.now,
            restarting: self.restarting,
            tokens: &*self.tokens,
            marks: &self.marks,
        };
        let before = session.channel_count() as i64;
        let effects = decide(session, rules);
        self.tally.channels += session.channel_count() as i64 - before;
        let vsn = session.vsn();
        for effect in effects {
            self.act(client, vsn, effect, turn);
        }
    }

    fn act(&mut self, client: ClientKey, vsn: Vsn, effect: Effect, turn: &mut Turn<'_>) {
        match effect {
            Effect::Say(text) => turn.outlets.send(client, &Parcel::text_frame(&[&text])),
            Effect::SayBinary(bytes) => turn
                .outlets
                .send(client, &Parcel::frame(FrameKind::Binary, &[&bytes])),
            Effect::SayLater(texts) => {
                let parcels = texts
                    .iter()
                    .map(|text| Parcel::text_frame(&[text]))
                    .collect();
                self.timers.schedule(
                    turn.now.instant + self.config.join_error_delay,
                    Timer::Say(client, parcels),
                );
            }
            Effect::TurnAway => turn.outlets.close(client, Goodbye::Away),
            Effect::Open(opening) => self.open(client, vsn, opening, turn),
            Effect::Reclaim(incarnation, claims) => {
                let subscription = self
                    .session(client)
                    .and_then(|it| it.subscription(incarnation));
                match subscription {
                    Some(subscription) => self.reclaim(subscription, claims),
                    None => self.reclaim_waiting(client, incarnation, claims),
                }
            }
            Effect::Shut(subscription) => self.unsubscribe(subscription),
            Effect::ExpireAt(incarnation, at) => {
                let left = Duration::from_secs(at.saturating_sub(turn.now.unix)).min(WAIT_MAX);
                self.timers
                    .schedule(turn.now.instant + left, Timer::Expire(client, incarnation));
            }
            Effect::Authorize(incarnation, topic, claims) => {
                self.ask_channel(client, incarnation, topic, claims);
            }
            Effect::Replay(incarnation, topic, wish) => self.calls.push_back(Call::Messages {
                client,
                incarnation,
                topic,
                wish,
            }),
            Effect::Seat(seating) => self.seat(client, vsn, seating),
            Effect::Release(incarnation, replayed) => {
                if let Some(member) = self.member_of(client, incarnation) {
                    for parcel in self.rooms.release(member, replayed) {
                        turn.outlets.send(client, &parcel);
                    }
                }
            }
            Effect::Hear(incarnation, hearing) => {
                if let Some(member) = self.member_of(client, incarnation) {
                    self.rooms.hear(member, hearing);
                }
            }
            Effect::Unseat(member) => self.unseat(member),
            Effect::Forget(topic) => self.forget_place(client, topic),
            Effect::Broadcast(incarnation, body) => {
                if let Some(member) = self.member_of(client, incarnation) {
                    self.say(member, body);
                }
            }
            Effect::Presence(incarnation, wish) => {
                if let Some(member) = self.member_of(client, incarnation) {
                    self.wish_presence(member, wish);
                }
            }
            Effect::AwaitReady(incarnation) => self.await_ready(client, incarnation, turn),
        }
    }

    fn session_mut(&mut self, client: ClientKey) -> Option<&mut Session> {
        match &mut self.clients.get_mut(client)?.kind {
            Kind::Socket(session) => Some(session),
            Kind::Stream(_) => None,
        }
    }

    pub(super) fn session(&self, client: ClientKey) -> Option<&Session> {
        match &self.clients.get(client)?.kind {
            Kind::Socket(session) => Some(session),
            Kind::Stream(_) => None,
        }
    }

    fn member_of(&self, client: ClientKey, incarnation: Incarnation) -> Option<MemberKey> {
        self.session(client)?.member(incarnation)
    }

    /// The topic of a channel, and the reference all its messages carry.
    pub(super) fn channel_of(
        &self,
        client: ClientKey,
        incarnation: Incarnation,
    ) -> Option<(&Topic, &Ref)> {
        self.session(client)?.address(incarnation)
    }

    fn seat(&mut self, client: ClientKey, vsn: Vsn, seating: Seating) {
        let Seating {
            incarnation,
            topic,
            private,
            hearing,
            held,
        } = seating;
        let member = self.rooms.enter(
            (&topic, private),
            (client, incarnation),
            (vsn, hearing),
            held,
        );
        let is_known = self
            .session_mut(client)
            .is_some_and(|session| session.seated(incarnation, member));
        if !is_known {
            self.unseat(member);
        }
    }

    fn unseat(&mut self, member: MemberKey) {
        if self.rooms.member(member).is_some_and(|it| it.is_tracked) {
            self.wish_presence(member, PresenceWish::Untrack);
        }
        self.rooms.leave(member);
    }

    /// What a client is told before an operator closes its socket.
    pub(crate) fn say_farewell(&mut self, client: ClientKey, turn: &mut Turn<'_>) {
        let texts = self.session(client).map(Session::farewell);
        for text in texts.unwrap_or_default() {
            turn.outlets.send(client, &Parcel::text_frame(&[&text]));
        }
    }

    /// Subscribes a channel that was joined.
    pub(super) fn open(
        &mut self,
        client: ClientKey,
        vsn: Vsn,
        opening: Opening,
        turn: &mut Turn<'_>,
    ) {
        if opening.bindings.is_empty() {
            return;
        }
        let Some(opening) = self.resume(client, vsn, opening) else {
            return;
        };
        let Opening {
            incarnation,
            topic,
            join_ref,
            bindings,
            claims,
        } = opening;
        let wishes = bindings.into_iter().map(
            |JoinBinding {
                 id, since, spec, ..
             }| (id, since, spec),
        );
        let subscription = self.subscribe(
            client,
            Voice::Channel {
                vsn,
                topic,
                join_ref,
            },
            claims,
            wishes.collect(),
            turn,
        );
        let Some(key) = subscription else { return };
        let is_known = self
            .session_mut(client)
            .is_some_and(|session| session.attach(incarnation, key));
        if !is_known {
            self.unsubscribe(key);
        }
    }

    /// A plain stream came.
    pub fn connect_stream(&mut self) -> ClientKey {
        self.clients.insert(Client {
            kind: Kind::Stream(None),
            paused: Vec::new(),
            keeping: None,
        })
    }

    /// Subscribes a stream. What it is told, refusals too, goes to its outlet.
    pub fn open_stream(&mut self, client: ClientKey, request: StreamRequest, turn: &mut Turn<'_>) {
        let since = request.since.unwrap_or(Since::Now);
        let wishes = (1..)
            .zip(request.specs)
            .map(|(id, spec)| (id, Some(since.clone()), Ok(spec)))
            .collect();
        let subscription = self.subscribe(client, Voice::Stream, request.claims, wishes, turn);
        if let Some(client) = self.clients.get_mut(client) {
            client.kind = Kind::Stream(subscription);
        }
    }

    /// Makes a subscription and asks whether its bindings may be live. `None` when none can be.
    fn subscribe(
        &mut self,
        client: ClientKey,
        voice: Voice,
        claims: Arc<Claims>,
        wishes: Vec<(u32, Option<Since>, Result<BindingSpec, String>)>,
        turn: &mut Turn<'_>,
    ) -> Option<SubscriptionKey> {
        let claims = self.shared.claims.share(claims);
        let key = self
            .subscriptions
            .insert(Subscription::new(client, voice, claims));
        let mut bindings: SmallVec<[BindingKey; 1]> = SmallVec::new();
        for (id, since, spec) in wishes {
            let spec = match spec {
                Ok(_) if bindings.len() >= self.config.bindings_per_channel_max => Err(format!(
                    "Too many postgres_changes entries: at most {} can be live",
                    self.config.bindings_per_channel_max
                )),
                spec => spec,
            };
            match spec {
                Ok(spec) => bindings.push(self.bind(key, id, since, spec)),
                Err(message) => {
                    let subscription = self.subscriptions.get(key)?;
                    subscription.tell(
                        SystemMessage::BindingRefused {
                            binding: id,
                            message: &message,
                        },
                        turn,
                    );
                }
            }
        }
        if bindings.is_empty() {
            self.subscriptions.remove(key);
            return None;
        }
        bindings.shrink_to_fit();
        self.tally.bindings += bindings.len() as i64;
        let subscription = self.subscriptions.get_mut(key)?;
        subscription.asking = u32::try_from(bindings.len()).unwrap_or(u32::MAX);
        subscription.bindings = bindings.clone();
        bindings
            .into_iter()
            .for_each(|binding| self.ask_binding(binding));
        Some(key)
    }

    fn bind(
        &mut self,
        owner: SubscriptionKey,
        id: u32,
        since: Option<Since>,
        mut spec: BindingSpec,
    ) -> BindingKey {
        let select = spec
            .select
            .clone()
            .map(|select| self.shared.selects.share(select));
        spec.filters.shrink_to_fit();
        if FailPoint::TakesEveryRow.is_on() {
            spec.filters.clear();
        }
        let spec = self.shared.specs.share(spec);
        let no_tests = self.shared.tests.share(Vec::new());
        let mut binding = Binding::new(owner, id, spec, no_tests);
        binding.select = select;
        binding.wants_cursor = since.is_some();
        binding.start = match since {
            None | Some(Since::Now) => Start::Head,
            Some(Since::Cursor(cursor)) => self
                .config
                .cursor_key
                .open(&cursor)
                .map(|mut position| {
                    if FailPoint::RepeatsInReplays.is_on() {
                        position.seq = 0;
                    }
                    position
                })
                .map_or(Start::Broken(RefetchReason::Forged), Start::Claimed),
        };
        if let Some(subscription) = self.subscriptions.get_mut(owner) {
            subscription.wants_cursors |= binding.wants_cursor;
            subscription.resumes |= binding.start != Start::Head;
        }
        self.bindings.insert(binding)
    }

    fn unsubscribe(&mut self, key: SubscriptionKey) {
        self.detach(key);
        let Some(subscription) = self.subscriptions.remove(key) else {
            return;
        };
        self.tally.bindings -= subscription.bindings.len() as i64;
        for binding in subscription.bindings {
            self.bindings.remove(binding);
        }
    }
}
