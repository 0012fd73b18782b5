//! Requests made up from the OpenAPI document, sensible and hostile: none fails the server, and every answer is described.
//!
//! `PGRELAY_CHAT_CASES` says how many; a failing case is shrunk to its smallest form.
#![allow(clippy::unwrap_used, reason = "it fails the test")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use pgrelay_e2e::chat::{ChatServer, Document, Person};
use pgrelay_test_support::TestDatabase;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Map, Value, json};

const CASES: u32 = 1_500;

/// A request, before it is put into HTTP.
#[derive(Debug, Clone)]
struct Made {
    operation: usize,
    person: usize,
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: String,
}

/// Values that mean something in the database at hand.
type Known = Rc<Vec<String>>;

fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,20}".prop_map(Value::from),
        Just(json!("\u{0}")),
        Just(json!("x".repeat(5_000))),
        Just(json!({"big": "x".repeat(9_000)})),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
    .boxed()
}

/// Mostly what the schema asks for, sometimes anything.
fn value(schema: &Value, known: &Known) -> BoxedStrategy<Value> {
    let fitting = if let Some(choices) = schema["enum"].as_array() {
        select(choices.clone()).boxed()
    } else {
        match schema["type"].as_str() {
            Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
            Some("integer") => prop_oneof![0i64..12, any::<i64>()]
                .prop_map(Value::from)
                .boxed(),
            Some("object") => object(&schema["properties"], &[], known),
            _ => prop_oneof![
                4 => select((**known).clone()),
                1 => ".{1,30}",
                1 => "[a-z0-9]{1,6}",
            ]
            .prop_map(Value::from)
            .boxed(),
        }
    };
    prop_oneof![6 => fitting, 1 => anything()].boxed()
}

/// An object with these properties, each of them mostly there when it is required.
fn object(properties: &Value, required: &[Value], known: &Known) -> BoxedStrategy<Value> {
    let Some(properties) = properties.as_object() else {
        return prop::collection::btree_map(".{0,8}", anything(), 0..3)
            .prop_map(|map| json!(map))
            .boxed();
    };
    let members: Vec<_> = properties
        .iter()
        .map(|(name, schema)| {
            let likely = if required.contains(&json!(name)) {
                0.95
            } else {
                0.4
            };
            let name = name.clone();
            prop::option::weighted(likely, value(schema, known))
                .prop_map(move |value| (name.clone(), value))
        })
        .collect();
    members
        .prop_map(|members| {
            let given: Map<_, _> = members
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            Value::Object(given)
        })
        .boxed()
}

fn as_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), String::from)
}

fn made(document: &Document, known: &Known, persons: usize) -> BoxedStrategy<Made> {
    let operations: Vec<_> = document
        .operations()
        .into_iter()
        .enumerate()
        .map(|(index, (_, _, operation))| made_for(index, &operation, known, persons))
        .collect();
    prop::strategy::Union::new(operations).boxed()
}

fn made_for(index: usize, operation: &Value, known: &Known, persons: usize) -> BoxedStrategy<Made> {
    let parameters: Vec<_> = operation["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|parameter| {
            let place = parameter["in"].as_str().unwrap().to_owned();
            let name = parameter["name"].as_str().unwrap().to_owned();
            let likely = if parameter["required"] == true {
                0.95
            } else {
                0.4
            };
            prop::option::weighted(likely, value(&parameter["schema"], known)).prop_map(
                move |value| {
                    (
                        place.clone(),
                        name.clone(),
                        value.map(|value| as_text(&value)),
                    )
                },
            )
        })
        .collect();
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let body = prop_oneof![
        12 => object(&schema["properties"], &required, known).prop_map(|body| body.to_string()),
        1 => ".{0,40}",
        1 => anything().prop_map(|body| body.to_string()),
    ];
    (parameters, body, 0..persons)
        .prop_map(move |(parameters, body, person)| {
            let of = |wanted: &str| {
                parameters
                    .iter()
                    .filter(|(place, ..)| place == wanted)
                    .filter_map(|(_, name, value)| Some((name.clone(), value.clone()?)))
                    .collect()
            };
            Made {
                operation: index,
                person,
                path: of("path"),
                query: of("query"),
                headers: of("header"),
                body,
            }
        })
        .boxed()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

