//! Values behind small keys that never mean another value.
//!
//! Timers and answers of the database outlive what they were meant for; their keys then find
//! nothing instead of whoever moved in.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
};

/// Names a value in a table whose places are used again: 8 bytes.
pub struct Key<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

/// A growing table with reusable places.
pub(crate) struct Arena<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                generation: 0,
                value: None,
            });
            u32::try_from(self.places.len() - 1).expect("an arena has less than 2^32 places")
        });
        let place = &mut self.places[index as usize];
        place.value = Some(value);
        Key::new(index, place.generation)
    }

    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let place = self
            .places
            .get_mut(key.index as usize)
            .filter(|place| place.generation == key.generation)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        place
            .value
            .as_ref()
            .filter(|_| place.generation == key.generation)
    }

    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        place
            .value
            .as_mut()
            .filter(|_| place.generation == key.generation)
    }

    /// The key of the value at `index`, for tables that keep indexes only.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key<T>> {
        let place = self.places.get(index as usize)?;
        place
            .value
            .as_ref()
            .map(|_| Key::new(index, place.generation))
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> + Clone {
        (0..).zip(&self.places).filter_map(|(index, place)| {
            Some((Key::new(index, place.generation), place.value.as_ref()?))
        })
    }

    pub(crate) fn keys(&self) -> Vec<Key<T>> {
        self.iter().map(|(key, _)| key).collect()
    }
}

impl<T> fmt::Debug for Arena<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} values)", self.len())
    }
}

impl<T> Key<T> {
    const fn new(index: u32, generation: u32) -> Self {
        Self {
            index,
            generation,
            of: PhantomData,
        }
    }

    /// A key without an arena.
    #[cfg(test)]
    pub(crate) const fn of(index: u32) -> Self {
        Self::new(index, 0)
    }

    /// The place, without the generation.
    pub(crate) const fn index(self) -> u32 {
        self.index
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}

impl<T> Eq for Key<T> {}

impl<T> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.index) << 32 | u64::from(self.generation));
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_finds_its_successor() {
        let mut arena = Arena::new();
        let first = arena.insert("a");
        assert_eq!(arena.remove(first), Some("a"));
        let second = arena.insert("b");
        assert_eq!(second.index(), first.index());
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.get_mut(first), None);
        assert_eq!(arena.remove(first), None);
        assert_eq!((arena.get(second), arena.len()), (Some(&"b"), 1));
        assert_eq!(arena.keys(), [second]);
        assert_eq!(arena.key_at(0), Some(second));
    }
}
