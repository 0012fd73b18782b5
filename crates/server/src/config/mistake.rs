//! What is wrong with a configuration, all of it at once.

use std::fmt;

/// One setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The environment key, or the flag where the value came from the command line.
    pub key: String,
    /// What was given, masked; `None` where nothing was.
    pub given: Option<String>,
    /// What was expected, or how to mend it.
    pub cure: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Some(given) => write!(f, "{} = {given:?}: {}", self.key, self.cure),
            None => write!(f, "{} is not set: {}", self.key, self.cure),
        }
    }
}

/// Every mistake of one start; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("one setting cannot be used")?,
            n => write!(f, "{n} settings cannot be used")?,
        }
        self.0
            .iter()
            .try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}
