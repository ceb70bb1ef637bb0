//! What authors can write, and what hostile ones cannot.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn template(text: &str) -> Template {
    let secrets = ["db", "my-tls"].map(|name| name.parse().expect("a DNS label"));
    Template::new(secrets.into(), text.to_owned()).expect("is within its limits")
}

fn values() -> BTreeMap<Name, Arc<SecretValue>> {
    let value = |fields: &[(&str, &[u8])]| {
        let field = |(name, bytes): &(&str, &[u8])| {
            let name = name.parse().expect("a field");
            (name, SecretBytes::copy_from(bytes))
        };
        let value = SecretValue::new(fields.iter().map(field).collect());
        Arc::new(value.expect("is small"))
    };
    let db = value(&[("username", b"api"), ("password", b"p/w d'\"&%<\\")]);
    let tls = value(&[("tls.crt", b"one\ntwo\n"), ("key", b"\xff\x00")]);
    let name = |name: &str| name.parse().expect("a DNS label");
    BTreeMap::from([(name("db"), db), (name("my-tls"), tls)])
}

fn rendered(text: &str) -> Result<String, TemplateError> {
    let bytes = render(&template(text), &values(), &mut { FUEL })?;
    Ok(String::from_utf8(bytes.expose().to_vec()).expect("is text"))
}

fn check_ok(text: &str, expected: &str) {
    assert_eq!(check(&template(text)), Ok(()), "{text}");
    assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
}

fn refused(text: &str, at_apply: Option<TemplateError>, at_read: TemplateError) {
    assert_eq!(check(&template(text)).err(), at_apply, "{text}");
    assert_eq!(rendered(text).err(), Some(at_read), "{text}");
}

#[test]
fn engine_that_panics_makes_no_file() {
    let broken = on_a_deep_stack::<()>(|| unreachable!("a mistake in the engine"));
    assert_eq!(broken, Err(TemplateError::Broken));
}

#[test]
fn fields_go_where_they_are_named_and_nothing_is_escaped_or_cut() {
    check_ok(
        "U={{ db.username }}\nP={{ db.password }}\n",
        "U=api\nP=p/w d'\"&%<\\\n",
    );
    check_ok("no place at all\n\n", "no place at all\n\n");
    check_ok("{{ db[\"username\"] }}", "api");
}

#[test]
fn names_that_are_no_words_are_reached_through_all_secrets() {
    check_ok("{{ secrets[\"my-tls\"][\"tls.crt\"] }}", "one\ntwo\n");
    check_ok("{{ secrets.db.username }}", "api");
}

