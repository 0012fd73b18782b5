//! The life of the channels of one socket.
//!
//! Pure: a frame of the client or the passing of time goes in, effects come out. Joins, tokens and
//! leaves are decided here; what a channel receives is the engine's business. Refuses to know
//! sockets, tables and positions. Called by the engine.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use pgrelay_protocol::{
    ClientEvent, ClientFrame, JoinBinding, JoinConfig, JoinRefusal, Outcome, Ref, ReplyTo,
    SystemMessage, TokenError, TokenField, Topic, TopicError, Vsn, server_frame,
};
use serde_json::value::RawValue;

use crate::{
    FailPoint,
    engine::SubscriptionKey,
    ports::{Claims, TokenVerifier},
};

/// The channels of one socket, and what it connected with.
#[derive(Debug)]
pub struct Session {
    vsn: Vsn,
    token: TokenMark,
    claims: Arc<Claims>,
    channels: Vec<Channel>,
    joins: u32,
}

/// One joined topic.
#[derive(Debug)]
struct Channel {
    incarnation: Incarnation,
    topic: Topic,
    join_ref: Ref,
    token: TokenMark,
    /// Unix time, seconds.
    expires_at: Option<u64>,
    subscription: Option<SubscriptionKey>,
}

/// Tells the channels of a session apart for ever; joining a topic again makes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(u32);

/// Recognises a token without keeping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TokenMark(u64);