fn address(pattern: &str, made: &Made) -> String {
    let mut path = pattern.to_owned();
    for (name, value) in &made.path {
        path = path.replace(&format!("{{{name}}}"), &encoded(value));
    }
    // An empty part would be another route.
    path = path.replace("{booking}", "%20").replace("//", "/%20/");
    if path.ends_with('/') {
        path.push_str("%20");
    }
    let query: Vec<_> = made
        .query
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    format!("{path}?{}", query.join("&"))
}

/// A database with something in it, and people who ask.
struct Desk {
    server: ChatServer,
    document: Document,
    operations: Vec<(String, String, Value)>,
    persons: Vec<Person>,
    known: Vec<String>,
}

impl Desk {
    async fn open() -> Self {
        let server = ChatServer::start_on(TestDatabase::create().await, 50).await;
        let document = Document::load(&server).await;
        let (client, operator) = (Person::client(), Person::operator("Dana"));
        let words = [
            "REQ1", "req2", "accepted", "deployed", "on_hold", "k1", "k2", "1-3", "2",
        ];
        let mut known = Vec::from(words.map(String::from));
        known.push(operator.id().to_string());
        for code in ["REQ1", "REQ2"] {
            known.push(server.open_booking(code, &client).await);
            let body = json!({"bookingId": code, "content": "Hello", "client_id": "k1"});
            let message = server
                .post(&client, "/api/messages", body)
                .await
                .expect(201);
            known.push(message["message"]["id"].as_str().unwrap().to_owned());
        }
        Self {
            operations: document.operations(),
            document,
            server,
            persons: vec![
                client,
                operator,
                Person::service(),
                Person::client(),
                Person::visitor(),
                Person::stranger(),
            ],
            known,
        }
    }

    /// The status of the answer, or what is wrong with it.
    async fn ask(&self, made: &Made) -> Result<u16, String> {
        let (method, pattern, operation) = &self.operations[made.operation];
        // What a header cannot carry is left out.
        let is_plain =
            |value: &str| !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic());
        let headers: Vec<_> = made
            .headers
            .iter()
            .filter(|(_, value)| is_plain(value))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let who = &self.persons[made.person];
        let path = address(pattern, made);
        let answer = self
            .server
            .ask_with(who, method, &path, &headers, made.body.clone())
            .await;
        if answer.status >= 500 {
            return Err(format!(
                "{method} {path}: {} {}",
                answer.status, answer.json
            ));
        }
        match self.document.judge(operation, &answer) {
            None => Ok(answer.status),
            Some(wrong) => Err(format!("{method} {path}: {wrong} in {}", answer.json)),
        }
    }
}

#[test]
fn no_request_fails_the_server_and_every_answer_is_described() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let desk = runtime.block_on(Desk::open());
    let known = Rc::new(desk.known.clone());
    let requests = made(&desk.document, &known, desk.persons.len());
    let mut runner = TestRunner::new(Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    });
    let seen = RefCell::new(BTreeSet::new());
    let outcome = runner.run(&requests, |made| {
        let status = runtime
            .block_on(desk.ask(&made))
            .map_err(TestCaseError::fail)?;
        seen.borrow_mut().insert(status);
        Ok(())
    });
    let _in_context = runtime.enter();
    if let Err(error) = outcome {
        panic!("{error}");
    }
    println!("statuses seen: {:?}", seen.borrow());
    for status in [200, 201, 400, 401, 403, 404, 422] {
        assert!(
            seen.borrow().contains(&status),
            "the requests were too tame: no {status}"
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test's environment, not the product's"
)]
fn cases() -> u32 {
    std::env::var("PGRELAY_CHAT_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(CASES)
}