#[test]
fn filters_make_values_safe_where_they_go() {
    check_ok(
        "{{ db.password | urlencode }}",
        "p%2Fw%20d%27%22%26%25%3C%5C",
    );
    check_ok("{{ db.password | base64 }}", "cC93IGQnIiYlPFw=");
    check_ok("{{ db.password | json }}", r#""p/w d'\"&%<\\""#);
    check_ok("{{ db.password | shell }}", r#"'p/w d'\''"&%<\'"#);
    check_ok("{{ db.username | hex }}", "617069");
    check_ok(
        "k: |\n  {{ secrets['my-tls']['tls.crt'] | trim | indent(2) }}",
        "k: |\n  one\n  two",
    );
    check_ok("{{ secrets['my-tls'].key | base64 }}", "/wA=");
}

#[test]
fn what_need_not_be_there_has_a_default() {
    assert_eq!(
        rendered("{{ db.port | default('5432') }}").as_deref(),
        Ok("5432")
    );
    let text = "{% if db.port is defined %}{{ db.port }}{% else %}-{% endif %}";
    assert_eq!(rendered(text).as_deref(), Ok("-"));
}

#[test]
fn unknown_names_are_refused_before_anything_is_kept() {
    for (text, name) in [
        ("{{ other.password }}", "other"),
        ("{% if flag %}x{% endif %}", "flag"),
        ("{{ range(10) }}", "range"),
        ("{{ my-db.password }}", "my"),
    ] {
        let unknown = Err(TemplateError::UnknownName(name.to_owned()));
        assert_eq!(check(&template(text)), unknown, "{text}");
        assert!(rendered(text).is_err(), "{text}");
    }
    let unknown = |what| TemplateError::Unknown { line: 2, what };
    let filter = unknown("a filter");
    refused("\n{{ db.username | tojson }}", Some(filter.clone()), filter);
    let test = unknown("a test");
    refused("\n{{ db.username is odd }}", Some(test.clone()), test);
    // A field that is called could be there; it is none.
    assert_eq!(rendered("\n{{ db.items() }}"), Err(unknown("a function")));
}

#[test]
fn a_field_that_is_not_there_is_an_error_and_no_empty_text() {
    let missing = TemplateError::NoField { line: 2 };
    for text in [
        "\n{{ db.port }}",
        "\n{{ db.port | urlencode }}",
        "\n{% if db.port %}x{% endif %}",
        "\n{{ db['no such name'] }}",
    ] {
        assert_eq!(rendered(text), Err(missing.clone()), "{text}");
    }
}

#[test]
fn whole_secrets_and_bytes_that_are_no_text_are_not_written() {
    let not_printable = TemplateError::NotPrintable { line: 1 };
    for text in [
        "{{ db }}",
        "{{ secrets }}",
        "{{ [1] }}",
        "{{ none }}",
        "{{ db | base64 }}",
    ] {
        refused(text, Some(not_printable.clone()), not_printable.clone());
    }
    let not_text = TemplateError::NotText { line: 1 };
    refused("{{ secrets['my-tls'].key }}", None, not_text.clone());
    refused("{{ secrets['my-tls'].key | json }}", None, not_text);
}

#[test]
fn other_templates_macros_and_functions_do_not_exist() {
    for text in [
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{% import 'x' as x %}",
        "{% block x %}{% endblock %}",
        "{% macro x() %}{{ x() }}{% endmacro %}{{ x() }}",
        "{% call x() %}{% endcall %}",
        "{{ db.username",
        "{% if %}",
        "{{ 'a' | }}",
        "{% endfor %}",
    ] {
        let outcome = check(&template(text));
        assert!(
            matches!(outcome, Err(TemplateError::Syntax { .. })),
            "{text}: {outcome:?}"
        );
    }
}

#[test]
fn what_does_not_end_is_stopped() {
    let digits = "'0123456789abcdef0123456789abcdef'";
    let nested = format!(
        "{}x{}",
        ["a", "b", "c", "d", "e"]
            .map(|name| format!("{{% for {name} in {digits} %}}"))
            .concat(),
        "{% endfor %}".repeat(5)
    );
    let silent = nested.replace(" %}x{", " %}{");
    for text in [nested.as_str(), &silent] {
        let outcome = check(&template(text));
        assert!(
            matches!(
                outcome,
                Err(TemplateError::Endless | TemplateError::TooLong)
            ),
            "{outcome:?}"
        );
        assert!(rendered(text).is_err());
    }
}

#[test]
fn output_ends_at_its_limit() {
    let piece = "y".repeat(1024);
    let loops = |count: usize| {
        let turns = "'".to_owned() + &"z".repeat(count) + "'";
        format!("{{% for a in {turns} %}}{piece}{{% endfor %}}")
    };
    assert_eq!(
        rendered(&loops(1024)).map(|text| text.len()),
        Ok(OUTPUT_BYTES_MAX)
    );
    refused(
        &loops(1025),
        Some(TemplateError::TooLong),
        TemplateError::TooLong,
    );
}

#[test]
fn a_chain_that_doubles_is_stopped_before_it_fills_memory() {
    let text = format!("{{{{ db.username{} }}}}", " | hex".repeat(40));
    let outcome = rendered(&text);
    assert!(
        matches!(
            outcome,
            Err(TemplateError::Endless | TemplateError::TooLong)
        ),
        "{:?}",
        outcome.map(|text| text.len())
    );
    let times = rendered("{{ 'x' * 1000000000 }}");
    assert_eq!(times, Err(TemplateError::Endless));
}

#[test]
fn depth_is_an_error_and_not_the_end_of_the_process() {
    let nested = |open: &str, inner: &str, close: &str| {
        let count = 16_000 / (open.len() + close.len()) - inner.len();
        open.repeat(count) + inner + &close.repeat(count)
    };
    for text in [
        nested("{{", "1", "}}"),
        format!("{{{{ {} }}}}", nested("(", "1", ")")),
        format!("{{{{ {} }}}}", nested("[", "1", "]")),
        format!("{{{{ {}1 }}}}", "not ".repeat(3000)),
        format!("{{{{ {}1 }}}}", "-".repeat(15_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(7000)),
        format!("{{{{ 1{} }}}}", "~1".repeat(7000)),
        format!("{{{{ db{} }}}}", ".a".repeat(7000)),
        format!("{{{{ db{} }}}}", "['a']".repeat(3000)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(1200)),
        nested("{% if 1 %}", "x", "{% endif %}"),
        nested("{% with %}", "x", "{% endwith %}"),
        nested("{% for a in [1] %}", "x", "{% endfor %}"),
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        "{% for a in [[[[[[1]]]]]] recursive %}{{ loop(a) }}{% endfor %}".to_owned(),
    ] {
        // Some of them are fine; what counts is that each comes back.
        let _ = check(&template(&text));
        let _ = rendered(&text);
    }
}

#[test]
fn fuel_is_of_all_templates_of_a_volume() {
    let text = format!("{{% for a in '{}' %}}{{% endfor %}}", "z".repeat(10_000));
    let (template, values) = (template(&text), values());
    let mut fuel = FUEL;
    let mut count = 0;
    while render(&template, &values, &mut fuel).is_ok() {
        count += 1;
        assert!(count < 100, "fuel is never used up");
    }
    assert!(count > 0);
}

#[test]
fn errors_quote_nothing_of_a_value() {
    for text in [
        "{{ db.password + 1 }}",
        "{{ db.password | indent('a') }}",
        "{{ db.password.x.y }}",
        "{{ db[db.password] }}",
        "{{ db.password() }}",
        "{{ db.password | default(db.password, 1, 2) }}",
        "{{ -db.password }}",
        "{% for a, b in [db.password] %}{% endfor %}",
    ] {
        let error = rendered(text).expect_err(text);
        assert!(
            !format!("{error} {error:?}").contains("p/w"),
            "{text}: {error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A panic would end the process that holds the keys.
    #[test]
    fn whatever_is_written_comes_back(pieces in vec(select(PIECES.to_vec()), 0..40)) {
        let text = format!("x{}", pieces.concat());
        let _ = check(&template(&text));
        let _ = rendered(&text);
    }
}

const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    " db",
    ".username",
    ".password",
    "secrets",
    "[",
    "]",
    "(",
    ")",
    "'a'",
    "\"",
    "'",
    "1",
    "-1",
    "0",
    "99999999999999999999",
    "1e308",
    ":",
    ",",
    " | ",
    "urlencode",
    "base64",
    "hex",
    "json",
    "shell",
    "default",
    "indent",
    "trim",
    " if ",
    " else ",
    " endif ",
    " for ",
    " in ",
    " endfor ",
    " set ",
    " endset ",
    " with ",
    " endwith ",
    " filter ",
    " endfilter ",
    " raw ",
    " endraw ",
    " autoescape ",
    " endautoescape ",
    " recursive ",
    "loop",
    "a",
    "b",
    "=",
    "==",
    "<",
    "+",
    "-",
    "*",
    "**",
    "/",
    "//",
    "%",
    "~",
    " not ",
    " and ",
    " or ",
    " is ",
    "defined",
    "none",
    "true",
    "{",
    "}",
    "::",
    "é",
    "\n",
    "\0",
    "\\",
    "\\u{0}",
    "do ",
];
