//! The text of what is written: templates with `${names}`, and a first line by which we know our own files again.

use aws_lc_rs::digest::{SHA256, digest};

const MARK: &str =
    "# Written by kubectl strongroom bootstrap, which leaves it alone once it is changed. sha256:";

/// Puts values in for their names.
///
/// # Panics
/// When a name of the template has no value: then the template is wrong.
pub(super) fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    assert!(!text.contains("${"), "a name without a value in:\n{text}");
    text
}

/// Adds the first line.
pub(super) fn marked(body: &str) -> String {
    format!("{MARK}{}\n{body}", sha256(body))
}

/// The digest of a text, in hexadecimal.
pub(super) fn sha256(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()))
}

/// Who wrote a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// We did, and it is as it was then.
    Ourselves,
    /// We did, and somebody changed it.
    Edited,
    /// Somebody else.
    Other,
}

pub(super) fn writer(text: &str) -> Writer {
    let Some((_, body)) = text
        .strip_prefix(MARK)
        .and_then(|rest| rest.split_once('\n'))
    else {
        return Writer::Other;
    };
    if marked(body) == text {
        Writer::Ourselves
    } else {
        Writer::Edited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_text_is_told_from_an_edited_one_and_a_foreign_one() {
        let text = marked("a: 1\n");
        assert_eq!(writer(&text), Writer::Ourselves);
        assert_eq!(writer(&format!("{text}b: 2\n")), Writer::Edited);
        assert_eq!(writer("a: 1\n"), Writer::Other);
        assert_eq!(writer(""), Writer::Other);
    }
}
