//! Requests of kubelet: what is understood, and what is refused by which sentence.

use strongroom_api::csi::v1::volume_capability::{AccessMode, BlockVolume, MountVolume};

use super::{
    wanted::{BUNDLE, OPTIONAL, SECRETS},
    *,
};

const TARGET: &str = "/var/lib/kubelet/pods/uid-1/volumes/kubernetes.io~csi/secrets/mount";

fn capability(group: &str) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode {
            mode: Mode::SingleNodeWriter.into(),
        }),
        access_type: Some(AccessType::Mount(MountVolume {
            volume_mount_group: group.to_owned(),
            ..MountVolume::default()
        })),
    }
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    entries.iter().map(owned).collect()
}

fn tokens(audience: &str, token: &str) -> String {
    format!(
        r#"{{"{audience}":{{"token":"{token}","expirationTimestamp":"2026-01-01T00:00:00Z"}}}}"#
    )
}

/// What kubelet sends for the pod of the documentation.
fn request() -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: "csi-1".to_owned(),
        target_path: TARGET.to_owned(),
        volume_capability: Some(capability("1000")),
        readonly: true,
        secrets: map(&[(TOKENS, &tokens("strongroom.dev", "a.b.c"))]),
        volume_context: map(&[
            (SECRETS, "db, stripe"),
            (EPHEMERAL, "true"),
            (POD_UID, "uid-1"),
            ("csi.storage.k8s.io/pod.name", "api"),
        ]),
        ..NodePublishVolumeRequest::default()
    }
}

fn parse_it(request: NodePublishVolumeRequest) -> Result<Publish, InvalidRequest> {
    publish(
        request,
        Path::new("/var/lib/kubelet/pods"),
        &Tokens::default(),
    )
}

fn of_secrets(names: &[&str]) -> Wanted {
    Wanted::Secrets(names.iter().map(|name| (*name).to_owned()).collect())
}

fn check(change: impl FnOnce(&mut NodePublishVolumeRequest), expected: InvalidRequest) {
    let mut request = request();
    change(&mut request);
    assert_eq!(parse_it(request).map(|_| ()), Err(expected));
}

#[test]
fn request_of_kubelet_is_understood() {
    let publish = parse_it(request()).unwrap();
    assert_eq!(publish.wanted, of_secrets(&["db", "stripe"]));
    assert!(!publish.optional);
    assert_eq!((publish.group, publish.volume_id.as_str()), (1000, "csi-1"));
    assert_eq!(publish.token.as_ref().unwrap().expose(), b"a.b.c");
    assert!(!format!("{publish:?}").contains("a.b.c"));
    let mut without_group = request();
    without_group.volume_capability = Some(capability(""));
    assert_eq!(parse_it(without_group).unwrap().group, 0);
}

#[test]
fn each_field_that_is_missing_or_wrong_is_named() {
    check(|it| it.volume_id.clear(), InvalidRequest::VolumeId);
    check(
        |it| it.volume_id = "x".repeat(129),
        InvalidRequest::VolumeId,
    );
    check(|it| it.target_path.clear(), InvalidRequest::NoTarget);
    check(
        |it| it.target_path = "/etc".to_owned(),
        InvalidRequest::Target(InvalidTarget),
    );
    check(|it| it.volume_capability = None, InvalidRequest::Capability);
    check(|it| it.readonly = false, InvalidRequest::Writable);
    check(
        |it| it.volume_capability = Some(capability("staff")),
        InvalidRequest::Group,
    );
    check(
        |it| it.volume_capability = Some(capability("4294967295")),
        InvalidRequest::Group,
    );
    check(
        |it| {
            let capability = it.volume_capability.as_mut().unwrap();
            capability.access_type = Some(AccessType::Block(BlockVolume {}));
        },
        InvalidRequest::Capability,
    );
    check(
        |it| it.volume_capability.as_mut().unwrap().access_mode = None,
        InvalidRequest::Capability,
    );
    check(
        |it| drop(it.volume_context.remove(EPHEMERAL)),
        InvalidRequest::Persistent,
    );
    check(
        |it| {
            drop(
                it.volume_context
                    .insert(POD_UID.to_owned(), "uid-2".to_owned()),
            )
        },
        InvalidRequest::Pod,
    );
    check(
        |it| {
            drop(
                it.volume_context
                    .insert("secret".to_owned(), "db".to_owned()),
            )
        },
        InvalidRequest::Attribute("secret".to_owned()),
    );
}

