//! The process's own token of a service account: kubelet replaces the file, so it is read for each call, and never kept.

use std::{fs, io, path::PathBuf};

use tonic::{Request, metadata::MetadataValue};
use zeroize::Zeroizing;

/// Why the process has no token to show.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} holds no token", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
    },
}

/// Where the token is.
#[derive(Debug)]
pub struct Bearer(PathBuf);

impl Bearer {
    /// Takes it from a file, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Lets a request say who asks.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub fn sign<T>(&self, request: &mut Request<T>) -> Result<(), TokenError> {
        let path = || self.0.clone();
        let read = |source| TokenError::Read {
            path: path(),
            source,
        };
        let text = Zeroizing::new(fs::read_to_string(&self.0).map_err(read)?);
        let token = text.trim();
        let content = || TokenError::Content { path: path() };
        if token.is_empty() {
            return Err(content());
        }
        let value = Zeroizing::new(format!("Bearer {token}"));
        let mut value = MetadataValue::try_from(value.as_str()).map_err(|_| content())?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_that_of_the_file_now_and_is_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let bearer = Bearer::new(path.clone());
        let sign = || {
            let mut request = Request::new(());
            bearer.sign(&mut request).map(|()| request)
        };
        assert!(matches!(sign(), Err(TokenError::Read { .. })));
        for bad in ["", "\n", "a\u{7f}b"] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(sign(), Err(TokenError::Content { .. })), "{bad:?}");
        }
        for token in ["first", "second"] {
            fs::write(&path, format!("{token}\n")).unwrap();
            let request = sign().unwrap();
            let value = request.metadata().get("authorization").unwrap();
            assert_eq!(value.to_str().unwrap(), format!("Bearer {token}"));
            assert!(!format!("{request:?}").contains(token));
        }
    }
}
