//! 64 writers at once. What the database promises must hold however they meet.
//!
//! Bounded in `make test`; `PGRELAY_CHAT_SECONDS=60` makes it run for that long, with a new seed each time.
#![allow(clippy::unwrap_used, reason = "it fails the test")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use pgrelay_e2e::chat::{ChatServer, Person};
use pgrelay_test_support::Session;
use serde_json::{Value, json};
use tokio::time::Instant;

const WRITERS: usize = 64;
const BOOKINGS: usize = 3;
const STEPS: usize = 12;

/// Watches from inside the transactions, where nothing can be missed.
const WITNESSES: &str = "
    create table public.seen (kind text, xid xid8 default pg_current_xact_id(), booking_id uuid, lowered boolean);
    create function witness() returns trigger language plpgsql security definer as $$
    begin
      if tg_table_name = 'bookings' then
        insert into public.seen (kind, booking_id) values ('changed', new.id);
      elsif tg_table_name = 'messages' then
        insert into public.seen (kind, booking_id) values ('told', new.booking_id);
      else
        insert into public.seen (kind, booking_id, lowered) values
          ('receipt', new.booking_id, new.read_seq < old.read_seq or new.delivered_seq < old.delivered_seq);
      end if;
      return null;
    end $$;
    create trigger witness after insert or update on bookings for each row execute function witness();
    create trigger witness after insert on messages for each row
      when (new.metadata ? 'status_version') execute function witness();
    create trigger witness after update on receipts for each row execute function witness();";

struct Desk {
    server: ChatServer,
    bookings: Vec<(String, Person)>,
    operators: Vec<Person>,
    /// What each (booking, client_id) was answered with.
    answered: RefCell<HashMap<(usize, String), String>>,
    /// Messages that were answered: id, booking, number.
    sent: RefCell<Vec<(String, usize, i64)>>,
    /// The highest number that each (booking, person) has acknowledged.
    acknowledged: RefCell<HashMap<(usize, String), i64>>,
    refused: Cell<usize>,
}

/// A small generator, so that a seed repeats a run as far as the database's timing allows.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }
}

impl Desk {
    async fn open() -> Self {
        let server = ChatServer::start().await;
        server.database().connect().await.run(WITNESSES).await;
        let mut bookings = Vec::new();
        for n in 0..BOOKINGS {
            let client = Person::client();
            bookings.push((
                server.open_booking(&format!("REQ{n}"), &client).await,
                client,
            ));
        }
        Self {
            server,
            bookings,
            operators: vec![Person::operator("Dana"), Person::operator("Luis")],
            answered: RefCell::default(),
            sent: RefCell::default(),
            acknowledged: RefCell::default(),
            refused: Cell::new(0),
        }
    }

    /// One thing that somebody does. Only refusals that their timing can explain are accepted.
    async fn step(&self, dice: &mut Dice) {
        let booking = dice.roll(BOOKINGS);
        let (id, client) = &self.bookings[booking];
        let operator = &self.operators[dice.roll(2)];
        let who = if dice.roll(2) == 0 { client } else { operator };
        match dice.roll(8) {
            0..=2 => self.send(booking, dice).await,
            3 => {
                let status = [
                    "accepted",
                    "deployed",
                    "completed",
                    "cancelled",
                    "pending",
                    "paused",
                    "waiting",
                ][dice.roll(7)];
                let mut body =
                    json!({"bookingId": id, "status": status, "force": dice.roll(4) == 0});
                if dice.roll(3) == 0 {
                    body["expected_version"] = json!(dice.roll(20));
                }
                self.ask(
                    operator,
                    "PATCH",
                    "/api/bookings/status",
                    body,
                    &[200, 409, 422],
                )
                .await;
            }
            4 => {
                if let Some((message, ..)) = self.sent_message(dice) {
                    let body = json!({ "id": message });
                    self.ask(who, "DELETE", "/api/messages", body, &[200, 403, 404])
                        .await;
                }
            }
            5 => {
                if let Some((_, booking, seq)) = self.sent_message(dice) {
                    self.acknowledge(booking, seq, operator, dice).await;
                }
            }
            6 => {
                let body = json!({"bookingId": id, "content": "internal", "message_type": "note"});
                self.ask(operator, "POST", "/api/messages", body, &[201])
                    .await;
            }
            _ => self.write_plain_sql(id, dice).await,
        }
    }

    fn sent_message(&self, dice: &mut Dice) -> Option<(String, usize, i64)> {
        let sent = self.sent.borrow();
        sent.get(dice.roll(sent.len().max(1))).cloned()
    }

    async fn acknowledge(&self, booking: usize, seq: i64, operator: &Person, dice: &mut Dice) {
        let (id, client) = &self.bookings[booking];
        let who = if dice.roll(2) == 0 { client } else { operator };
        let body = json!({"bookingId": id, "delivered_seq": seq, "read_seq": seq / 2});
        self.ask(who, "POST", "/api/receipts", body, &[204]).await;
        let mut acknowledged = self.acknowledged.borrow_mut();
        let highest = acknowledged
            .entry((booking, who.id().to_string()))
            .or_default();
        *highest = seq.max(*highest);
    }

