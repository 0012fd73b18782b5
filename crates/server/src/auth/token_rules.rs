//! What a deployment demands of tokens beyond what the protocol does. Nothing, unless it is set.

use std::time::Duration;

use serde_json::{Map, Value};

/// A leeway beyond a day would be no leeway.
const LEEWAY_MAX: Duration = Duration::from_secs(86_400);

/// Rules that every token must meet.
#[derive(Debug, Clone, Default)]
pub struct TokenRules {
    leeway_seconds: u64,
    started: bool,
    demands: Vec<Demand>,
}

/// A claim that must be there, and what it must be.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Its name.
    pub claim: Box<str>,
    /// One of these.
    pub values: Vec<Box<str>>,
}

impl TokenRules {
    /// `leeway`: how long after its `exp` a token counts, for clocks that differ. `started`: a token
    /// whose `nbf` or `iat` lies in the future, by more than the leeway, is refused.
    #[must_use]
    pub fn new(leeway: Duration, started: bool, demands: Vec<Demand>) -> Self {
        Self {
            leeway_seconds: leeway.min(LEEWAY_MAX).as_secs(),
            started,
            demands,
        }
    }

    /// In seconds.
    pub(super) fn leeway(&self) -> u64 {
        self.leeway_seconds
    }

    /// Whether verified claims meet the demands at Unix time `now`.
    pub(super) fn admit(&self, claims: &Map<String, Value>, now: u64) -> bool {
        let has_come = |claim: &str| match claims.get(claim).and_then(Value::as_f64) {
            // A second is exact far beyond any date.
            Some(at) => at <= (now.saturating_add(self.leeway_seconds)) as f64,
            None => !claims.contains_key(claim),
        };
        let started = !self.started || (has_come("nbf") && has_come("iat"));
        started && self.demands.iter().all(|demand| demand.is_met(claims))
    }
}

impl Demand {
    /// A claim with several values, such as `aud`, meets it with any.
    fn is_met(&self, claims: &Map<String, Value>) -> bool {
        let fits = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| self.values.iter().any(|wanted| **wanted == *text))
        };
        match claims.get(&*self.claim) {
            Some(Value::Array(values)) => values.iter().any(fits),
            Some(value) => fits(value),
            None => false,
        }
    }
}
