//! The life of the channels of one socket.
//!
//! Pure: a frame of the client, an answer or the passing of time goes in, effects come out. Joins,
//! tokens, rights and leaves are decided here; what a channel receives is the engine's business.
//! Refuses to know sockets, tables and positions. Called by the engine.

mod authorize;
mod broadcast;
mod join;
mod presence;
mod refresh;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use pgrelay_protocol::{
    ClientEvent, ClientFrame, JoinBinding, Outcome, Ref, ReplyTo, SystemMessage, Topic, Vsn,
    server_frame,
};
use uuid::Uuid;

pub use crate::mail::PresenceWish;
use crate::{
    config::Config,
    engine::{MemberKey, Now, SubscriptionKey},
    mail::Body,
    meters::Meters,
    ports::{ChannelRights, Claims, TokenVerifier},
};
use join::Joining;
use presence::Presence;

/// Frames kept for a channel whose join is not decided; to more of them it is not joined.
const WAITING_MAX: usize = 32;

/// The channels of one socket, and what it connected with.
#[derive(Debug)]
pub struct Session {
    vsn: Vsn,
    token: TokenMark,
    claims: Arc<Claims>,
    channels: Vec<Channel>,
    joins: u32,
    /// It counts as a client that has joined.
    is_counted: bool,
}

/// One joined topic, or one that is being joined.
#[derive(Debug)]
struct Channel {
    incarnation: Incarnation,
    topic: Topic,
    join_ref: Ref,
    token: TokenMark,
    /// Unix time, seconds.
    expires_at: Option<u64>,
    subscription: Option<SubscriptionKey>,
    member: Option<MemberKey>,
    /// Policies decide what it may do.
    private: bool,
    /// Its broadcasts are answered.
    acks: bool,
    /// Its broadcasts come back to it.
    hears_itself: bool,
    /// All of them on a public channel.
    rights: ChannelRights,
    presence: Presence,
    /// Whose rights were asked for and are not known yet.
    asked: Option<Arc<Claims>>,
    /// What its join waits with.
    joining: Option<Box<Joining>>,
}

/// Tells the channels of a session apart for ever; joining a topic again makes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(u32);

/// Recognises a token without keeping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TokenMark(u64);

/// What a channel is given of what is said on its topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hearing {
    /// Broadcasts of others.
    pub broadcasts: bool,
    /// Who comes and goes.
    pub presence: bool,
    /// Its own broadcasts.
    pub itself: bool,
}

/// What decisions depend on besides the session itself.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// What clients may do.
    pub config: &'a Config,
    /// What all of them do together.
    pub(crate) meters: &'a Meters,
    /// The time.
    pub now: Now,
    /// The server goes down and takes no joins.
    pub restarting: bool,
    /// Judges tokens.
    pub tokens: &'a dyn TokenVerifier,
    /// Makes token marks; the same as long as the session lives.
    pub marks: &'a RandomState,
}

impl fmt::Debug for Rules<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

/// What has to be done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Send the text of one message.
    Say(Vec<u8>),
    /// Send the bytes of one binary message.
    SayBinary(Vec<u8>),
    /// Send the texts of messages when the join error delay has passed.
    SayLater(Vec<Vec<u8>>),
    /// Close the socket: too many clients join.
    TurnAway,
    /// A channel is joined; its bindings may go live.
    Open(Opening),
    /// A channel has another token: its bindings, open or about to be, have to be resolved by it.
    Reclaim(Incarnation, Arc<Claims>),
    /// A subscription has lost its channel.
    Shut(SubscriptionKey),
    /// Call [`Session::expire`] at this Unix time.
    ExpireAt(Incarnation, u64),
    /// Call [`Session::authorized`] with what policies allow.
    Authorize(Incarnation, Topic, Arc<Claims>),
    /// Call [`Session::replayed`] with stored messages.
    Replay(Incarnation, Topic, ReplayWish),
    /// A channel hears its topic, at once or once it is released; call [`Session::seated`].
    Seat(Seating),
    /// A channel was given its replay, which was these messages.
    Release(Incarnation, Box<[Uuid]>),
    /// A channel hears something else.
    Hear(Incarnation, Hearing),
    /// A channel is gone.
    Unseat(MemberKey),
    /// The client left a topic by itself: should it come back, it starts anew.
    Forget(Topic),
    /// A channel says something.
    Broadcast(Incarnation, Body),
    /// A channel comes, goes, or wants to know who is there.
    Presence(Incarnation, PresenceWish),
    /// Call [`Session::ready`] when the database is followed.
    AwaitReady(Incarnation),
}

/// Which stored messages a channel is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayWish {
    /// Those since then, in milliseconds of Unix time.
    pub since_ms: i64,
    /// The newest so many.
    pub limit: u8,
}

