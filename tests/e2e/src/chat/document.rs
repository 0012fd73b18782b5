//! The OpenAPI document as a judge of answers, and its schemas as a source of requests.

use serde_json::{Map, Value};

use super::{Answer, ChatServer, Person};

/// The served document.
#[derive(Debug, Clone)]
pub struct Document(Value);

impl Document {
    /// As `server` serves it.
    pub async fn load(server: &ChatServer) -> Self {
        Self(
            server
                .get(&Person::stranger(), "/api/openapi.json")
                .await
                .expect(200),
        )
    }

    /// Every operation: method, path and description.
    pub fn operations(&self) -> Vec<(String, String, Value)> {
        let paths = self.0["paths"].as_object().unwrap();
        paths
            .iter()
            .flat_map(|(path, operations)| {
                operations
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(method, operation)| {
                        (method.to_uppercase(), path.clone(), operation.clone())
                    })
            })
            .collect()
    }

    /// What is wrong with an answer, if anything: its status or its body is not described.
    pub fn judge(&self, operation: &Value, answer: &Answer) -> Option<String> {
        let response = &operation["responses"][answer.status.to_string()];
        if response.is_null() {
            return Some(format!("status {} is not described", answer.status));
        }
        let schema = &response["content"]["application/json"]["schema"];
        if schema.is_null() {
            return (!answer.json.is_null()).then(|| "a body is not described".into());
        }
        if answer.status >= 400 {
            let code = answer.json["error"]["code"].as_str().unwrap_or_default();
            if !response["description"]
                .as_str()
                .unwrap()
                .split(", ")
                .any(|word| word == code)
            {
                return Some(format!(
                    "code {code:?} is not described for {}",
                    answer.status
                ));
            }
        }
        self.mismatch(schema, &answer.json, "body")
    }

    /// Follows a reference.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self
                .0
                .pointer(reference.trim_start_matches('#'))
                .expect("a schema"),
            None => schema,
        }
    }

    fn mismatch(&self, schema: &Value, value: &Value, place: &str) -> Option<String> {
        let schema = self.resolve(schema);
        if let Some(choices) = schema["oneOf"].as_array() {
            let failures: Vec<_> = choices
                .iter()
                .map(|choice| self.mismatch(choice, value, place))
                .collect();
            let fits = failures.iter().filter(|failure| failure.is_none()).count();
            return (fits != 1).then(|| format!("{place} fits {fits} of oneOf: {failures:?}"));
        }
        if !types(schema).iter().any(|name| is_of_type(value, name)) {
            return Some(format!("{place} is {value}, not {:?}", schema["type"]));
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            return Some(format!("{place} is {value}, not one of {allowed:?}"));
        }
        if let (Some(minimum), Some(number)) = (schema["minimum"].as_i64(), value.as_i64())
            && number < minimum
        {
            return Some(format!("{place} is {number}, below {minimum}"));
        }
        match value {
            Value::Object(members) => self.object_mismatch(schema, members, place),
            Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
                self.mismatch(&schema["items"], item, &format!("{place}[{index}]"))
            }),
            Value::String(text) => format_mismatch(schema, text, place),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    fn object_mismatch(
        &self,
        schema: &Value,
        members: &Map<String, Value>,
        place: &str,
    ) -> Option<String> {
        let missing = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|name| !members.contains_key(name.as_str().unwrap()));
        if let Some(name) = missing {
            return Some(format!("{place} lacks {name}"));
        }
        let properties = schema["properties"].as_object()?;
        members.iter().find_map(|(name, member)| {
            let place = format!("{place}.{name}");
            match properties.get(name) {
                Some(schema) => self.mismatch(schema, member, &place),
                // A refusal may say more than is described for all of them.
                None => {
                    (!place.starts_with("body.error.")).then(|| format!("{place} is not described"))
                }
            }
        })
    }
}

/// The types that a schema permits.
fn types(schema: &Value) -> Vec<String> {
    match &schema["type"] {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
        other => panic!("a schema without a type: {other} in {schema}"),
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}

fn format_mismatch(schema: &Value, text: &str, place: &str) -> Option<String> {
    let fits = match schema["format"].as_str() {
        None => true,
        Some("uuid") => uuid::Uuid::parse_str(text).is_ok(),
        // 2026-01-31T12:00:00.123456+00:00, the fraction as long as it has to be.
        Some("date-time") => {
            let shape: String = text
                .chars()
                .map(|c| if c.is_ascii_digit() { '9' } else { c })
                .collect();
            shape.starts_with("9999-99-99T99:99:99") && text.ends_with("+00:00")
        }
        Some(other) => panic!("unknown format {other}"),
    };
    (!fits).then(|| format!("{place} is {text:?}, no {}", schema["format"]))
}
