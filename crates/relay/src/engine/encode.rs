//! The bytes of a change, written once per class of receivers.
//!
//! A class is everything that shows in the bytes: serializer version, topic, ids, columns, what may be
//! seen, and whether there is a cursor. Its members share one allocation.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use pgrelay_protocol::{CursorKey, Position, Topic, Vsn, server_frame};
use smallvec::SmallVec;

use super::subscription::Voice;
use crate::{
    FailPoint,
    change::Page,
    outlet::{Parcel, StreamEvent, StreamEventKind},
    project::write_data,
    view::View,
};

/// The columns of a class; equal lists are one allocation.
pub(super) type Select = Option<Arc<[Box<str>]>>;

/// Writes changes, one after the other.
#[derive(Debug)]
pub(super) struct Encoder {
    key: CursorKey,
    hasher: RandomState,
    /// The change that the rest belongs to.
    change: Option<(Arc<Page>, u32)>,
    cursor: Option<Arc<str>>,
    data: SmallVec<[(Select, View, Vec<u8>); 1]>,
    classes: HashTable<(Class, Parcel)>,
    /// The class asked for last: mostly the one asked for next.
    last: Option<(Class, Parcel)>,
    /// Classes written since this was last taken.
    pub(super) encoded: u64,
}

#[derive(Debug, Clone)]
struct Class {
    /// `None` for streams, which have neither version nor topic.
    channel: Option<(Vsn, Topic)>,
    ids: SmallVec<[u32; 2]>,
    select: Select,
    view: View,
    cursor: bool,
}

/// A [`Class`] by reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receivers<'a> {
    channel: Option<(Vsn, &'a Topic)>,
    ids: &'a [u32],
    select: &'a Select,
    view: &'a View,
    cursor: bool,
}

impl<'a> Receivers<'a> {
    pub(super) fn new(
        voice: &'a Voice,
        ids: &'a [u32],
        select: &'a Select,
        view: &'a View,
        cursor: bool,
    ) -> Self {
        let channel = match voice {
            Voice::Channel { vsn, topic, .. } => Some((*vsn, topic)),
            Voice::Stream => None,
        };
        Self {
            channel,
            ids,
            select,
            view,
            cursor,
        }
    }

    fn to_class(self) -> Class {
        let channel = self.channel.map(|(vsn, topic)| (vsn, topic.clone()));
        Class {
            channel,
            ids: self.ids.into(),
            select: self.select.clone(),
            view: self.view.clone(),
            cursor: self.cursor,
        }
    }
}

impl Class {
    fn receivers(&self) -> Receivers<'_> {
        let channel = self.channel.as_ref().map(|(vsn, topic)| (*vsn, topic));
        Receivers {
            channel,
            ids: &self.ids,
            select: &self.select,
            view: &self.view,
            cursor: self.cursor,
        }
    }
}

impl PartialEq for Receivers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.channel == other.channel
            && self.ids == other.ids
            && self.cursor == other.cursor
            && self.view == other.view
            && same_select(self.select, other.select)
    }
}

impl Hash for Receivers<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.channel.hash(state);
        self.ids.hash(state);
        self.cursor.hash(state);
        Arc::as_ptr(&self.view.rights).addr().hash(state);
        self.select
            .as_ref()
            .map(|columns| Arc::as_ptr(columns).addr())
            .hash(state);
    }
}

impl Encoder {
    pub(super) fn new(key: CursorKey) -> Self {
        Self {
            key,
            hasher: RandomState::default(),
            change: None,
            cursor: None,
            data: SmallVec::new(),
            classes: HashTable::new(),
            last: None,
            encoded: 0,
        }
    }

    /// Change `index` of `page` for `receivers`.
    pub(super) fn encode(
        &mut self,
        page: &Arc<Page>,
        index: u32,
        receivers: Receivers<'_>,
    ) -> Parcel {
        self.turn_to(page, index);
        if let Some((class, parcel)) = &self.last
            && class.receivers() == receivers
        {
            return parcel.clone();
        }
        let hash = self.hasher.hash_one(receivers);
        let known = self
            .classes
            .find(hash, |(class, _)| class.receivers() == receivers);
        let parcel = if let Some((_, parcel)) = known {
            parcel.clone()
        } else {
            let parcel = self.write(page, index, receivers);
            let entry = (receivers.to_class(), parcel.clone());
            self.classes.insert_unique(hash, entry, |(class, _)| {
                self.hasher.hash_one(class.receivers())
            });
            parcel
        };
        self.last = Some((receivers.to_class(), parcel.clone()));
        parcel
    }

    fn turn_to(&mut self, page: &Arc<Page>, index: u32) {
        let is_current =
            |(current, at): &(Arc<Page>, u32)| Arc::ptr_eq(current, page) && *at == index;
        if self.change.as_ref().is_some_and(is_current) {
            return;
        }
        self.change = Some((Arc::clone(page), index));
        self.cursor = None;
        self.data.clear();
        self.classes.clear();
        self.last = None;
    }

    fn write(&mut self, page: &Page, index: u32, receivers: Receivers<'_>) -> Parcel {
        self.encoded += 1;
        let change = &page.changes[index as usize];
        let cursor = receivers.cursor.then(|| {
            Arc::clone(self.cursor.get_or_insert_with(|| {
                let leads = FailPoint::LeadsWithCursors.is_on();
                let position = if leads {
                    page.end
                } else {
                    page.position(change)
                };
                self.key.seal(position).into()
            }))
        });
        let same = |select: &Select, view: &View| {
            view == receivers.view && same_select(select, receivers.select)
        };
        let place = self
            .data
            .iter()
            .position(|(select, view, _)| same(select, view))
            .unwrap_or_else(|| {
                let mut data = Vec::new();
                let Receivers { select, view, .. } = receivers;
                write_data(&mut data, change, view, select.as_deref());
                self.data.push((select.clone(), view.clone(), data));
                self.data.len() - 1
            });
        let data = &*self.data[place].2;
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        match receivers.channel {
            Some((vsn, topic)) => {
                server_frame::changes_head(&mut head, vsn, topic.as_str(), receivers.ids);
                server_frame::changes_tail(&mut tail, vsn, cursor.as_deref());
                Parcel::text_frame(&[&head, data, &tail])
            }
            None => {
                server_frame::changes_payload_head(&mut head, receivers.ids);
                server_frame::changes_payload_tail(&mut tail, cursor.as_deref());
                let json = Bytes::from([&head, data, &tail].concat());
                Parcel::Event(StreamEvent {
                    cursor,
                    kind: StreamEventKind::Change,
                    json,
                })
            }
        }
    }

    /// The cursor of any position.
    pub(super) fn seal(&self, position: Position) -> Arc<str> {
        self.key.seal(position).into()
    }
}

fn same_select(left: &Select, right: &Select) -> bool {
    match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) => Arc::ptr_eq(left, right),
        (None, Some(_)) | (Some(_), None) => false,
    }
}
