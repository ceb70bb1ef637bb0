//! `secret set` and `secret reveal`: values go in from files and come out on standard output, with the caller's own
//! identity.
//!
//! No value is taken from the command line: others on the machine see it there, and shells keep it.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use strongroom_api::strongroom::v1::{
    RevealSecretRequest, SecretStage, SetSecretValueRequest, secrets_client::SecretsClient,
};
use strongroom_core::{FieldName, InvalidFieldName, SecretBytes, VALUE_BYTES_MAX};

use crate::{
    args::{SecretRevealArgs, SecretSetArgs},
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::plain,
    rpc::CallError,
};

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

/// Why a value is not sent or not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("cannot read the value of field {field} from {path:?}")]
    Read {
        field: FieldName,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the value of field {field} in {path:?} has more than {VALUE_BYTES_MAX} bytes")]
    TooLong { field: FieldName, path: PathBuf },
    #[error("the field {0} is given twice")]
    Twice(FieldName),
    #[error("the key service answered without the field {0}")]
    Answer(FieldName),
}

impl SecretError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Read { .. } | Self::TooLong { .. } | Self::Twice(_) => Exit::Usage,
            Self::Answer(_) => Exit::Failed,
        }
    }
}

/// Sets the fields of a manual secret, all together.
pub(crate) async fn set(
    args: SecretSetArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let SecretSetArgs {
        name,
        ring,
        from_file,
        connection,
    } = args;
    let settings = Settings::resolve(&connection, environment)?;
    // Everything is read before anybody is asked: what cannot be read sets nothing.
    let fields = read_fields(&from_file)?;
    let request = SetSecretValueRequest {
        ring_id: ring.to_string(),
        secret: name.clone(),
        etag: String::new(),
        fields: fields
            .iter()
            .map(|(field, bytes)| (field.to_string(), bytes.expose().to_vec()))
            .collect::<HashMap<_, _>>(),
    };
    let set = SecretsClient::new(connect(&settings).await?)
        .set_secret_value(request)
        .await
        .map_err(|status| CallError::new("set the secret", status))?
        .into_inner();
    let current = set
        .versions
        .iter()
        .find(|version| version.stage() == SecretStage::Current);
    let version = current.map(|version| plain(&version.version));
    writeln!(
        out,
        "secret {} has version {}",
        plain(&set.name),
        version.as_deref().unwrap_or("unknown")
    )?;
    Ok(Exit::Ok)
}

fn read_fields(files: &[FieldFile]) -> Result<BTreeMap<FieldName, SecretBytes>, SecretError> {
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

/// Writes the bytes of one field to standard output, and nothing beside them.
pub(crate) async fn reveal(
    args: SecretRevealArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let SecretRevealArgs {
        name,
        ring,
        field,
        previous,
        reason,
        connection,
    } = args;
    let settings = Settings::resolve(&connection, environment)?;
    let stage = if previous {
        SecretStage::Previous
    } else {
        SecretStage::Current
    };
    let request = RevealSecretRequest {
        ring_id: ring.to_string(),
        secret: name,
        field: field.to_string(),
        stage: stage.into(),
        reason,
    };
    let mut revealed = SecretsClient::new(connect(&settings).await?)
        .reveal_secret(request)
        .await
        .map_err(|status| CallError::new("reveal the secret", status))?
        .into_inner();
    let bytes = revealed.fields.remove(field.as_str());
    let bytes = SecretBytes::new(bytes.ok_or(SecretError::Answer(field))?);
    out.write_all(bytes.expose())?;
    out.flush()?;
    Ok(Exit::Ok)
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