    /// Often under a name that is taken, or being taken.
    async fn send(&self, booking: usize, dice: &mut Dice) {
        let (id, client) = &self.bookings[booking];
        let key = match dice.roll(2) {
            0 => format!("k{}", dice.roll(60)),
            _ => uuid::Uuid::new_v4().to_string(),
        };
        let body = json!({"bookingId": id, "content": format!("text of {key}"), "client_id": key});
        let send = || self.ask(client, "POST", "/api/messages", body.clone(), &[200, 201]);
        let (first, second) = futures::join!(send(), send());
        for answer in [first, second] {
            let message = answer["message"]["id"].as_str().unwrap().to_owned();
            let seq = answer["message"]["seq"].as_i64().unwrap();
            self.sent.borrow_mut().push((message.clone(), booking, seq));
            let mut answered = self.answered.borrow_mut();
            let known = answered
                .entry((booking, key.clone()))
                .or_insert_with(|| message.clone());
            assert_eq!(*known, message, "two messages under one client_id");
        }
    }

    /// As services and `psql` do, with rows that come to nothing.
    async fn write_plain_sql(&self, id: &str, dice: &mut Dice) {
        let session = self.server.database().connect().await;
        let insert = format!(
            "insert into messages (booking_id, client_id, sender_role, content)
             values ('{id}', 'sql{}', 'client', 'a'), ('{id}', 'sql{}', 'operator', 'b')
             on conflict (booking_id, client_id) do nothing",
            dice.roll(30),
            dice.roll(30)
        );
        let end = if dice.roll(2) == 0 {
            "commit"
        } else {
            "rollback"
        };
        session.run(&format!("begin; {insert}; {end}")).await;
    }

    async fn ask(
        &self,
        who: &Person,
        method: &str,
        path: &str,
        body: Value,
        expected: &[u16],
    ) -> Value {
        let answer = self.server.ask(who, method, path, Some(body)).await;
        assert!(
            expected.contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            answer.json
        );
        self.refused
            .set(self.refused.get() + usize::from(answer.status >= 400));
        answer.json
    }

    async fn check(&self) {
        let session = self.server.database().connect().await;
        for (what, offenders) in [
            ("a gap in the numbers", "select booking_id from messages group by 1 having count(*) <> max(seq) or min(seq) <> 1"),
            ("a later number with an earlier time", "select seq from (select seq, created_at, lag(created_at) over (partition by booking_id order by seq) as before from messages) m where created_at < before"),
            ("a client_id twice", "select client_id from messages group by booking_id, client_id having count(*) > 1"),
            (
                "a status change without its system message, or the reverse",
                "select xid from seen where kind in ('changed', 'told') group by xid, booking_id
                 having count(*) filter (where kind = 'changed') <> 1 or count(*) filter (where kind = 'told') <> 1",
            ),
            (
                "a version without its line in the history and its message",
                "select b.id from bookings b cross join generate_series(1, b.status_version) v
                   left join booking_status_history h on h.booking_id = b.id and h.version = v
                   left join messages m on m.id = h.message_id and m.message_type = 'system' and m.content is not null
                                       and m.metadata ->> 'status' = h.to_status
                  where m.id is null",
            ),
            ("a receipt that moved back", "select booking_id from seen where lowered"),
            (
                "an inbox row that is not what the messages say",
                "select i.booking_id from pgrelay_chat.inbox i join bookings b on b.id = i.booking_id
                  where i.status <> b.status
                     or i.last_seq <> (select max(seq) from messages m where m.booking_id = b.id and m.message_type <> 'note')
                     or i.unread <> (select count(*) from messages m where m.booking_id = b.id and m.seq > i.read_seq
                                        and m.sender_role = 'client' and m.message_type = 'text' and m.deleted_at is null)
                     or i.waiting_since is distinct from (
                          select min(m.created_at) from messages m where m.booking_id = b.id and m.sender_role = 'client'
                             and m.message_type = 'text' and m.deleted_at is null
                             and m.seq > coalesce((select max(seq) from messages o where o.booking_id = b.id
                                                    and o.sender_role = 'operator' and o.message_type = 'text'), 0))",
            ),
        ] {
            assert_eq!(session.rows(offenders).await, Vec::<Vec<_>>::new(), "{what}");
        }
        self.check_receipts(&session).await;
    }

    /// Nothing acknowledged was lost.
    async fn check_receipts(&self, session: &Session) {
        let acknowledged = self.acknowledged.borrow().clone();
        assert!(!acknowledged.is_empty());
        for ((booking, person), highest) in &acknowledged {
            let id = &self.bookings[*booking].0;
            let sql = format!(
                "select delivered_seq from receipts where booking_id = '{id}' and participant_id = '{person}'"
            );
            assert_eq!(session.value(&sql).await, highest.to_string(), "{person}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_64_writers_do_at_once_keeps_every_promise() {
    let seconds = seconds();
    let seed = u64::try_from(uuid::Uuid::now_v7().as_u128() >> 80).unwrap() | 1;
    println!("seed {seed}, for {seconds:?} seconds");
    let desk = Desk::open().await;
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    join_all((0..WRITERS).map(async |writer| {
        let mut dice = Dice(seed.wrapping_mul(u64::try_from(writer).unwrap() * 2 + 1));
        let mut steps = 0;
        while steps < STEPS || Instant::now() < deadline {
            desk.step(&mut dice).await;
            steps += 1;
        }
    }))
    .await;
    let session = desk.server.database().connect().await;
    let told = session
        .value("select count(*) from seen where kind = 'told'")
        .await;
    let messages = session.value("select count(*) from messages").await;
    println!(
        "{messages} messages, {told} status changes, {} refusals",
        desk.refused.get()
    );
    assert_ne!(told, "0");
    assert_ne!(desk.refused.get(), 0);
    desk.check().await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test's environment, not the product's"
)]
fn seconds() -> Option<u64> {
    std::env::var("PGRELAY_CHAT_SECONDS").ok()?.parse().ok()
}