#[test]
fn names_of_secrets_are_labels_and_there_is_at_least_one() {
    let many = vec!["a"; 65].join(",");
    let long = "a".repeat(64);
    for bad in [
        "", ",", "db,", "db,db", "Db", "-db", "db-", "a/b", "../a", &many, &long,
    ] {
        check(
            |it| drop(it.volume_context.insert(SECRETS.to_owned(), bad.to_owned())),
            InvalidRequest::Wanted,
        );
    }
    check(
        |it| drop(it.volume_context.remove(SECRETS)),
        InvalidRequest::Wanted,
    );
}

#[test]
fn a_bundle_is_named_in_place_of_secrets() {
    let with = |name: &str| {
        let mut request = request();
        request.volume_context.remove(SECRETS);
        request
            .volume_context
            .insert(BUNDLE.to_owned(), name.to_owned());
        parse_it(request).map(|publish| publish.wanted)
    };
    assert_eq!(with("api"), Ok(Wanted::Bundle("api".to_owned())));
    for bad in ["", "Api", "a,b", "a/b", "..", &"a".repeat(64)] {
        assert_eq!(with(bad), Err(InvalidRequest::Wanted), "{bad:?}");
    }
    check(
        |it| {
            drop(
                it.volume_context
                    .insert(BUNDLE.to_owned(), "api".to_owned()),
            )
        },
        InvalidRequest::Wanted,
    );
}

#[test]
fn a_pod_may_say_that_it_starts_without() {
    for (text, expected) in [
        ("true", Ok(true)),
        ("false", Ok(false)),
        ("yes", Err(InvalidRequest::Optional)),
        ("", Err(InvalidRequest::Optional)),
    ] {
        let mut request = request();
        request
            .volume_context
            .insert(OPTIONAL.to_owned(), text.to_owned());
        let optional = parse_it(request).map(|publish| publish.optional);
        assert_eq!(optional, expected, "{text:?}");
    }
}

#[test]
fn token_among_the_attributes_never_counts_where_kubelet_sends_it_in_secrets() {
    let forged = tokens("strongroom.dev", "forged");
    let mut request = request();
    request.volume_context.insert(TOKENS.to_owned(), forged);
    let publish = parse_it(request.clone()).unwrap();
    assert_eq!(publish.token.err(), Some(NoToken::Forged));
    request.secrets.clear();
    let publish = parse_it(request.clone()).unwrap();
    assert_eq!(publish.token.err(), Some(NoToken::Missing));

    let from_context = Tokens {
        source: TokenSource::VolumeContext,
        ..Tokens::default()
    };
    let publish = super::publish(request, Path::new("/var/lib/kubelet/pods"), &from_context);
    assert_eq!(publish.unwrap().token.unwrap().expose(), b"forged");
}

#[test]
fn what_is_no_token_for_us_is_told_apart() {
    for (text, expected) in [
        (
            tokens("other", "a"),
            NoToken::Audience("strongroom.dev".to_owned()),
        ),
        (tokens("strongroom.dev", ""), NoToken::Malformed),
        (tokens("strongroom.dev", "a b"), NoToken::Malformed),
        ("token".to_owned(), NoToken::Malformed),
    ] {
        let mut request = request();
        request.secrets = map(&[(TOKENS, &text)]);
        assert_eq!(parse_it(request).unwrap().token.err(), Some(expected));
    }
}

#[test]
fn tokens_of_a_request_are_wiped() {
    let mut secrets = map(&[(TOKENS, "a.b.c"), ("other", "x")]);
    wipe(&mut secrets);
    assert!(secrets.values().all(String::is_empty));
}
