//! What the key service could not keep of a Secret, all of it at once.

use std::collections::BTreeMap;

use strongroom_core::{FIELDS_MAX, FieldName, SecretBytes, VALUE_BYTES_MAX};

use crate::cluster::objects::KubernetesSecret;

/// A value that fits.
pub(super) type Value = BTreeMap<FieldName, SecretBytes>;

/// Takes the value over, or says everything that is in the way; no value is in a sentence.
pub(super) fn check(secret: KubernetesSecret) -> Result<Value, Vec<String>> {
    let mut problems = Vec::new();
    let count = secret.data.len();
    if !(1..=FIELDS_MAX).contains(&count) {
        problems.push(format!(
            "it has {count} keys; a secret has 1 to {FIELDS_MAX} fields"
        ));
    }
    let mut value = Value::new();
    let mut total = 0;
    for (key, bytes) in secret.data {
        let bytes = bytes.0.unwrap_or_else(|| SecretBytes::new(Vec::new()));
        total += bytes.len();
        if bytes.len() > VALUE_BYTES_MAX {
            problems.push(format!(
                "key {key}: {} bytes; a field has at most {VALUE_BYTES_MAX}",
                bytes.len()
            ));
        }
        match key.parse::<FieldName>() {
            Ok(field) => {
                value.insert(field, bytes);
            }
            Err(error) => problems.push(format!("key {key}: {error}")),
        }
    }
    if total > VALUE_BYTES_MAX {
        problems.push(format!(
            "all keys together: {total} bytes; a secret has at most {VALUE_BYTES_MAX}"
        ));
    }
    if problems.is_empty() {
        Ok(value)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::cluster::objects::Base64;

    fn secret(keys: &[(&str, usize)]) -> KubernetesSecret {
        let entry = |(key, length): &(&str, usize)| {
            let bytes = SecretBytes::new(vec![b'x'; *length]);
            ((*key).to_owned(), Base64(Some(bytes)))
        };
        KubernetesSecret {
            data: keys.iter().map(entry).collect(),
        }
    }

    #[test]
    fn what_fits_is_taken_over() {
        let value = check(secret(&[
            ("tls.crt", 10),
            ("tls.key", VALUE_BYTES_MAX - 10),
        ]));
        let Ok(value) = value else { panic!("fits") };
        assert_eq!(value.len(), 2);
    }

    #[test]
    fn everything_that_does_not_fit_is_said_at_once() {
        let Err(problems) = check(secret(&[
            ("..data", 1),
            ("a", VALUE_BYTES_MAX + 1),
            ("b", 2),
        ])) else {
            panic!("does not fit")
        };
        expect![[r#"
            key ..data: a field's name has 1 to 253 of A-Z, a-z, 0-9, '.', '_' and '-', is not '.' and does not begin with '..'
            key a: 65537 bytes; a field has at most 65536
            all keys together: 65540 bytes; a secret has at most 65536
        "#]]
        .assert_eq(&(problems.join("\n") + "\n"));
        let Err(problems) = check(secret(&[])) else {
            panic!("has nothing")
        };
        assert_eq!(problems, ["it has 0 keys; a secret has 1 to 64 fields"]);
    }
}