/// A channel that hears its topic.
#[derive(Debug)]
pub struct Seating {
    /// Which channel.
    pub incarnation: Incarnation,
    /// Its topic.
    pub topic: Topic,
    /// Among the private channels.
    pub private: bool,
    /// What it hears.
    pub hearing: Hearing,
    /// What it hears is kept until it is released.
    pub held: bool,
}

/// A new channel, as its subscription sees it.
#[derive(Debug)]
pub struct Opening {
    /// Which channel.
    pub incarnation: Incarnation,
    /// Its topic.
    pub topic: Topic,
    /// The reference all its messages carry.
    pub join_ref: Ref,
    /// The entries of the join, in order.
    pub bindings: Vec<JoinBinding>,
    /// Who asks.
    pub claims: Arc<Claims>,
}

type Effects = Vec<Effect>;

impl Session {
    /// A session without channels.
    #[must_use]
    pub fn new(vsn: Vsn, token: &str, claims: Arc<Claims>, marks: &RandomState) -> Self {
        Self {
            vsn,
            token: TokenMark::of(token, marks),
            claims,
            channels: Vec::new(),
            joins: 0,
            is_counted: false,
        }
    }

    /// The serializer version of the socket.
    #[must_use]
    pub fn vsn(&self) -> Vsn {
        self.vsn
    }

    /// How many channels there are.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Whether it was counted as a client that has joined.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// What all channels hold of the engine.
    pub fn holdings(&self) -> impl Iterator<Item = (Option<SubscriptionKey>, Option<MemberKey>)> {
        self.channels
            .iter()
            .map(|channel| (channel.subscription, channel.member))
    }

    /// Remembers the subscription that was made for a channel. `false` when the channel is gone.
    pub fn attach(&mut self, incarnation: Incarnation, subscription: SubscriptionKey) -> bool {
        let channel = self.find_mut(incarnation);
        channel
            .map(|it| it.subscription = Some(subscription))
            .is_some()
    }

    /// Remembers the seat that a channel was given. `false` when the channel is gone.
    pub fn seated(&mut self, incarnation: Incarnation, member: MemberKey) -> bool {
        let channel = self.find_mut(incarnation);
        channel.map(|it| it.member = Some(member)).is_some()
    }

    /// The subscription of a channel.
    #[must_use]
    pub fn subscription(&self, incarnation: Incarnation) -> Option<SubscriptionKey> {
        self.channels[self.place(incarnation)?].subscription
    }

    /// The seat of a channel.
    #[must_use]
    pub fn member(&self, incarnation: Incarnation) -> Option<MemberKey> {
        self.channels[self.place(incarnation)?].member
    }

    /// The topic of a channel, and the reference all its messages carry.
    #[must_use]
    pub fn address(&self, incarnation: Incarnation) -> Option<(&Topic, &Ref)> {
        let channel = &self.channels[self.place(incarnation)?];
        Some((&channel.topic, &channel.join_ref))
    }

    fn place(&self, incarnation: Incarnation) -> Option<usize> {
        self.channels
            .iter()
            .position(|channel| channel.incarnation == incarnation)
    }

    fn find_mut(&mut self, incarnation: Incarnation) -> Option<&mut Channel> {
        self.channels
            .iter_mut()
            .find(|channel| channel.incarnation == incarnation)
    }

    /// Handles one frame of the client.
    pub fn receive(&mut self, frame: ClientFrame, rules: Rules<'_>) -> Effects {
        let place = self
            .channels
            .iter()
            .position(|channel| channel.topic.as_str() == &*frame.topic);
        if let Some(place) = place
            && let Some(joining) = &mut self.channels[place].joining
            && !matches!(frame.event, ClientEvent::Join(_) | ClientEvent::Leave)
        {
            if joining.waiting.len() < WAITING_MAX {
                joining.waiting.push(frame);
                return Effects::new();
            }
            return vec![self.unmatched(&Request::of(frame).0)];
        }
        let (request, event) = Request::of(frame);
        match (event, place) {
            (ClientEvent::Heartbeat, _) => vec![say(|out| {
                server_frame::heartbeat_reply(out, self.vsn, &request.reference);
            })],
            (ClientEvent::Join(payload), place) => self.join(request, &payload, place, rules),
            (ClientEvent::Leave, Some(place)) => self.leave(&request, place),
            (ClientEvent::Leave, None) => vec![self.done(&request)],
            (ClientEvent::AccessToken(payload), Some(place)) => {
                self.refresh(&payload, place, rules)
            }
            (ClientEvent::Broadcast(push), Some(place)) => {
                self.broadcast(&request, push, place, rules)
            }
            (ClientEvent::Presence(payload), Some(place)) => {
                self.presence(&request, &payload, place, rules)
            }
            (ClientEvent::Unknown(_), Some(place)) => self.count_event(place, rules),
            (
                ClientEvent::AccessToken(_)
                | ClientEvent::Broadcast(_)
                | ClientEvent::Presence(_)
                | ClientEvent::Unknown(_),
                None,
            ) => vec![self.unmatched(&request)],
        }
    }

