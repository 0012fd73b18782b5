//! What is measured carries its own scheduled time and number, so that every frame can be counted and timed whatever
//! protocol wraps it.

use memchr::memmem::Finder;

/// Never part of a frame otherwise, and safe in JSON and SQL.
const MARK: &str = "~@";
const DIGITS: usize = 24;

/// One message, as it was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When it was due to be sent (see `clock.rs`).
    pub(crate) due: u64,
    /// Its number in the run.
    pub(crate) number: u32,
}

impl Stamp {
    /// The stamp, filled up with `x` to so many bytes.
    pub(crate) fn text(self, bytes: usize) -> String {
        let mut text = format!("{MARK}{:016x}{:08x}", self.due, self.number);
        text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
        text
    }
}

/// Finds stamps in what was received.
#[derive(Debug)]
pub(crate) struct Stamps(Finder<'static>);

impl Stamps {
    pub(crate) fn new() -> Self {
        Self(Finder::new(MARK))
    }

    /// Every stamp in `bytes`, in order. A protocol may put several messages into one frame.
    pub(crate) fn find<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Stamp> + 'a {
        self.0
            .find_iter(bytes)
            .filter_map(|at| read(bytes.get(at + MARK.len()..)?.get(..DIGITS)?))
    }
}

fn read(digits: &[u8]) -> Option<Stamp> {
    let (due, number) = digits.split_at(16);
    Some(Stamp {
        due: hexadecimal(due)?,
        number: u32::try_from(hexadecimal(number)?).ok()?,
    })
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_wherever_it_stands() {
        let [first, second] =
            [(7, 1), (u64::MAX, u32::MAX)].map(|(due, number)| Stamp { due, number });
        let text = format!("[\"{}\"]{}~@short", first.text(40), second.text(0));
        let found: Vec<_> = Stamps::new().find(text.as_bytes()).collect();
        assert_eq!(found, [first, second]);
        assert_eq!(first.text(40).len(), 40);
    }
}
