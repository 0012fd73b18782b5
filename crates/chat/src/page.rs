//! Where a page begins and how long it is. Pages go by key, so nothing is skipped or repeated while
//! messages arrive.

use uuid::Uuid;

use crate::{
    fields::{Fields, wrong},
    refusal::Refusal,
};

const ROWS_DEFAULT: i32 = 50;
const ROWS_MAX: i32 = 200;

/// `limit`: more than there may be is the most there may be.
pub(crate) fn rows_max(fields: &Fields) -> Result<i32, Refusal> {
    match fields.number("limit")? {
        None => Ok(ROWS_DEFAULT),
        Some(0) => Err(wrong("limit", "a whole number from 1")),
        Some(rows) => Ok(i32::try_from(rows).unwrap_or(ROWS_MAX).min(ROWS_MAX)),
    }
}

/// Which messages of a conversation: before a place, after a place, or the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) before: Option<i64>,
    pub(crate) after: Option<i64>,
}

impl Window {
    /// Each bound is a `seq`, or the cursor of a page: what lies before its first message, or after its last.
    pub(crate) fn of(fields: &Fields) -> Result<Self, Refusal> {
        let bound = |name, pick: fn((i64, i64)) -> i64| {
            let Some(text) = fields.text(&[name])? else {
                return Ok(None);
            };
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) => Ok(Some(pick((first, last)))),
                _ => Err(wrong(name, "a seq or the cursor of a page")),
            }
        };
        Ok(Self {
            before: bound("before", |(first, _)| first)?,
            after: bound("after", |(_, last)| last)?,
        })
    }
}

/// Behind which row of the inbox a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InboxPlace {
    pub(crate) rank: i64,
    pub(crate) booking: Uuid,
}

impl InboxPlace {
    pub(crate) fn of(fields: &Fields) -> Result<Option<Self>, Refusal> {
        let Some(text) = fields.text(&["cursor"])? else {
            return Ok(None);
        };
        let parse = || {
            let (rank, booking) = text.split_once('.')?;
            Some(Self {
                rank: rank.parse().ok()?,
                booking: Uuid::parse_str(booking).ok()?,
            })
        };
        parse()
            .map(Some)
            .ok_or_else(|| wrong("cursor", "the cursor of a page"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    fn query(values: &[(&str, &str)]) -> Fields {
        let values: Map<String, Value> = values
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Fields::new(values)
    }

    #[test]
    fn a_cursor_leads_on_in_both_directions() {
        let window =
            |values: &[(&str, &str)]| Window::of(&query(values)).ok().map(|w| (w.before, w.after));
        assert_eq!(window(&[]), Some((None, None)));
        assert_eq!(window(&[("before", "41-60")]), Some((Some(41), None)));
        assert_eq!(window(&[("after", "41-60")]), Some((None, Some(60))));
        assert_eq!(
            window(&[("after", "7"), ("before", "9")]),
            Some((Some(9), Some(7)))
        );
        for wrong in ["", "x", "1-", "-1", "1-2-3", "99999999999999999999"] {
            assert_eq!(window(&[("after", wrong)]), None, "{wrong}");
        }
    }

    #[test]
    fn a_page_has_a_length() {
        let rows = |limit| rows_max(&query(&[("limit", limit)])).ok();
        assert_eq!(rows("7"), Some(7));
        assert_eq!(rows("5000000000"), Some(ROWS_MAX));
        for wrong in ["0", "-1", "many"] {
            assert_eq!(rows(wrong), None, "{wrong}");
        }
    }
}
