//! Subscribers with claims of their own.

use pgrelay_e2e::{Stage, Subscriber};
use pgrelay_test_support::{Vsn, WsClient, token};
use serde_json::{Value, json};

pub(crate) const ANN: &str = "00000000-0000-4000-8000-00000000000a";
pub(crate) const BOB: &str = "00000000-0000-4000-8000-00000000000b";

/// Rows of one user each.
pub(crate) const NOTES: &str = "
    create table notes (id int primary key, user_id uuid, body text);
    alter table notes enable row level security;
    create policy own on notes for select using (user_id = auth.uid())";

/// A socket with these claims in its token.
pub(crate) async fn connect(stage: &Stage, claims: &Value) -> WsClient {
    WsClient::connect(stage.relay.address(), Vsn::V2, &token(claims)).await
}

/// Somebody who is authenticated as `sub` and listens to `table`.
pub(crate) async fn user(stage: &Stage, sub: &str, table: &str) -> Subscriber {
    let claims = json!({"role": "authenticated", "sub": sub});
    let client = connect(stage, &claims).await;
    Subscriber::join(client, json!([{"schema": "public", "table": table}])).await
}
