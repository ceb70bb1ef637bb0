//! Configuration files of programs: read as YAML, refused with file, line and field, and the forms of values that serde
//! does not know. What values may be is for each program to check.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use jiff::SignedDuration;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};

/// Why a file is no configuration. It is its author's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a configuration; the source names line and field.
    #[error("the configuration {} is not valid", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, where.
        #[source]
        source: serde_yaml_ng::Error,
    },
}

/// Reads a file.
///
/// # Errors
///
/// When it cannot be read, or is no `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigurationError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigurationError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// Reads a text, which errors call `path`.
///
/// # Errors
///
/// When it is no `T`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigurationError> {
    serde_yaml_ng::from_str(text).map_err(|source| ConfigurationError::Parse {
        path: path.to_owned(),
        source,
    })
}

/// A duration as Kubernetes writes it, such as `250ms`, `12h` or `1m30s`; for `#[serde(deserialize_with)]`.
///
/// # Errors
///
/// When it is none, or negative.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let signed: SignedDuration = text
        .parse()
        .map_err(|_| de::Error::custom("a duration such as 250ms, 12h or 1m30s"))?;
    Duration::try_from(signed).map_err(|_| de::Error::custom("a duration is never negative"))
}

/// A value that is written as its own text form; for `#[serde(deserialize_with)]`.
///
/// # Errors
///
/// What the type says of the text.
pub fn parsed<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?
        .parse()
        .map_err(de::Error::custom)
}

/// As [`parsed`], for a field that may be left out.
///
/// # Errors
///
/// What the type says of the text.
pub fn parsed_if_there<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    parsed(deserializer).map(Some)
}

/// A SHA-256 in hexadecimal, for a field that may be left out; for `#[serde(deserialize_with)]`.
///
/// # Errors
///
/// When it is not 64 hexadecimal digits.
pub fn sha256_if_there<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<[u8; 32]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut digest = [0; 32];
    hex::decode_to_slice(&text, &mut digest)
        .map_err(|_| de::Error::custom("a SHA-256 has 64 hexadecimal digits"))?;
    Ok(Some(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chain;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(deserialize_with = "duration")]
        wait: Duration,
        #[serde(default, deserialize_with = "parsed_if_there")]
        address: Option<std::net::IpAddr>,
    }

    fn sample(text: &str) -> Result<Sample, String> {
        parse(Path::new("FILE"), text).map_err(|error| Chain(&error).to_string())
    }

    fn check_refused(text: &str, sentence: &str) {
        let error = sample(text).unwrap_err();
        assert!(error.starts_with("the configuration FILE is not valid: "));
        assert!(error.contains(sentence), "{error}");
    }

    #[test]
    fn durations_are_those_of_kubernetes() {
        for (text, millis) in [("250ms", 250), ("1m30s", 90_000), ("12h", 43_200_000)] {
            let read = sample(&format!("wait: {text}")).unwrap();
            assert_eq!(read.wait, Duration::from_millis(millis));
        }
        check_refused("wait: 5", "a duration such as 250ms, 12h or 1m30s");
        check_refused("wait: -5s", "a duration is never negative");
    }

    #[test]
    fn a_value_has_the_form_of_its_type() {
        let read = sample("{wait: 1s, address: '::1'}").unwrap();
        assert_eq!(read.address, Some("::1".parse().unwrap()));
        assert_eq!(sample("wait: 1s").unwrap().address, None);
        check_refused("{wait: 1s, address: home}", "invalid IP address");
    }

    #[test]
    fn file_and_field_are_named() {
        check_refused("{wait: 1s, wiat: 2s}", "unknown field `wiat`");
        let error = load::<Sample>(Path::new("/nowhere/sample.yaml")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the configuration /nowhere/sample.yaml"
        );
    }
}
