//! What policies allow on private channels: asked at the join and again with every new token.

use std::sync::Arc;

use pgrelay_protocol::{ChannelEnd, FrameKind, JoinRefusal, UserBroadcast, server_frame};

use super::{Effect, Effects, Incarnation, Rules, Session, join::replay_wish};
use crate::{
    mail::Body,
    ports::{ChannelError, ChannelRights, Claims, StoredMessage},
};

impl Session {
    /// What policies allow on a channel to these claims.
    pub fn authorized(
        &mut self,
        incarnation: Incarnation,
        claims: &Arc<Claims>,
        outcome: &Result<ChannelRights, ChannelError>,
        rules: Rules<'_>,
    ) -> Effects {
        let Some(place) = self.place(incarnation) else {
            return Effects::new();
        };
        let channel = &mut self.channels[place];
        // An answer about claims it no longer has is none.
        if channel.asked.as_ref() != Some(claims) {
            return Effects::new();
        }
        channel.asked = None;
        let is_joining = channel.joining.is_some();
        match (outcome, is_joining) {
            (Ok(rights), true) => self.may_join(place, *rights, rules),
            (Ok(rights), false) => self.may_stay(place, *rights),
            (Err(error), true) => {
                self.refuse(place, &JoinRefusal::Told(error.message.as_str().into()))
            }
            (Err(error), false) => self.fail(place, &ChannelEnd::Told(&error.message).text()),
        }
    }

    fn may_join(&mut self, place: usize, rights: ChannelRights, rules: Rules<'_>) -> Effects {
        let channel = &mut self.channels[place];
        channel.rights = rights;
        let unauthorized = JoinRefusal::Unauthorized(channel.topic.sub_topic().into());
        let may_see = channel.presence.is_enabled && rights.presence_read;
        if !rights.read && !may_see {
            return self.refuse(place, &unauthorized);
        }
        let Some(joining) = &channel.joining else {
            return Effects::new();
        };
        match replay_wish(joining.config.broadcast.replay) {
            Err(refusal) => self.refuse(place, &refusal),
            Ok(Some(_)) if !rights.read => self.refuse(place, &unauthorized),
            Ok(Some(wish)) => vec![
                // What comes while the replay is read is kept behind it.
                Effect::Seat(channel.seating(true)),
                Effect::Replay(channel.incarnation, channel.topic.clone(), wish),
            ],
            Ok(None) => {
                let seat = Effect::Seat(channel.seating(false));
                match channel.joining.take() {
                    Some(joining) => self.enter(place, *joining, vec![seat], rules),
                    None => Effects::new(),
                }
            }
        }
    }

    /// A joined channel has new rights.
    fn may_stay(&mut self, place: usize, rights: ChannelRights) -> Effects {
        let channel = &mut self.channels[place];
        let sees = channel.presence.is_enabled;
        let before = std::mem::replace(&mut channel.rights, rights);
        let loses =
            before.read && !rights.read || sees && before.presence_read && !rights.presence_read;
        if !(rights.read || sees && rights.presence_read) {
            let topic = channel.topic.clone();
            return self.fail(place, &ChannelEnd::NoPermission(topic.sub_topic()).text());
        }
        if loses {
            let topic = channel.topic.clone();
            return self.fail(place, &ChannelEnd::LostPermission(topic.sub_topic()).text());
        }
        vec![Effect::Hear(channel.incarnation, channel.hearing())]
    }

    /// The stored messages a join asked for; `None` when they could not be read.
    pub fn replayed(
        &mut self,
        incarnation: Incarnation,
        messages: Option<&[StoredMessage]>,
        rules: Rules<'_>,
    ) -> Effects {
        let Some(place) = self.place(incarnation) else {
            return Effects::new();
        };
        let Some(messages) = messages else {
            return self.refuse(place, &JoinRefusal::ReplayFailed);
        };
        let Some(joining) = self.channels[place].joining.take() else {
            return Effects::new();
        };
        let said = messages.iter();
        let mut first: Effects = said
            .filter_map(|message| self.say_replayed(place, message))
            .collect();
        let ids = messages.iter().map(|message| message.id).collect();
        first.push(Effect::Release(incarnation, ids));
        self.enter(place, *joining, first, rules)
    }

    fn say_replayed(&self, place: usize, message: &StoredMessage) -> Option<Effect> {
        let channel = &self.channels[place];
        let metadata = format!("{{\"id\":\"{}\",\"replayed\":true}}", message.id);
        let Body::User {
            event,
            metadata,
            encoding,
            payload,
        } = Body::stored(message, metadata)
        else {
            return None;
        };
        let broadcast = UserBroadcast {
            event: &event,
            metadata: metadata.as_deref(),
            encoding,
            payload: &payload,
        };
        let (join_ref, topic) = (&channel.join_ref, channel.topic.as_str());
        let mut out = Vec::new();
        match server_frame::replayed_broadcast(&mut out, self.vsn, join_ref, topic, &broadcast)? {
            FrameKind::Text => Some(Effect::Say(out)),
            FrameKind::Binary => Some(Effect::SayBinary(out)),
        }
    }
}
