//! Values from files. None is taken from the command line: others on the machine see it there, and shells keep it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    str::FromStr,
};

use strongroom_core::{FieldName, InvalidFieldName, SecretBytes, VALUE_BYTES_MAX};

use super::SecretError;

/// A field and the file that holds its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldFile {
    field: FieldName,
    path: PathBuf,
}

/// The text names no field and file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseFieldFileError {
    #[error("a field is given as FIELD=PATH, such as key=/dev/stdin")]
    Form,
    #[error(transparent)]
    Field(InvalidFieldName),
}

impl FromStr for FieldFile {
    type Err = ParseFieldFileError;

    fn from_str(text: &str) -> Result<Self, ParseFieldFileError> {
        let (field, path) = text.split_once('=').ok_or(ParseFieldFileError::Form)?;
        if path.is_empty() {
            return Err(ParseFieldFileError::Form);
        }
        Ok(Self {
            field: field.parse().map_err(ParseFieldFileError::Field)?,
            path: PathBuf::from(path),
        })
    }
}

/// Reads every file, before anybody is asked: what cannot be read sets nothing.
pub(super) fn read_fields(
    files: &[FieldFile],
) -> Result<BTreeMap<FieldName, SecretBytes>, SecretError> {
    let mut fields = BTreeMap::new();
    for FieldFile { field, path } in files {
        let bytes = read(field, path)?;
        if fields.insert(field.clone(), bytes).is_some() {
            return Err(SecretError::Twice(field.clone()));
        }
    }
    Ok(fields)
}

/// Reads a file as it is, a last end of line included, into a buffer that never grows.
fn read(field: &FieldName, path: &Path) -> Result<SecretBytes, SecretError> {
    let limit = VALUE_BYTES_MAX + 1;
    let mut bytes = Vec::with_capacity(limit);
    let read = File::open(path).and_then(|file| file.take(limit as u64).read_to_end(&mut bytes));
    let bytes = SecretBytes::new(bytes);
    read.map_err(|source| SecretError::Read {
        field: field.clone(),
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() < limit {
        Ok(bytes)
    } else {
        Err(SecretError::TooLong {
            field: field.clone(),
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_given_with_its_file() {
        let parsed: FieldFile = "tls.key=/a=b".parse().expect("names both");
        assert_eq!(parsed.field.as_str(), "tls.key");
        assert_eq!(parsed.path, Path::new("/a=b"));
        for bad in ["key", "key=", "=path", "a/b=path", "..data=path"] {
            assert!(bad.parse::<FieldFile>().is_err(), "{bad}");
        }
    }
}
