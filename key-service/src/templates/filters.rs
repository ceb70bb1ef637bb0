//! The filters of templates: what puts a value safely into a URL, a shell, JSON or YAML.

use base64::{Engine, engine::general_purpose::STANDARD};
use minijinja::{Environment, Error, ErrorKind, Value};

use super::{OUTPUT_BYTES_MAX, error};

/// Adds all of them; `docs/how-to/bundles.md` names them for users.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("urlencode", urlencode);
    environment.add_filter("base64", base64);
    environment.add_filter("hex", hex);
    environment.add_filter("json", json);
    environment.add_filter("shell", shell);
    environment.add_filter("default", minijinja::filters::default);
    environment.add_filter("indent", minijinja::filters::indent);
    environment.add_filter("trim", minijinja::filters::trim);
}

/// The bytes of a field or a text. The engine pays for what a filter gives only afterwards, hence the limit.
fn bytes(value: &Value) -> Result<&[u8], Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    match value.as_bytes() {
        Some(bytes) if bytes.len() <= OUTPUT_BYTES_MAX => Ok(bytes),
        Some(_) => Err(ErrorKind::WriteFailure.into()),
        None => Err(error::not_printable()),
    }
}

fn text(value: &Value) -> Result<&str, Error> {
    str::from_utf8(bytes(value)?).map_err(|_| error::not_text())
}

/// For a part of a URL: everything but letters, digits and `-._~` is encoded, the slash too.
fn urlencode(value: Value) -> Result<String, Error> {
    let bytes = bytes(&value)?;
    let mut encoded = String::with_capacity(3 * bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([*byte]));
        }
    }
    Ok(encoded)
}

fn base64(value: Value) -> Result<String, Error> {
    Ok(STANDARD.encode(bytes(&value)?))
}

fn hex(value: Value) -> Result<String, Error> {
    Ok(hex::encode(bytes(&value)?))
}

/// A string of JSON, with its quotes; YAML reads it too.
fn json(value: Value) -> Result<String, Error> {
    serde_json::to_string(text(&value)?).map_err(|_| error::not_text())
}

/// One word of a POSIX shell, with its quotes.
fn shell(value: Value) -> Result<String, Error> {
    let text = text(&value)?;
    if text.contains('\0') {
        return Err(error::not_text());
    }
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}
