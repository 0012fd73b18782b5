//! Tokens of joined channels: new ones, and old ones that expire.

use std::sync::Arc;

use pgrelay_protocol::{TokenError, TokenField};
use serde_json::value::RawValue;

use super::{Effect, Effects, Incarnation, Rules, Session, TokenMark};
use crate::FailPoint;

impl Session {
    pub(super) fn refresh(
        &mut self,
        payload: &RawValue,
        place: usize,
        rules: Rules<'_>,
    ) -> Effects {
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
        match rules.tokens.verify(token, rules.now.unix) {
            Ok(claims) => {
                channel.token = mark;
                channel.expires_at = claims.expires_at;
                let incarnation = channel.incarnation;
                let expiry = claims
                    .expires_at
                    .map(|at| Effect::ExpireAt(incarnation, at));
                let ask = channel.private.then(|| {
                    channel.asked = Some(Arc::clone(&claims));
                    Effect::Authorize(incarnation, channel.topic.clone(), Arc::clone(&claims))
                });
                let reclaim = Effect::Reclaim(incarnation, claims);
                expiry.into_iter().chain(ask).chain([reclaim]).collect()
            }
            Err(error) => self.fail(place, &error.refresh_text()),
        }
    }

    /// Closes the channel if its token has expired by now.
    pub fn expire(&mut self, incarnation: Incarnation, rules: Rules<'_>) -> Effects {
        let Some(place) = self.place(incarnation) else {
            return Effects::new();
        };
        let unix = rules.now.unix;
        match self.channels[place].expires_at {
            Some(_) if FailPoint::LetsTokensLive.is_on() => Effects::new(),
            None => Effects::new(),
            Some(expires_at) if expires_at > unix => {
                vec![Effect::ExpireAt(incarnation, expires_at)]
            }
            Some(expires_at) => {
                let error = TokenError::Expired(unix - expires_at);
                self.fail(place, &error.refresh_text())
            }
        }
    }
}
