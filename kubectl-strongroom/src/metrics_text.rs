//! Reads one metric out of Prometheus' text format, which is what API servers and plugins publish.

use std::collections::BTreeMap;

/// One line of a metric.
#[derive(Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// The samples of the metric called `name`. Lines that are not samples are passed over.
pub(crate) fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = Sample> + 'a {
    text.lines()
        .filter_map(move |line| parse(line.strip_prefix(name)?))
}

/// Parses what stands behind the name: `{label="value",…} value [time]`.
fn parse(rest: &str) -> Option<Sample> {
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        // Otherwise it is another metric that begins with the same letters.
        None if rest.starts_with(' ') => (BTreeMap::new(), rest),
        None => return None,
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { labels, value })
}

/// Parses up to the closing brace and gives what follows it.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (label, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquote(quoted)?;
        labels.insert(label.to_owned(), value);
        rest = after;
    }
}

/// Takes a value up to its closing quote.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c => value.push(c),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&[(&str, &str)], f64)>) {
        let expected = expected.map(|(labels, value)| Sample {
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            value,
        });
        assert_eq!(samples(line, "keys").next(), expected, "{line}");
    }

    #[test]
    fn labels_values_and_times_are_told_apart() {
        check("keys 3", Some((&[], 3.0)));
        check("keys{} 3", Some((&[], 3.0)));
        check(
            r#"keys{a="1",b="x y"} 1.7e+09 1700"#,
            Some((&[("a", "1"), ("b", "x y")], 1.7e9)),
        );
        check(
            r#"keys{a="}\"\\\n,",} 1"#,
            Some((&[("a", "}\"\\\n,")], 1.0)),
        );
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "# HELP keys x",
            "keys_total 3",
            "key 3",
            r#"keys{a="1 3"#,
            "keys{a} 3",
            "keys x",
        ] {
            check(line, None);
        }
    }
}
