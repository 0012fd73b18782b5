//! Joins: checked in the order the wire prescribes, and answered once everything is known.

use std::sync::Arc;

use pgrelay_protocol::{
    ClientFrame, JoinConfig, JoinRefusal, RawReplay, TokenError, Topic, TopicError, server_frame,
};
use serde_json::value::RawValue;

use super::{
    Channel, Effect, Effects, Incarnation, Opening, Request, Rules, Seating, Session, TokenMark,
    presence::Presence, text,
};
use crate::ports::{ChannelRights, Claims};

/// What a join waits with while its rights and its replay are asked for.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) request: Request,
    pub(super) config: JoinConfig,
    pub(super) claims: Arc<Claims>,
    /// The end of the channel it replaces.
    close: Option<Vec<u8>>,
    /// What the client sent meanwhile.
    pub(super) waiting: Vec<ClientFrame>,
}

/// A join that nothing speaks against but the database.
struct Admitted {
    topic: Topic,
    config: JoinConfig,
    token: TokenMark,
    claims: Arc<Claims>,
}

impl Session {
    pub(super) fn join(
        &mut self,
        request: Request,
        payload: &RawValue,
        place: Option<usize>,
        rules: Rules<'_>,
    ) -> Effects {
        // Whatever becomes of the join, it ends the channel it joins again.
        let replaced = place.map(|place| self.channels.swap_remove(place));
        let mut effects: Effects = replaced.iter().flat_map(Channel::losses).collect();
        let close = replaced.map(|old| {
            text(|out| server_frame::close(out, self.vsn, &old.join_ref, &request.topic))
        });
        match self.admit(&request.topic, payload, rules) {
            Ok(admitted) => {
                effects.extend(self.begin(request, admitted, close, rules));
            }
            Err(JoinRefusal::Topic(TopicError::Unmatched)) => {
                effects.push(self.unmatched(&request));
            }
            Err(refusal) => {
                let is_rate = refusal == JoinRefusal::TooManyJoins;
                let texts = self.refusal(&request, &refusal, close);
                if is_rate {
                    effects.extend(texts.into_iter().map(Effect::Say));
                    effects.push(Effect::TurnAway);
                } else {
                    effects.push(Effect::SayLater(texts));
                }
            }
        }
        effects
    }

    fn refusal(
        &self,
        request: &Request,
        refusal: &JoinRefusal,
        close: Option<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let to = request.reply_to(&request.join_ref);
        let reply = text(|out| server_frame::refusal(out, self.vsn, to, &refusal.reason()));
        [reply].into_iter().chain(close).collect()
    }

    /// Checks a join, in the order the wire prescribes.
    fn admit(
        &mut self,
        topic: &str,
        payload: &RawValue,
        rules: Rules<'_>,
    ) -> Result<Admitted, JoinRefusal> {
        let unix = rules.now.unix;
        let topic = Topic::parse(topic).map_err(JoinRefusal::Topic)?;
        let config = JoinConfig::parse(payload).map_err(JoinRefusal::Payload)?;
        if rules.restarting {
            return Err(JoinRefusal::Restarting);
        }
        if rules.config.private_only && !config.private {
            return Err(JoinRefusal::PrivateOnly);
        }
        if !self.is_counted && rules.meters.is_full(rules.config.clients_max) {
            return Err(JoinRefusal::TooManyClients);
        }
        let joins_max = rules.config.joins_per_second_max;
        if !rules.meters.joins.take(unix, 1, joins_max) {
            return Err(JoinRefusal::TooManyJoins);
        }
        if self.channels.len() >= rules.config.channels_per_client_max {
            return Err(JoinRefusal::TooManyChannels);
        }
        let (token, claims) = match config.token() {
            Some(token) => {
                let claims = rules
                    .tokens
                    .verify(token, unix)
                    .map_err(JoinRefusal::Token)?;
                (TokenMark::of(token, rules.marks), claims)
            }
            None => (self.token, Arc::clone(&self.claims)),
        };
        if let Some(at) = claims.expires_at.filter(|at| *at <= unix) {
            return Err(JoinRefusal::Token(TokenError::Expired(unix - at)));
        }
        if !config.private && config.broadcast.replay.is_some() {
            return Err(JoinRefusal::ReplayOnPublic);
        }
        if !self.is_counted {
            if !rules.meters.admit_client(rules.config.clients_max) {
                return Err(JoinRefusal::TooManyClients);
            }
            self.is_counted = true;
        }
        Ok(Admitted {
            topic,
            config,
            token,
            claims,
        })
    }