/// What decisions depend on besides the session itself.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Channels a session may have.
    pub channels_max: usize,
    /// Unix time, seconds.
    pub unix_now: u64,
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
    /// Send the texts of messages when the join error delay has passed.
    SayLater(Vec<Vec<u8>>),
    /// A channel is joined; its bindings may go live.
    Open(Opening),
    /// A channel has another token: its bindings have to be resolved again.
    Reclaim(SubscriptionKey, Arc<Claims>),
    /// A subscription has lost its channel.
    Shut(SubscriptionKey),
    /// Call [`Session::expire`] at this Unix time.
    ExpireAt(Incarnation, u64),
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
        }
    }

    /// The serializer version of the socket.
    #[must_use]
    pub fn vsn(&self) -> Vsn {
        self.vsn
    }

    /// How many channels are joined.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// The subscriptions of all channels.
    pub fn subscriptions(&self) -> impl Iterator<Item = SubscriptionKey> {
        self.channels
            .iter()
            .filter_map(|channel| channel.subscription)
    }

    /// Remembers the subscription that was made for a channel.
    pub fn attach(&mut self, incarnation: Incarnation, subscription: SubscriptionKey) {
        if let Some(channel) = self
            .channels
            .iter_mut()
            .find(|channel| channel.incarnation == incarnation)
        {
            channel.subscription = Some(subscription);
        }
    }

    /// Handles one frame of the client.
    pub fn receive(&mut self, frame: ClientFrame, rules: Rules<'_>) -> Effects {
        let ClientFrame {
            join_ref,
            reference,
            topic,
            event,
        } = frame;
        let request = Request {
            join_ref,
            reference,
            topic,
        };
        let place = self
            .channels
            .iter()
            .position(|channel| channel.topic.as_str() == &*request.topic);
        match (event, place) {
            (ClientEvent::Heartbeat, _) => vec![say(|out| {
                server_frame::heartbeat_reply(out, self.vsn, &request.reference);
            })],
            (ClientEvent::Join(payload), place) => self.join(&request, &payload, place, rules),
            (ClientEvent::Leave, Some(place)) => self.leave(&request, place),
            (ClientEvent::Leave, None) => vec![self.done(&request)],
            (ClientEvent::AccessToken(payload), Some(place)) => {
                self.refresh(&payload, place, rules)
            }
            // Broadcast and presence have their own part of the house; nothing is pretended here.
            (
                ClientEvent::Broadcast(_) | ClientEvent::Presence(_) | ClientEvent::Unknown(_),
                Some(_),
            ) => Effects::new(),
            (
                ClientEvent::AccessToken(_)
                | ClientEvent::Broadcast(_)
                | ClientEvent::Presence(_)
                | ClientEvent::Unknown(_),
                None,
            ) => vec![self.unmatched(&request)],
        }
    }

    /// Closes the channel if its token has expired by now.
    pub fn expire(&mut self, incarnation: Incarnation, rules: Rules<'_>) -> Effects {
        let Some(place) = self
            .channels
            .iter()
            .position(|channel| channel.incarnation == incarnation)
        else {
            return Effects::new();
        };
        match self.channels[place].expires_at {
            Some(_) if FailPoint::LetsTokensLive.is_on() => Effects::new(),
            None => Effects::new(),
            Some(expires_at) if expires_at > rules.unix_now => {
                vec![Effect::ExpireAt(incarnation, expires_at)]
            }
            Some(expires_at) => self.fail(place, &TokenError::Expired(rules.unix_now - expires_at)),
        }
    }

    fn join(
        &mut self,
        request: &Request,
        payload: &RawValue,
        place: Option<usize>,
        rules: Rules<'_>,
    ) -> Effects {
        // Whatever becomes of the join, it ends the channel it joins again.
        let replaced = place.map(|place| self.channels.swap_remove(place));
        let mut effects: Effects = replaced
            .iter()
            .filter_map(|old| old.subscription)
            .map(Effect::Shut)
            .collect();
        let close = replaced.map(|old| {
            text(|out| server_frame::close(out, self.vsn, &old.join_ref, &request.topic))
        });
        let to = request.reply_to(&request.join_ref);
        match self.admit(&request.topic, payload, rules) {
            Ok((topic, config, token, claims)) => {
                self.joins = self.joins.wrapping_add(1);
                let incarnation = Incarnation(self.joins);
                effects.push(say(|out| {
                    server_frame::join_reply(out, self.vsn, to, &config.postgres_changes);
                }));
                effects.extend(close.map(Effect::Say));
                effects.extend(
                    claims
                        .expires_at
                        .map(|at| Effect::ExpireAt(incarnation, at)),
                );
                let join_ref = request.join_ref.clone();
                // Most sessions have one channel, and Vec would start with four.
                self.channels.reserve_exact(1);
                self.channels.push(Channel {
                    incarnation,
                    topic: topic.clone(),
                    join_ref: join_ref.clone(),
                    token,
                    expires_at: claims.expires_at,
                    subscription: None,
                });
                let bindings = config.postgres_changes;
                effects.push(Effect::Open(Opening {
                    incarnation,
                    topic,
                    join_ref,
                    bindings,
                    claims,
                }));
            }
            Err(JoinRefusal::Topic(TopicError::Unmatched)) => effects.push(self.unmatched(request)),
            Err(refusal) => {
                let reply = text(|out| server_frame::refusal(out, self.vsn, to, &refusal.reason()));
                effects.push(Effect::SayLater([reply].into_iter().chain(close).collect()));
            }
        }
        effects
    }

    /// Checks a join, in the order the wire prescribes.
    fn admit(
        &self,
        topic: &str,
        payload: &RawValue,
        rules: Rules<'_>,
    ) -> Result<(Topic, JoinConfig, TokenMark, Arc<Claims>), JoinRefusal> {
        let topic = Topic::parse(topic).map_err(JoinRefusal::Topic)?;
        let config = JoinConfig::parse(payload).map_err(JoinRefusal::Payload)?;
        if rules.restarting {
            return Err(JoinRefusal::Restarting);
        }
        if self.channels.len() >= rules.channels_max {
            return Err(JoinRefusal::TooManyChannels);
        }
        let (token, claims) = match config.token() {
            Some(token) => {
                let claims = rules
                    .tokens
                    .verify(token, rules.unix_now)
                    .map_err(JoinRefusal::Token)?;
                (TokenMark::of(token, rules.marks), claims)
            }
            None => (self.token, Arc::clone(&self.claims)),
        };
        match claims.expires_at {
            Some(at) if at <= rules.unix_now => {
                Err(JoinRefusal::Token(TokenError::Expired(rules.unix_now - at)))
            }
            Some(_) | None => Ok((topic, config, token, claims)),
        }
    }

    fn leave(&mut self, request: &Request, place: usize) -> Effects {
        let channel = &self.channels[place];
        if channel.join_ref != request.join_ref && !channel.join_ref.is_null() {
            return Effects::new();
        }
        let done = self.done(request);
        let mut effects = self.close(place);
        effects.insert(0, done);
        effects
    }

    fn refresh(&mut self, payload: &RawValue, place: usize, rules: Rules<'_>) -> Effects {
        let field = TokenField::parse_push(payload);
        let token = match field.as_str() {
            Some(token) if !field.is_api_key() => token,
            Some(_) | None => return Effects::new(),
        };
        let mark = TokenMark::of(token, rules.marks);
        let channel = &mut self.channels[place];
        if mark == channel.token {
            return Effects::new();
        }
        match rules.tokens.verify(token, rules.unix_now) {
            Ok(claims) => {
                channel.token = mark;
                channel.expires_at = claims.expires_at;
                let expiry = claims
                    .expires_at
                    .map(|at| Effect::ExpireAt(channel.incarnation, at));
                let reclaim = channel
                    .subscription
                    .map(|subscription| Effect::Reclaim(subscription, claims));
                expiry.into_iter().chain(reclaim).collect()
            }
            Err(error) => self.fail(place, &error),
        }
    }

    /// Ends a channel over its token: says why, then closes it.
    fn fail(&mut self, place: usize, error: &TokenError) -> Effects {
        let channel = &self.channels[place];
        let reason = error.refresh_text();
        let message = SystemMessage::Closing(&reason);
        let notice = say(|out| {
            server_frame::system(out, self.vsn, &channel.join_ref, &channel.topic, message);
        });
        let mut effects = self.close(place);
        effects.insert(0, notice);
        effects
    }

    fn close(&mut self, place: usize) -> Effects {
        let channel = self.channels.swap_remove(place);
        let close = say(|out| {
            server_frame::close(out, self.vsn, &channel.join_ref, channel.topic.as_str());
        });
        [close]
            .into_iter()
            .chain(channel.subscription.map(Effect::Shut))
            .collect()
    }

    /// The ok reply that says nothing.
    fn done(&self, request: &Request) -> Effect {
        say(|out| {
            server_frame::reply(
                out,
                self.vsn,
                request.reply_to(&request.join_ref),
                Outcome::DONE,
            );
        })
    }

    fn unmatched(&self, request: &Request) -> Effect {
        say(|out| server_frame::unmatched_topic(out, self.vsn, &request.reference, &request.topic))
    }
}

/// A frame without its event.
struct Request {
    join_ref: Ref,
    reference: Ref,
    topic: Box<str>,
}

impl Request {
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
