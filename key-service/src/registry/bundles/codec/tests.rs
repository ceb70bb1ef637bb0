//! Frozen bytes of a bundle's record, and records that do not fit.

use expect_test::expect;
use prost::Message;

use super::*;

const RING: RingId = RingId::from_bytes([8; 16]);

fn name(text: &str) -> Name {
    text.parse().expect("a DNS label")
}

/// A bundle in which every field is set.
fn full() -> Bundle {
    let file = |path: &str, content| BundleFile {
        path: path.parse().expect("a path"),
        mode: FileMode::new(0o400).expect("permission bits"),
        uid: Some(1000),
        gid: Some(2000),
        content,
    };
    let field = FieldFile {
        secret: name("db"),
        field: "password".parse().expect("a field"),
        stage: SecretStage::Previous,
        optional: true,
    };
    let template = Template::new([name("db")].into(), "{{ db.username }}".to_owned());
    let files = BundleFiles::new(vec![
        file("db/old", FileContent::Field(field)),
        file(
            "app.env",
            FileContent::Template(template.expect("is small")),
        ),
    ]);
    Bundle {
        ring: RING,
        name: name("api"),
        object: "uid-1".parse().expect("a uid"),
        created: UnixMillis::new(1_000),
        files: files.expect("fit together"),
    }
}

#[test]
fn a_bundle_reads_back_what_it_wrote() {
    assert_eq!(
        decode(encode(&full()), RING, name("api")).ok(),
        Some(full())
    );
}

#[test]
fn the_bytes_of_a_bundle_are_frozen() {
    expect!["0a057569642d3110e8071a2b0a076170702e656e7610800218e80720d00f32170a02646212117b7b2064622e757365726e616d65207d7d1a250a0664622f6f6c6410800218e80720d00f2a120a026462120870617373776f726418022001"].assert_eq(&hex::encode(encode(&full()).encode_to_vec()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |change: fn(&mut wire::Bundle)| {
        let mut record = encode(&full());
        change(&mut record);
        decode(record, RING, name("api")).err().map(|error| error.0)
    };
    assert_eq!(refused(|it| it.object_uid.clear()), Some("object_uid"));
    assert_eq!(refused(|it| it.files.clear()), Some("files"));
    assert_eq!(
        refused(|it| it.files[1].path = "app.env".to_owned()),
        Some("files")
    );
    assert_eq!(
        refused(|it| it.files[0].path = "../x".to_owned()),
        Some("path")
    );
    assert_eq!(refused(|it| it.files[0].mode = 0o4755), Some("mode"));
    assert_eq!(
        refused(|it| it.files[0].content = None),
        Some("content of a file")
    );
}
