//! Puts the versions of one row back into the order in which they were made.
//!
//! Inside one transaction a user's own AFTER trigger can change a row whose capture trigger has not
//! had its turn yet; the later version is then logged first. Each version knows the version it was
//! built on, so the versions of such a row are dealt out again among the places (`seq`) they hold:
//! the same on every node, whether live or replayed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

/// "The change at `seq` was built on the version that the change at `after` made."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) seq: i64,
    pub(crate) after: i64,
}

/// Which logged change belongs at which place: place -> logged seq. Places that keep their own
/// change are left out. `links` holds every link of each row that has one out of order.
///
/// A place on disk can be used twice in one transaction (TRUNCATE, then INSERT), which gives a change
/// several candidates; it was built on the latest one before it.
pub(crate) fn reorder(links: &[Link]) -> HashMap<i64, i64> {
    let mut predecessor: BTreeMap<i64, i64> = BTreeMap::new();
    for link in links.iter().filter(|link| link.seq != link.after) {
        let better = predecessor
            .get(&link.seq)
            .is_none_or(|known| closer(link.seq, link.after, *known));
        if better {
            predecessor.insert(link.seq, link.after);
        }
    }
    let mut moved = HashMap::new();
    for members in components(&predecessor).into_values() {
        let order = in_order(&members, &predecessor);
        for (place, logged) in members.into_iter().zip(order) {
            if place != logged {
                moved.insert(place, logged);
            }
        }
    }
    moved
}

/// Whether `a` is a likelier predecessor of `seq` than `b`.
fn closer(seq: i64, a: i64, b: i64) -> bool {
    match (a < seq, b < seq) {
        (true, true) => a > b,
        (false, false) => a < b,
        (a_is_before, _) => a_is_before,
    }
}

/// Changes that hang together, by any of them; members ascend.
fn components(predecessor: &BTreeMap<i64, i64>) -> BTreeMap<i64, Vec<i64>> {
    let mut root: HashMap<i64, i64> = HashMap::new();
    fn find(root: &mut HashMap<i64, i64>, mut seq: i64) -> i64 {
        while let Some(&up) = root.get(&seq).filter(|up| **up != seq) {
            let above = root.get(&up).copied().unwrap_or(up);
            root.insert(seq, above);
            seq = above;
        }
        seq
    }
    for (&seq, &after) in predecessor {
        let (a, b) = (find(&mut root, seq), find(&mut root, after));
        root.entry(a).or_insert(a);
        root.insert(b, a);
    }
    let mut seqs: Vec<i64> = predecessor.iter().flat_map(|(a, b)| [*a, *b]).collect();
    seqs.sort_unstable();
    seqs.dedup();
    let mut out: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for seq in seqs {
        out.entry(find(&mut root, seq)).or_default().push(seq);
    }
    out
}

/// Every change after its predecessor, else by seq. What a cycle would hold, which cannot be made,
/// keeps its order at the end.
fn in_order(members: &[i64], predecessor: &BTreeMap<i64, i64>) -> Vec<i64> {
    let mut followers: HashMap<i64, Vec<i64>> = HashMap::new();
    let mut ready = BinaryHeap::new();
    for &seq in members {
        match predecessor.get(&seq) {
            Some(&after) => followers.entry(after).or_default().push(seq),
            None => ready.push(Reverse(seq)),
        }
    }
    let mut out = Vec::with_capacity(members.len());
    while let Some(Reverse(seq)) = ready.pop() {
        out.push(seq);
        ready.extend(followers.remove(&seq).into_iter().flatten().map(Reverse));
    }
    let mut left: Vec<i64> = followers.into_values().flatten().collect();
    left.sort_unstable();
    out.extend(left);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(links: &[(i64, i64)], places: &[i64], want: &[i64]) {
        let links: Vec<Link> = links
            .iter()
            .map(|&(seq, after)| Link { seq, after })
            .collect();
        let moved = reorder(&links);
        let got: Vec<i64> = places
            .iter()
            .map(|place| moved.get(place).copied().unwrap_or(*place))
            .collect();
        assert_eq!(got, want, "{links:?}");
    }

    #[test]
    fn versions_logged_in_order_stay() {
        check(&[], &[1, 2], &[1, 2]);
        check(&[(2, 1), (3, 2)], &[1, 2, 3], &[1, 2, 3]);
    }

    #[test]
    fn an_update_logged_before_its_insert_changes_places_with_it() {
        check(&[(1, 2)], &[1, 2], &[2, 1]);
    }

    #[test]
    fn a_chain_of_three_is_dealt_out_whole() {
        // v2 at 5, v3 at 6, v1 at 7.
        check(&[(5, 7), (6, 5)], &[5, 6, 7], &[7, 5, 6]);
    }

    #[test]
    fn rows_do_not_disturb_each_other() {
        check(&[(1, 4), (2, 3)], &[1, 2, 3, 4], &[4, 3, 2, 1]);
        check(&[(1, 3)], &[1, 2, 3], &[3, 2, 1]);
    }

    #[test]
    fn a_place_on_disk_that_was_used_twice_means_the_latest_version_before() {
        // INSERT at 1, TRUNCATE, INSERT at 3 to the same place, UPDATE at 4 of the second one.
        check(&[(4, 1), (4, 3)], &[1, 3, 4], &[1, 3, 4]);
        // UPDATE at 2 of the first one, whose place the INSERT at 3 takes again.
        check(&[(2, 1), (2, 3)], &[1, 2, 3], &[1, 2, 3]);
    }

    #[test]
    fn nonsense_loses_nothing() {
        check(&[(1, 2), (2, 1), (3, 3)], &[1, 2], &[1, 2]);
    }

    proptest! {
        /// One row whose versions were logged in any order comes out in the order they were made.
        #[test]
        fn any_order_of_logging_is_mended(logged in Just((1..=8_i64).collect::<Vec<_>>()).prop_shuffle()) {
            // logged[v] is the seq of version v.
            let links: Vec<Link> = logged.windows(2).map(|pair| Link { seq: pair[1], after: pair[0] }).collect();
            let moved = reorder(&links);
            let got: Vec<i64> = (1..=8).map(|place| moved.get(&place).copied().unwrap_or(place)).collect();
            prop_assert_eq!(got, logged);
        }
    }
}
