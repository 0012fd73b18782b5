//! A handler reads a request, makes one call, and gives the answer.

pub(crate) mod assignment;
pub(crate) mod bookings;
pub(crate) mod canned;
pub(crate) mod messages;
pub(crate) mod openapi;
pub(crate) mod receipts;
pub(crate) mod status;
pub(crate) mod system;

use axum::extract::{Path, rejection::PathRejection};

use crate::{booking_ref::BookingRef, code::Code, refusal::Refusal};

/// The booking in the path.
type BookingPath = Result<Path<String>, PathRejection>;

fn booking_of(path: BookingPath) -> Result<BookingRef, Refusal> {
    let Path(text) = path.map_err(|_not_text| Refusal::new(Code::InvalidBookingRef))?;
    BookingRef::parse(&text)
}
