//! Everybody who wants to know who is present comes to the same answer, whatever the order of what happens: from seeds.

use std::collections::BTreeMap;

use super::*;

const SEEDS: u64 = 10_000;
const SHARDS: usize = 3;

/// A client, and what it made of what it was told.
struct Member {
    person: Person,
    private: bool,
    key: String,
    tracks: Option<u64>,
    /// By reference: the key and what is tracked.
    seen: BTreeMap<String, (String, u64)>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

fn entries(crowd: &Value) -> Vec<(String, (String, u64))> {
    let of_key = |(key, value): (&String, &Value)| {
        let metas = value["metas"].as_array().unwrap().clone();
        let key = key.clone();
        metas.into_iter().map(move |meta| {
            let reference = meta["phx_ref"].as_str().unwrap().to_owned();
            (reference, (key.clone(), meta["n"].as_u64().unwrap()))
        })
    };
    crowd.as_object().unwrap().iter().flat_map(of_key).collect()
}

impl Member {
    fn listen(&mut self, town: &mut Town) {
        for frame in town.take(self.person) {
            match frame[3].as_str() {
                Some("presence_state") => self.seen = entries(&frame[4]).into_iter().collect(),
                Some("presence_diff") => {
                    self.seen.extend(entries(&frame[4]["joins"]));
                    for (reference, _) in entries(&frame[4]["leaves"]) {
                        self.seen.remove(&reference);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Lets one shard do one thing.
fn nudge(town: &mut Town, random: &mut Random) {
    let shard = random.below(SHARDS);
    match random.below(3) {
        0 => drop(town.act(shard, |engine, turn| engine.step(turn))),
        1 => {
            if let Some((to, errand)) = town.shards[shard].0.next_errand() {
                town.shards[to].0.run(errand);
            }
        }
        _ => {
            if let Some((to, delivery)) = town.shards[shard].0.next_delivery() {
                town.shards[to].0.take_delivery(delivery);
            }
        }
    }
}

fn enter(town: &mut Town, random: &mut Random) -> Member {
    let shard = random.below(SHARDS);
    let person = town.person(shard, Vsn::V2);
    let private = random.below(4) == 0;
    let key = ["ann", "bob", "cy"][random.below(3)].to_owned();
    let config = json!({"private": private, "presence": {"enabled": true, "key": key}});
    town.push(person, "phx_join", &json!({ "config": config }));
    town.answer(shard, ALL);
    Member {
        person,
        private,
        key,
        tracks: None,
        seen: BTreeMap::new(),
    }
}

fn act(town: &mut Town, members: &mut Vec<Member>, random: &mut Random, turn: u64) {
    if members.len() < 2 || (members.len() < 8 && random.below(4) == 0) {
        members.push(enter(town, random));
        return;
    }
    let place = random.below(members.len());
    let person = members[place].person;
    match random.below(8) {
        0..4 => {
            members[place].tracks = Some(turn);
            let track = json!({"event": "track", "payload": {"n": turn}});
            town.push(person, "presence", &track);
        }
        4 => {
            members[place].tracks = None;
            town.push(person, "presence", &json!({"event": "untrack"}));
        }
        5 => {
            members.swap_remove(place);
            town.push(person, "phx_leave", &json!({}));
        }
        6 => {
            members.swap_remove(place);
            town.shards[person.shard].0.disconnect(person.client);
        }
        _ => members[place].listen(town),
    }
}

fn run(seed: u64) {
    let (mut town, mut random) = (Town::new(SHARDS), Random(seed));
    let mut members = Vec::new();
    for turn in 0..40 + u64::try_from(random.below(40)).unwrap() {
        act(&mut town, &mut members, &mut random, turn);
        for _ in 0..random.below(6) {
            nudge(&mut town, &mut random);
        }
    }
    town.settle(random.below(SHARDS));
    for member in &mut members {
        member.listen(&mut town);
    }
    for member in &members {
        let mut present: Vec<(String, u64)> = members
            .iter()
            .filter(|other| other.private == member.private)
            .filter_map(|other| Some((other.key.clone(), other.tracks?)))
            .collect();
        let mut seen: Vec<_> = member.seen.values().cloned().collect();
        present.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, present, "seed {seed}");
    }
}

#[test]
fn everybody_sees_who_is_present_under_any_interleaving() {
    (0..SEEDS).for_each(run);
}