    /// Makes the channel. A public one is joined at once.
    fn begin(
        &mut self,
        request: Request,
        admitted: Admitted,
        close: Option<Vec<u8>>,
        rules: Rules<'_>,
    ) -> Effects {
        let Admitted {
            topic,
            mut config,
            token,
            claims,
        } = admitted;
        self.joins = self.joins.wrapping_add(1);
        let (incarnation, private) = (Incarnation(self.joins), config.private);
        config.presence.enabled |= rules.config.presence_enabled;
        let everything = ChannelRights {
            read: true,
            write: true,
            presence_read: true,
            presence_write: true,
        };
        // Most sessions have one channel, and Vec would start with four.
        self.channels.reserve_exact(1);
        self.channels.push(Channel {
            incarnation,
            topic: topic.clone(),
            join_ref: request.join_ref.clone(),
            token,
            expires_at: claims.expires_at,
            subscription: None,
            member: None,
            private,
            acks: config.broadcast.ack,
            hears_itself: config.broadcast.self_,
            rights: if private {
                ChannelRights::default()
            } else {
                everything
            },
            presence: Presence::new(&mut config.presence),
            asked: private.then(|| Arc::clone(&claims)),
            joining: None,
        });
        let joining = Box::new(Joining {
            request,
            config,
            claims: Arc::clone(&claims),
            close,
            waiting: Vec::new(),
        });
        let place = self.channels.len() - 1;
        if private {
            self.channels[place].joining = Some(joining);
            return vec![Effect::Authorize(incarnation, topic, claims)];
        }
        let seat = self.channels[place].seating(false);
        self.enter(place, *joining, vec![Effect::Seat(seat)], rules)
    }

    /// A join succeeds: its reply, then `first`, then everything else.
    pub(super) fn enter(
        &mut self,
        place: usize,
        joining: Joining,
        first: Effects,
        rules: Rules<'_>,
    ) -> Effects {
        let Joining {
            request,
            config,
            claims,
            close,
            waiting,
        } = joining;
        let channel = &self.channels[place];
        let incarnation = channel.incarnation;
        let to = request.reply_to(&request.join_ref);
        let reply =
            text(|out| server_frame::join_reply(out, self.vsn, to, &config.postgres_changes));
        let mut effects = vec![Effect::Say(reply)];
        effects.extend(close.map(Effect::Say));
        let expiry = claims.expires_at;
        effects.extend(expiry.map(|at| Effect::ExpireAt(incarnation, at)));
        effects.extend(first);
        effects.push(Effect::Open(Opening {
            incarnation,
            topic: channel.topic.clone(),
            join_ref: request.join_ref,
            bindings: config.postgres_changes,
            claims,
        }));
        if config.broadcast.replication_ready {
            effects.push(Effect::AwaitReady(incarnation));
        }
        effects.extend(self.presence_state(place, rules));
        for frame in waiting {
            effects.extend(self.receive(frame, rules));
        }
        effects
    }

    /// A join that had to wait fails.
    pub(super) fn refuse(&mut self, place: usize, refusal: &JoinRefusal) -> Effects {
        let mut channel = self.channels.swap_remove(place);
        let Some(joining) = channel.joining.take() else {
            return Effects::new();
        };
        let texts = self.refusal(&joining.request, refusal, joining.close);
        channel.losses().chain([Effect::SayLater(texts)]).collect()
    }
}

impl Channel {
    pub(super) fn seating(&self, held: bool) -> Seating {
        Seating {
            incarnation: self.incarnation,
            topic: self.topic.clone(),
            private: self.private,
            hearing: self.hearing(),
            held,
        }
    }
}

/// Times that a date can name, in milliseconds of Unix time: the years -9999 to 9999.
const DATES_MS: std::ops::RangeInclusive<i64> = -377_705_116_800_000..=253_402_300_799_999;

/// What a private channel is to be given again: nothing, or these, or the wish is none.
pub(super) fn replay_wish(
    replay: Option<RawReplay>,
) -> Result<Option<super::ReplayWish>, JoinRefusal> {
    match replay {
        None | Some(RawReplay::Ignored) => Ok(None),
        Some(RawReplay::Since { since_ms, limit }) if DATES_MS.contains(&since_ms) => {
            let limit = u8::try_from(limit).unwrap_or(u8::MAX);
            Ok(Some(super::ReplayWish { since_ms, limit }))
        }
        Some(RawReplay::Since { .. } | RawReplay::Invalid) => Err(JoinRefusal::ReplayInvalid),
    }
}
