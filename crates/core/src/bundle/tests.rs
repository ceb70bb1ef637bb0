//! One rule of a bundle each.

use proptest::{collection::vec, prelude::*};

use super::*;

fn name(text: &str) -> Name {
    text.parse().expect("a DNS label")
}

fn from(path: &str, secret: &str) -> BundleFile {
    BundleFile {
        path: path.parse().expect("a path"),
        mode: FileMode::DEFAULT,
        uid: None,
        gid: None,
        content: FileContent::Field(FieldFile {
            secret: name(secret),
            field: "password".parse().expect("a field"),
            stage: SecretStage::Current,
            optional: false,
        }),
    }
}

fn template(path: &str, secrets: &[&str], text: String) -> BundleFile {
    let secrets = secrets.iter().map(|secret| name(secret)).collect();
    let template = Template::new(secrets, text).expect("is within its limits");
    BundleFile {
        content: FileContent::Template(template),
        ..from(path, "db")
    }
}

fn of_paths(paths: &[&str]) -> Result<BundleFiles, BundleError> {
    BundleFiles::new(paths.iter().map(|path| from(path, "db")).collect())
}

#[test]
fn a_bundle_has_files_and_not_too_many() {
    let many = |count: usize| {
        let files = (0..count).map(|number| from(&format!("f{number}"), "db"));
        BundleFiles::new(files.collect()).err()
    };
    assert_eq!(many(0), Some(BundleError::Files));
    assert_eq!(many(128), None);
    assert_eq!(many(129), Some(BundleError::Files));
}

#[test]
fn a_path_is_there_once() {
    let twice = of_paths(&["a", "b", "a"]);
    assert_eq!(twice, Err(BundleError::Twice("a".parse().unwrap())));
}

#[test]
fn a_file_is_no_folder_of_another_whatever_stands_between_them() {
    // `-` and `.` are before `/`, so that these are not neighbours.
    for paths in [
        &["a", "a/b"][..],
        &["a/b", "a"],
        &["a", "a-b", "a.b", "a/b/c"],
        &["x/y", "x/y-z", "x/y/z"],
    ] {
        let outcome = of_paths(paths);
        assert!(
            matches!(outcome, Err(BundleError::Folder { .. })),
            "{paths:?}"
        );
    }
    assert!(of_paths(&["a/b", "a-b", "a.b", "ab", "a/c/d"]).is_ok());
}

proptest! {
    #[test]
    fn what_is_accepted_fits_into_one_tree(paths in vec("[ab](/[ab]){0,3}", 1..6)) {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let below = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let clash = paths.iter().enumerate().any(|(i, a)| {
            paths.iter().enumerate().any(|(k, b)| i != k && below(a, b))
        });
        prop_assert_eq!(of_paths(&paths).is_err(), clash);
    }
}

#[test]
fn modes_are_for_reading_and_writing_and_nothing_else() {
    assert_eq!(FileMode::new(0o666).map(FileMode::bits), Ok(0o666));
    for bits in [0o100, 0o555, 0o1000, 0o4644, 0o2644, u32::MAX] {
        assert_eq!(FileMode::new(bits), Err(BundleError::Mode(bits)));
    }
}

#[test]
fn nobody_is_no_owner() {
    for (uid, gid) in [(Some(u32::MAX), None), (None, Some(u32::MAX))] {
        let file = BundleFile {
            uid,
            gid,
            ..from("a", "db")
        };
        let refused = BundleFiles::new(vec![file]);
        assert_eq!(refused, Err(BundleError::Owner("a".parse().unwrap())));
    }
}

#[test]
fn templates_are_bounded_each_and_together() {
    let of = |secrets: usize, bytes: usize| {
        let secrets = (0..secrets).map(|number| name(&format!("s{number}")));
        Template::new(secrets.collect(), "x".repeat(bytes)).err()
    };
    assert_eq!(of(1, TEMPLATE_BYTES_MAX), None);
    assert_eq!(of(16, 1), None);
    assert_eq!(of(0, 1), Some(BundleError::TemplateSecrets));
    assert_eq!(of(17, 1), Some(BundleError::TemplateSecrets));
    assert_eq!(of(1, 0), Some(BundleError::TemplateText));
    assert_eq!(
        of(1, TEMPLATE_BYTES_MAX + 1),
        Some(BundleError::TemplateText)
    );
    let together = |count: usize| {
        let text = || "x".repeat(TEMPLATE_BYTES_MAX);
        let files = (0..count).map(|number| template(&format!("f{number}"), &["db"], text()));
        BundleFiles::new(files.collect()).err()
    };
    assert_eq!(together(16), None);
    assert_eq!(together(17), Some(BundleError::Templates));
}

#[test]
fn secrets_are_counted_once_wherever_they_are_named() {
    let files = BundleFiles::new(vec![
        from("a", "db"),
        from("b", "stripe"),
        template("c", &["db", "tls"], "x".to_owned()),
    ]);
    let files = files.expect("is small");
    let secrets: Vec<_> = files.secrets().into_iter().map(Name::as_str).collect();
    assert_eq!(secrets, ["db", "stripe", "tls"]);
    let many = |count: usize| {
        let files = (0..count).map(|number| from(&format!("f{number}"), &format!("s{number}")));
        BundleFiles::new(files.collect()).err()
    };
    assert_eq!(many(64), None);
    assert_eq!(many(65), Some(BundleError::Secrets));
}