    /// The database is followed, or was not in time.
    pub fn ready(&mut self, incarnation: Incarnation, in_time: bool) -> Effects {
        let Some(place) = self.place(incarnation) else {
            return Effects::new();
        };
        if !in_time {
            return self.fail(place, &pgrelay_protocol::ChannelEnd::NotReady.text());
        }
        vec![self.system(place, SystemMessage::ReplicationReady)]
    }

    /// What each joined channel is told before an operator closes the socket.
    #[must_use]
    pub fn farewell(&self) -> Vec<Vec<u8>> {
        let joined = self.channels.iter().filter(|it| it.joining.is_none());
        joined
            .map(|channel| {
                text(|out| {
                    server_frame::system(
                        out,
                        self.vsn,
                        &Ref::null(),
                        &channel.topic,
                        SystemMessage::Disconnect,
                    );
                })
            })
            .collect()
    }

    fn leave(&mut self, request: &Request, place: usize) -> Effects {
        let channel = &self.channels[place];
        if channel.join_ref != request.join_ref && !channel.join_ref.is_null() {
            return Effects::new();
        }
        let (done, topic) = (self.done(request), channel.topic.clone());
        let mut effects = self.close(place);
        effects.insert(0, done);
        effects.push(Effect::Forget(topic));
        effects
    }

    /// Counts an event of a client; ends the channel when there are too many.
    fn count_event(&mut self, place: usize, rules: Rules<'_>) -> Effects {
        let max = rules.config.events_per_second_max;
        if rules.meters.events.take(rules.now.unix, 1, max) {
            return Effects::new();
        }
        self.fail(place, &pgrelay_protocol::ChannelEnd::TooManyEvents.text())
    }

    /// Ends a channel: says why, then closes it.
    fn fail(&mut self, place: usize, reason: &str) -> Effects {
        let notice = self.system(place, SystemMessage::Closing(reason));
        let mut effects = self.close(place);
        effects.insert(0, notice);
        effects
    }

    fn close(&mut self, place: usize) -> Effects {
        let channel = self.channels.swap_remove(place);
        let close = say(|out| {
            server_frame::close(out, self.vsn, &channel.join_ref, channel.topic.as_str());
        });
        [close].into_iter().chain(channel.losses()).collect()
    }

    fn system(&self, place: usize, message: SystemMessage<'_>) -> Effect {
        let channel = &self.channels[place];
        say(|out| {
            server_frame::system(out, self.vsn, &channel.join_ref, &channel.topic, message);
        })
    }

    /// The ok reply that says nothing.
    fn done(&self, request: &Request) -> Effect {
        self.reply(request, Outcome::DONE)
    }

    fn reply(&self, request: &Request, outcome: Outcome<'_>) -> Effect {
        say(|out| {
            server_frame::reply(out, self.vsn, request.reply_to(&request.join_ref), outcome);
        })
    }

    /// The reply to a push on a channel, whatever join the push named.
    fn answer(&self, place: usize, request: &Request, outcome: Outcome<'_>) -> Effect {
        let join_ref = &self.channels[place].join_ref;
        say(|out| server_frame::reply(out, self.vsn, request.reply_to(join_ref), outcome))
    }

    fn unmatched(&self, request: &Request) -> Effect {
        say(|out| server_frame::unmatched_topic(out, self.vsn, &request.reference, &request.topic))
    }
}

impl Channel {
    /// What the engine has to let go of when the channel is gone.
    fn losses(&self) -> impl Iterator<Item = Effect> + use<> {
        let subscription = self.subscription.map(Effect::Shut);
        subscription
            .into_iter()
            .chain(self.member.map(Effect::Unseat))
    }

    fn hearing(&self) -> Hearing {
        Hearing {
            broadcasts: self.rights.read,
            presence: !self.private || self.presence.is_enabled && self.rights.presence_read,
            itself: self.hears_itself,
        }
    }
}

/// A frame without its event.
#[derive(Debug)]
struct Request {
    join_ref: Ref,
    reference: Ref,
    topic: Box<str>,
}

impl Request {
    fn of(frame: ClientFrame) -> (Self, ClientEvent) {
        let ClientFrame {
            join_ref,
            reference,
            topic,
            event,
        } = frame;
        let request = Self {
            join_ref,
            reference,
            topic,
        };
        (request, event)
    }

    fn reply_to<'a>(&'a self, join_ref: &'a Ref) -> ReplyTo<'a> {
        ReplyTo {
            join_ref,
            reference: &self.reference,
            topic: &self.topic,
        }
    }
}

impl TokenMark {
    fn of(token: &str, marks: &RandomState) -> Self {
        Self(marks.hash_one(token))
    }
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn say(write: impl FnOnce(&mut Vec<u8>)) -> Effect {
    Effect::Say(text(write))
}

#[cfg(test)]
mod tests;
