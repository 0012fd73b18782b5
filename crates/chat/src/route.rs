//! The routes. `openapi.json` describes them; a test holds the two together.

use axum::{
    Router,
    routing::{MethodRouter, get, patch, post},
};

use crate::{Chat, code::Code, handlers, refusal::Refusal};

/// One address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Messages,
    SystemMessages,
    Status,
    Receipts,
    Inbox,
    Booking,
    Assignment,
    CannedReplies,
    OpenApi,
}

impl Route {
    pub(crate) const ALL: [Self; 9] = [
        Self::Messages,
        Self::SystemMessages,
        Self::Status,
        Self::Receipts,
        Self::Inbox,
        Self::Booking,
        Self::Assignment,
        Self::CannedReplies,
        Self::OpenApi,
    ];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Messages => "/api/messages",
            Self::SystemMessages => "/api/messages/system",
            Self::Status => "/api/bookings/status",
            Self::Receipts => "/api/receipts",
            Self::Inbox => "/api/bookings",
            Self::Booking => "/api/bookings/{booking}",
            Self::Assignment => "/api/bookings/{booking}/assignment",
            Self::CannedReplies => "/api/canned-replies",
            Self::OpenApi => "/api/openapi.json",
        }
    }

    fn handlers(self) -> MethodRouter<Chat> {
        match self {
            Self::Messages => get(handlers::messages::list)
                .post(handlers::messages::send)
                .delete(handlers::messages::delete),
            Self::SystemMessages => post(handlers::system::send),
            Self::Status => patch(handlers::status::set).post(handlers::status::set),
            Self::Receipts => post(handlers::receipts::acknowledge),
            Self::Inbox => get(handlers::bookings::inbox),
            Self::Booking => get(handlers::bookings::one),
            Self::Assignment => {
                post(handlers::assignment::assign).delete(handlers::assignment::unassign)
            }
            Self::CannedReplies => get(handlers::canned::list),
            Self::OpenApi => get(handlers::openapi::document),
        }
    }
}

/// All routes of the chat, to be mounted at the root.
pub fn router(chat: Chat) -> Router {
    let mut router = Router::new();
    for route in Route::ALL {
        router = router.route(route.path(), route.handlers());
    }
    router
        .method_not_allowed_fallback(async || Refusal::new(Code::MethodNotAllowed))
        .with_state(chat)
}

#[cfg(test)]
mod tests;
