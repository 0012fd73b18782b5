//! Two bookings to try the chat with, and the people who talk in them.

use tokio_postgres::Client;

use crate::error::Error;

/// Idempotent; also takes over bookings of the same ids that stood here before the chat.
const SEED: &str = include_str!("demo.sql");

/// Somebody to mint a token for.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    /// What others call them.
    pub name: &'static str,
    /// Claim `sub`.
    pub id: &'static str,
    /// Whether they are an operator.
    pub is_operator: bool,
}

impl Person {
    /// The claims of their token, without the times.
    pub fn claims(&self) -> serde_json::Value {
        let app_metadata = if self.is_operator {
            serde_json::json!({"chat_role": "operator"})
        } else {
            serde_json::json!({})
        };
        serde_json::json!({
            "role": "authenticated",
            "sub": self.id,
            "app_metadata": app_metadata,
            "user_metadata": {"name": self.name},
        })
    }
}

/// A seeded booking.
#[derive(Debug, Clone, Copy)]
pub struct Booking {
    /// Its UUID.
    pub id: &'static str,
    /// Its human code.
    pub code: &'static str,
    /// Who booked.
    pub client: Person,
    /// Who answers.
    pub operator: Person,
}

/// The bookings.
pub const BOOKINGS: [Booking; 2] = [
    Booking {
        id: "0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01",
        code: "REQ1759286674249",
        client: Person {
            name: "Amira Haddad",
            id: "6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f01",
            is_operator: false,
        },
        operator: Person {
            name: "Dana",
            id: "6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f11",
            is_operator: true,
        },
    },
    Booking {
        id: "0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02",
        code: "REQ1759286674250",
        client: Person {
            name: "Jonas Weber",
            id: "6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f02",
            is_operator: false,
        },
        operator: Person {
            name: "Luis",
            id: "6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f12",
            is_operator: true,
        },
    },
];

/// Makes the bookings, a few messages and canned replies where they are missing.
///
/// # Errors
/// When the database refuses.
pub async fn seed(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(SEED)
        .await
        .map_err(Error::database("seed the demo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_names_the_same_people() {
        for booking in BOOKINGS {
            for text in [
                booking.id,
                booking.code,
                booking.client.id,
                booking.client.name,
            ] {
                assert!(SEED.contains(text), "{text}");
            }
        }
    }
}
