//! An error with all its causes, in one line.

use std::{error::Error, fmt};

use tokio_postgres::error::DbError;

/// Prints `what: why: why`. Of PostgreSQL's errors only message and code are told: details may quote
/// rows.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut separator = "";
        while let Some(error) = next {
            match error.downcast_ref::<DbError>() {
                Some(told) => {
                    let (message, code) = (told.message(), told.code().code());
                    write!(f, "{separator}{message} (SQLSTATE {code})")?;
                }
                None => write!(f, "{separator}{error}")?,
            }
            separator = ": ";
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::demo::DemoError;

    #[test]
    fn causes_follow_what_they_caused() {
        let source = io::Error::other("no space");
        let error = DemoError::Io {
            action: "write a file".to_owned(),
            source,
        };
        assert_eq!(Chain(&error).to_string(), "write a file: no space");
    }
}
