//! The refusals that a caller can meet: their word, status and sentence. docs/chat.md lists them.

use axum::http::StatusCode;

/// Why a request was refused. The word is stable; the sentence may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidBookingRef,
    InvalidRequest,
    AuthRequired,
    NotAParticipant,
    OperatorOnly,
    NotAuthor,
    Forbidden,
    BookingNotFound,
    MessageNotFound,
    NotInstalled,
    MethodNotAllowed,
    IdempotencyConflict,
    StatusConflict,
    AlreadyAssigned,
    TooLong,
    Empty,
    IllegalTransition,
    InvalidValue,
    BookingClosed,
    RateLimited,
    Internal,
    Unavailable,
}

impl Code {
    /// The code behind an SQLSTATE of class PC; the list is in sql/chat/0002_caller.sql.
    pub(crate) fn from_sqlstate(state: &str) -> Option<Self> {
        Some(match state {
            "PC001" => Self::BookingNotFound,
            "PC002" => Self::NotAParticipant,
            "PC003" => Self::OperatorOnly,
            "PC004" => Self::MessageNotFound,
            "PC005" => Self::NotAuthor,
            "PC006" => Self::IdempotencyConflict,
            "PC007" => Self::BookingClosed,
            "PC008" => Self::RateLimited,
            "PC009" => Self::StatusConflict,
            "PC010" => Self::IllegalTransition,
            "PC011" => Self::AlreadyAssigned,
            "PC012" => Self::InvalidValue,
            _ => return None,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        self.row().0
    }

    pub(crate) fn status(self) -> StatusCode {
        self.row().1
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_retryable(self) -> bool {
        self == Self::RateLimited || self.status().is_server_error()
    }

    pub(crate) fn sentence(self) -> &'static str {
        self.row().2
    }

    #[rustfmt::skip]
    fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::InvalidBookingRef => ("invalid_booking_ref", S::BAD_REQUEST,
                "This does not look like a booking. Check the code or open it from your e-mail."),
            Self::InvalidRequest => ("invalid_request", S::BAD_REQUEST, "The request could not be read."),
            Self::AuthRequired => ("auth_required", S::UNAUTHORIZED, "Sign in to continue."),
            Self::NotAParticipant => ("not_a_participant", S::FORBIDDEN, "This booking belongs to somebody else."),
            Self::OperatorOnly => ("operator_only", S::FORBIDDEN, "Only the team can do this."),
            Self::NotAuthor => ("not_author", S::FORBIDDEN, "Only its author or the team can delete a message."),
            Self::Forbidden => ("forbidden", S::FORBIDDEN, "Your account may not do this."),
            Self::BookingNotFound => ("booking_not_found", S::NOT_FOUND,
                "We can't find this booking. Check the code or open it from your e-mail."),
            Self::MessageNotFound => ("message_not_found", S::NOT_FOUND, "This message does not exist."),
            Self::NotInstalled => ("not_installed", S::NOT_FOUND,
                "There is no booking chat here. `pgrelay migrate --chat` installs it."),
            Self::MethodNotAllowed => ("method_not_allowed", S::METHOD_NOT_ALLOWED, "This cannot be done here."),
            Self::IdempotencyConflict => ("idempotency_conflict", S::CONFLICT,
                "Another message was already sent under this client_id."),
            Self::StatusConflict => ("status_conflict", S::CONFLICT,
                "Somebody else has changed the status in the meantime."),
            Self::AlreadyAssigned => ("already_assigned", S::CONFLICT, "Somebody else takes care of this booking."),
            Self::TooLong => ("too_long", S::PAYLOAD_TOO_LARGE, "This is too long."),
            Self::Empty => ("empty", S::UNPROCESSABLE_ENTITY, "Write something first."),
            Self::IllegalTransition => ("illegal_transition", S::UNPROCESSABLE_ENTITY,
                "The booking cannot get this status now."),
            Self::InvalidValue => ("invalid_value", S::UNPROCESSABLE_ENTITY, "A value is not accepted."),
            Self::BookingClosed => ("booking_closed", S::LOCKED, "This chat is closed."),
            Self::RateLimited => ("rate_limited", S::TOO_MANY_REQUESTS, "You're sending too fast."),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR,
                "Something went wrong on our side. Please try again."),
            Self::Unavailable => ("unavailable", S::SERVICE_UNAVAILABLE,
                "The chat does not answer right now. Please try again."),
        }
    }
}
