//! What an event stream is asked for: the query string and the headers, parsed once.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use pgrelay_protocol::{BindingSpec, EventKind, NamePattern, Since};

use crate::http::answer::Refusal;

/// A request for a stream.
#[derive(Debug)]
pub(super) struct EventQuery {
    pub(super) token: Arc<str>,
    pub(super) spec: BindingSpec,
    pub(super) since: Option<Since>,
}

impl EventQuery {
    pub(super) fn parse(query: &str, headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut parameters = Parameters::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            parameters.set(&key, value.into_owned());
        }
        let token = token(headers)
            .or(parameters.apikey)
            .ok_or_else(|| Refusal::unauthorized("API key is missing"))?;
        if parameters.topic.is_some() {
            let message = "broadcasts are not served as events; ask for a table";
            return Err(Refusal::bad_request("unsupported", message));
        }
        let table = parameters.table.ok_or_else(|| {
            Refusal::bad_request("table_missing", "name a table: ?table=public.messages")
        })?;
        let (schema, table) = table.split_once('.').unwrap_or(("public", &table));
        let filters = match parameters.filter.as_deref() {
            None | Some("") => Vec::new(),
            Some(filter) => pgrelay_protocol::filter::parse(filter)
                .map_err(|message| Refusal::bad_request("filter_invalid", message))?,
        };
        let spec = BindingSpec {
            event: event(parameters.event.as_deref())?,
            schema: NamePattern::parse(schema),
            table: NamePattern::parse(table),
            filters,
            select: parameters
                .select
                .map(|select| select.split(',').map(Into::into).collect()),
        };
        let resumed = headers
            .get("last-event-id")
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        let since = resumed
            .or(parameters.since)
            .filter(|since| !since.is_empty())
            .map(|since| {
                if since == "now" {
                    Since::Now
                } else {
                    Since::Cursor(since.into())
                }
            });
        Ok(Self {
            token: token.into(),
            spec,
            since,
        })
    }
}

/// The parameters that are read; of a repeated one the last counts.
#[derive(Default)]
struct Parameters {
    apikey: Option<String>,
    table: Option<String>,
    topic: Option<String>,
    filter: Option<String>,
    event: Option<String>,
    select: Option<String>,
    since: Option<String>,
}

impl Parameters {
    fn set(&mut self, key: &str, value: String) {
        let field = match key {
            "apikey" => &mut self.apikey,
            "table" => &mut self.table,
            "topic" => &mut self.topic,
            "filter" => &mut self.filter,
            "event" => &mut self.event,
            "select" => &mut self.select,
            "since" => &mut self.since,
            _ => return,
        };
        *field = Some(value);
    }
}

/// The bearer token, else an `apikey` header, else `x-api-key`.
fn token(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text(header::AUTHORIZATION.as_str())
        .and_then(bearer)
        .or_else(|| text("apikey"))
        .or_else(|| text("x-api-key"))
        .map(str::to_owned)
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn event(text: Option<&str>) -> Result<EventKind, Refusal> {
    match text.unwrap_or("*") {
        "*" => Ok(EventKind::All),
        "INSERT" => Ok(EventKind::Insert),
        "UPDATE" => Ok(EventKind::Update),
        "DELETE" => Ok(EventKind::Delete),
        _ => Err(Refusal::bad_request(
            "event_invalid",
            "event is INSERT, UPDATE, DELETE or *",
        )),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(key, value)| (key.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    fn token_of(query: &str, pairs: &[(&'static str, &'static str)]) -> Option<String> {
        EventQuery::parse(query, &headers(pairs))
            .ok()
            .map(|query| query.token.to_string())
    }

    #[test]
    fn the_key_may_come_in_four_ways() {
        let query = "table=t&apikey=q";
        assert_eq!(token_of(query, &[]).as_deref(), Some("q"));
        assert_eq!(token_of(query, &[("x-api-key", "x")]).as_deref(), Some("x"));
        assert_eq!(
            token_of(query, &[("x-api-key", "x"), ("apikey", "a")]).as_deref(),
            Some("a")
        );
        let all = [("authorization", "bearer b"), ("apikey", "a")];
        assert_eq!(token_of(query, &all).as_deref(), Some("b"));
        assert_eq!(token_of("table=t", &[]), None);
    }

    #[test]
    fn the_table_may_be_named_with_or_without_its_schema() {
        for (text, schema, table) in [
            ("messages", Some("public"), Some("messages")),
            ("chat.messages", Some("chat"), Some("messages")),
            ("chat.*", Some("chat"), None),
            ("*.*", None, None),
        ] {
            let query =
                EventQuery::parse(&format!("apikey=k&table={text}"), &headers(&[])).unwrap();
            let pattern = |name: Option<&str>| {
                name.map_or(NamePattern::Any, |name| NamePattern::Exact(name.into()))
            };
            assert_eq!(
                (query.spec.schema, query.spec.table),
                (pattern(schema), pattern(table)),
                "{text}"
            );
        }
    }

    #[test]
    fn where_to_begin_is_the_last_event_before_the_parameter() {
        let since = |pairs: &[(&'static str, &'static str)]| {
            EventQuery::parse("apikey=k&table=t&since=now", &headers(pairs))
                .unwrap()
                .since
        };
        assert_eq!(since(&[]), Some(Since::Now));
        assert_eq!(
            since(&[("last-event-id", "c7")]),
            Some(Since::Cursor("c7".into()))
        );
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_a_word() {
        for (query, code) in [
            ("table=t", "unauthorized"),
            ("apikey=k", "table_missing"),
            ("apikey=k&topic=room", "unsupported"),
            ("apikey=k&table=t&event=insert", "event_invalid"),
            ("apikey=k&table=t&filter=nonsense", "filter_invalid"),
        ] {
            assert_eq!(
                EventQuery::parse(query, &headers(&[])).unwrap_err().code,
                code,
                "{query}"
            );
        }
    }
}
