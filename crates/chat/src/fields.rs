//! What a request says, field by field. A field may have several names; saying two different things
//! under them is refused, and so is anything of the wrong type, naming the field.

use std::collections::BTreeMap;

use axum::{
    extract::{FromRequestParts, Query, rejection::QueryRejection},
    http::request::Parts,
};
use serde_json::{Map, Value};

use crate::{code::Code, error::Failure, refusal::Refusal};

/// The names under which a booking is given.
pub(crate) const BOOKING: &[&str] = &["bookingId", "booking_id"];

/// An object of named values; null is as good as absent.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn new(values: Map<String, Value>) -> Self {
        Self(values)
    }

    /// Text without NUL, which PostgreSQL cannot store.
    pub(crate) fn text(&self, names: &[&str]) -> Result<Option<&str>, Refusal> {
        match self.get(names)? {
            None => Ok(None),
            Some((_, Value::String(text))) if !text.contains('\0') => Ok(Some(text)),
            Some((name, _)) => Err(wrong(name, "text")),
        }
    }

    /// A whole number from 0, also as text, which is how queries carry it.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some((_, value)) = self.get(&[name])? else {
            return Ok(None);
        };
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number >= 0 => Ok(Some(number)),
            _ => Err(wrong(name, "a whole number from 0")),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(&[name])? {
            None => Ok(None),
            Some((_, Value::Bool(flag))) => Ok(Some(*flag)),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, Refusal> {
        match self.get(&[name])? {
            None => Ok(None),
            Some((_, Value::Object(object))) => Ok(Some(object)),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    fn get<'n>(&self, names: &[&'n str]) -> Result<Option<(&'n str, &Value)>, Refusal> {
        let mut given = names
            .iter()
            .filter_map(|name| Some((*name, self.0.get(*name).filter(|value| !value.is_null())?)));
        let Some(first) = given.next() else {
            return Ok(None);
        };
        match given.find(|(_, value)| *value != first.1) {
            None => Ok(Some(first)),
            Some((name, _)) => {
                let message = format!("{} and {name} say different things.", first.0);
                Err(Refusal::say(Code::InvalidRequest, message).field(name))
            }
        }
    }
}

pub(crate) fn wrong(name: &str, expected: &str) -> Refusal {
    Refusal::say(Code::InvalidRequest, format!("{name} must be {expected}.")).field(name)
}

/// The query of a request.
#[derive(Debug)]
pub(crate) struct QueryFields(pub(crate) Fields);

impl<S: Send + Sync> FromRequestParts<S> for QueryFields {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let Query(values) =
            query.map_err(|_rejection: QueryRejection| Refusal::new(Code::InvalidRequest))?;
        let values = values
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)));
        Ok(Self(Fields::new(values.collect())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(values) = value else {
            panic!("an object")
        };
        Fields::new(values)
    }

    #[test]
    fn one_value_under_two_names() {
        let names = &["content", "message"];
        let text = |value| {
            fields(value)
                .text(names)
                .map(|text| text.map(String::from))
                .map_err(|refusal| refusal.code())
        };
        assert_eq!(text(json!({})), Ok(None));
        assert_eq!(text(json!({"message": null})), Ok(None));
        assert_eq!(text(json!({"message": "a"})), Ok(Some("a".into())));
        assert_eq!(
            text(json!({"message": "a", "content": "a"})),
            Ok(Some("a".into()))
        );
        assert_eq!(
            text(json!({"message": "a", "content": "b"})),
            Err(Code::InvalidRequest)
        );
        assert_eq!(text(json!({"message": 1})), Err(Code::InvalidRequest));
        assert_eq!(
            text(json!({"message": "a\u{0}"})),
            Err(Code::InvalidRequest)
        );
    }

    #[test]
    fn numbers_are_whole_and_not_negative() {
        let number = |value| {
            fields(json!({"n": value}))
                .number("n")
                .map_err(|refusal| refusal.code())
        };
        assert_eq!(number(json!(0)), Ok(Some(0)));
        assert_eq!(number(json!("12")), Ok(Some(12)));
        for wrong in [json!(-1), json!(1.5), json!("x"), json!(1e30), json!([])] {
            assert_eq!(number(wrong), Err(Code::InvalidRequest));
        }
    }
}
