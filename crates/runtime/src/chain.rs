//! Prints an error with its sources. Errors here say only their own sentence, so a log line needs all of them.

use std::{error::Error, fmt};

/// Displays an error and, after colons, each of its sources.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn chain_names_each_source_once() {
        let error = Outer(std::io::Error::other("disk is gone"));
        assert_eq!(
            Chain(&error).to_string(),
            "cannot open the store: disk is gone"
        );
    }
}
