//! A set of bindings, most often of one.

use std::collections::BTreeSet;

use super::BindingIndex;

/// 16 bytes; only a set of several has an allocation.
#[derive(Debug, Default)]
pub(super) enum Members {
    #[default]
    None,
    One(BindingIndex),
    #[expect(
        clippy::box_collection,
        reason = "16 bytes instead of 24 for every single listener"
    )]
    Many(Box<BTreeSet<BindingIndex>>),
}

impl Members {
    pub(super) fn insert(&mut self, binding: BindingIndex) {
        match self {
            Self::None => *self = Self::One(binding),
            Self::One(only) if *only == binding => {}
            Self::One(only) => *self = Self::Many(Box::new(BTreeSet::from([*only, binding]))),
            Self::Many(set) => {
                set.insert(binding);
            }
        }
    }

    /// Whether `binding` was a member.
    pub(super) fn remove(&mut self, binding: BindingIndex) -> bool {
        match self {
            Self::One(only) if *only == binding => {
                *self = Self::None;
                true
            }
            Self::None | Self::One(_) => false,
            Self::Many(set) => {
                let removed = set.remove(&binding);
                if set.len() == 1 {
                    *self = set.first().map_or(Self::None, |last| Self::One(*last));
                }
                removed
            }
        }
    }

    pub(super) fn contains(&self, binding: BindingIndex) -> bool {
        match self {
            Self::None => false,
            Self::One(only) => *only == binding,
            Self::Many(set) => set.contains(&binding),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = BindingIndex> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(only) => (Some(*only), None),
            Self::Many(set) => (None, Some(set.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
