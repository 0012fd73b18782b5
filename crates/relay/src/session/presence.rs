//! Presence as one channel has it: its key, what it tracks, and how often it may say so.

use pgrelay_protocol::{ChannelEnd, Outcome, PresencePush, join::PresenceConfig, server_frame};
use serde_json::{Value, value::RawValue};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Effect, Effects, Request, Rules, Session, say};
use crate::mail::PresenceWish;

/// The `response` to what cannot be done, which says nothing.
const REFUSED: Outcome<'_> = Outcome::Error("{}");

/// Presence of one channel.
#[derive(Debug)]
pub(super) struct Presence {
    /// The channel sees who is present.
    pub(super) is_enabled: bool,
    /// What it is tracked under; made up when it is needed.
    key: Option<Box<str>>,
    /// What it tracks: JSON object text.
    tracked: Option<Box<str>>,
    /// Messages in the running window, and when that began.
    window: Option<(Instant, u32)>,
}

impl Presence {
    pub(super) fn new(config: &mut PresenceConfig) -> Self {
        Self {
            is_enabled: config.enabled,
            key: config.key.take(),
            tracked: None,
            window: None,
        }
    }

    /// Counts one message; `false` when there are too many in this window.
    fn count(&mut self, rules: Rules<'_>) -> bool {
        let Some(max) = rules.config.presence_calls_max else {
            return true;
        };
        let now = rules.now.instant;
        let count = match self.window {
            Some((begun, count)) if now <= begun + rules.config.presence_window => {
                self.window = Some((begun, count + 1));
                count + 1
            }
            Some(_) | None => {
                self.window = Some((now, 1));
                1
            }
        };
        count <= max
    }

    /// Whether `meta` says the same as what is tracked.
    fn is_tracking(&self, meta: &RawValue) -> bool {
        let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
        self.tracked.as_deref().is_some_and(|tracked| {
            tracked == meta.get() || parse(tracked).is_some_and(|it| Some(it) == parse(meta.get()))
        })
    }
}

impl Session {
    pub(super) fn presence(
        &mut self,
        request: &Request,
        payload: &RawValue,
        place: usize,
        rules: Rules<'_>,
    ) -> Effects {
        let max = rules.config.presence_events_per_second_max;
        if !self.channels[place].presence.count(rules) {
            return self.fail(place, &ChannelEnd::TooManyPresenceCalls.text());
        }
        if !rules.meters.presence.take(rules.now.unix, 1, max) {
            return self.fail(place, &ChannelEnd::TooManyPresenceEvents.text());
        }
        match PresencePush::parse(payload) {
            PresencePush::Track(meta) => self.track(request, &meta, place, rules),
            PresencePush::Untrack => {
                let channel = &mut self.channels[place];
                let incarnation = channel.incarnation;
                let untrack = channel
                    .presence
                    .tracked
                    .take()
                    .map(|_| Effect::Presence(incarnation, PresenceWish::Untrack));
                [self.answer(place, request, Outcome::DONE)]
                    .into_iter()
                    .chain(untrack)
                    .collect()
            }
            PresencePush::NoEvent => vec![self.answer(place, request, Outcome::DONE)],
            PresencePush::TrackNotAMap => vec![say(|out| {
                let to = request.reply_to(&self.channels[place].join_ref);
                server_frame::refusal(out, self.vsn, to, PresencePush::NOT_A_MAP);
            })],
            PresencePush::Unknown => vec![self.answer(place, request, REFUSED)],
        }
    }

    fn track(
        &mut self,
        request: &Request,
        meta: &RawValue,
        place: usize,
        rules: Rules<'_>,
    ) -> Effects {
        if meta.get().len() > rules.config.payload_bytes_max {
            return self.fail(place, &ChannelEnd::TrackTooLarge.text());
        }
        let channel = &mut self.channels[place];
        if !channel.rights.presence_write {
            return vec![self.answer(place, request, REFUSED)];
        }
        let incarnation = channel.incarnation;
        let was_enabled = std::mem::replace(&mut channel.presence.is_enabled, true);
        let hearing = channel.hearing();
        let is_news = !channel.presence.is_tracking(meta);
        let key = channel
            .presence
            .key
            .get_or_insert_with(|| Uuid::new_v4().to_string().into())
            .clone();
        let mut effects = Vec::new();
        if is_news {
            channel.presence.tracked = Some(meta.get().into());
            let meta = meta.get().into();
            effects.push(Effect::Presence(
                incarnation,
                PresenceWish::Track { key, meta },
            ));
        }
        if !was_enabled {
            effects.insert(0, Effect::Hear(incarnation, hearing));
        }
        effects.insert(0, self.answer(place, request, Outcome::DONE));
        effects
    }

    /// Tells a new channel who is present, where it wants to know and may.
    pub(super) fn presence_state(&mut self, place: usize, rules: Rules<'_>) -> Effects {
        let channel = &self.channels[place];
        if !channel.presence.is_enabled || !channel.rights.presence_read {
            return Effects::new();
        }
        let max = rules.config.presence_events_per_second_max;
        if !rules.meters.presence.take(rules.now.unix, 1, max) {
            return self.fail(place, &ChannelEnd::TooManyPresenceEvents.text());
        }
        vec![Effect::Presence(channel.incarnation, PresenceWish::State)]
    }
}
