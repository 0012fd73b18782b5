//! Places where a build with feature `failpoints` breaks a promise on purpose, so that tests can show that they would see it.
//!
//! `PGRELAY_FAIL_POINT` names the one that is broken. Without the feature every question is answered at compile time.

/// A promise that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say what is done")]
pub enum FailPoint {
    SkipsTheOutage,
    GoesOnAfterALostTail,
    TakesAnyTag,
    IgnoresTheFloor,
    ForgetsHoles,
    StopsAfterAnOutage,
    SleepsThroughBells,
    KeepsQuietAboutBreaks,
    DropsOnOverflow,
    GoesLiveTooEarly,
    RepeatsInReplays,
    LeadsWithCursors,
    LetsTokensLive,
    TakesEveryRow,
    ShowsHiddenTables,
    OvertakesHeldChanges,
    SendsTwice,
    LogsTokens,
}

impl FailPoint {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::SkipsTheOutage,
        Self::GoesOnAfterALostTail,
        Self::TakesAnyTag,
        Self::IgnoresTheFloor,
        Self::ForgetsHoles,
        Self::StopsAfterAnOutage,
        Self::SleepsThroughBells,
        Self::KeepsQuietAboutBreaks,
        Self::DropsOnOverflow,
        Self::GoesLiveTooEarly,
        Self::RepeatsInReplays,
        Self::LeadsWithCursors,
        Self::LetsTokensLive,
        Self::TakesEveryRow,
        Self::ShowsHiddenTables,
        Self::OvertakesHeldChanges,
        Self::SendsTwice,
        Self::LogsTokens,
    ];

    /// Whether this promise is to be broken.
    #[cfg(feature = "failpoints")]
    #[expect(clippy::disallowed_methods, reason = "no setting of the product")]
    #[must_use]
    pub fn is_on(self) -> bool {
        std::env::var("PGRELAY_FAIL_POINT").is_ok_and(|name| name == format!("{self:?}"))
    }

    /// Whether this promise is to be broken: never, in this build.
    #[cfg(not(feature = "failpoints"))]
    #[must_use]
    pub const fn is_on(self) -> bool {
        false
    }
}
