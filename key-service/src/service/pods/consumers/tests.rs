//! Counting volumes.

use strongroom_core::ObjectId;

use super::*;

fn node(number: u8) -> Node {
    let id = ObjectId {
        name: "worker".parse().expect("a name"),
        uid: format!("uid-{number}").parse().expect("a uid"),
    };
    ("east".parse().expect("a DNS label"), id)
}

fn tenant() -> Tenant {
    Tenant {
        cluster: "east".parse().expect("a DNS label"),
        namespace: "payments".parse().expect("a DNS label"),
    }
}

fn version(text: &str) -> VersionId {
    text.parse().expect("a version")
}

fn held(secrets: &[(&str, Option<&str>)]) -> Held {
    let entry = |(name, held): &(&str, Option<&str>)| {
        (name.parse().expect("a DNS label"), held.map(version))
    };
    secrets.iter().map(entry).collect()
}

const BEGAN: UnixMillis = UnixMillis::new(1_000);

/// Of a process that has been there for a while.
fn settled() -> Consumers {
    let consumers = Consumers::since(BEGAN);
    consumers.settle();
    consumers
}

fn heard(changes: &mut broadcast::Receiver<SecretKey>) -> Vec<String> {
    let mut names = Vec::new();
    while let Ok(secret) = changes.try_recv() {
        names.push(secret.name.to_string());
    }
    names
}

fn look(consumers: &Consumers, name: &str, made: i64, current: &str) -> Consumed {
    let secret = SecretName {
        tenant: Some(tenant()),
        name: name.parse().expect("a DNS label"),
    };
    consumers.count(&secret, UnixMillis::new(made), Some(version(current)))
}

fn count(consumers: &Consumers, name: &str, current: &str) -> (u32, u32) {
    let consumed = look(consumers, name, 0, current);
    assert!(!consumed.pending);
    (consumed.volumes, consumed.current)
}

#[test]
fn volumes_are_counted_by_the_version_that_they_hold() {
    let consumers = settled();
    let first = consumers.open(node(1));
    let second = consumers.open(node(2));
    first.follow(
        "a",
        &tenant(),
        held(&[("db", Some("1.1")), ("stripe", None)]),
    );
    second.follow("a", &tenant(), held(&[("db", Some("1.2"))]));
    assert_eq!(count(&consumers, "db", "1.2"), (2, 1));
    assert_eq!(count(&consumers, "stripe", "1.1"), (1, 0));
    assert_eq!(count(&consumers, "other", "1.1"), (0, 0));

    // What it holds is not known this time: it is what it was.
    first.follow("a", &tenant(), held(&[("db", None)]));
    assert_eq!(count(&consumers, "db", "1.1"), (2, 1));
    assert_eq!(count(&consumers, "stripe", "1.1"), (0, 0));
    first.forget("a");
    assert_eq!(count(&consumers, "db", "1.2"), (1, 1));
    second.forget("a");
    assert_eq!(count(&consumers, "db", "1.2"), (0, 0));
    assert!(
        consumers.table().secrets.is_empty(),
        "what is not used is forgotten"
    );
}

#[test]
fn a_volume_of_two_streams_is_counted_once_and_stays_with_the_newer() {
    let consumers = settled();
    let (old, new) = (consumers.open(node(1)), consumers.open(node(1)));
    old.follow("a", &tenant(), held(&[("db", Some("1.1"))]));
    new.follow("a", &tenant(), held(&[("db", Some("1.1"))]));
    assert_eq!(count(&consumers, "db", "1.1"), (1, 1));
    old.forget("a");
    drop(old);
    assert_eq!(count(&consumers, "db", "1.1"), (1, 1));
}

#[test]
fn who_waits_hears_of_what_changed_and_of_nothing_else() {
    let consumers = settled();
    let mut changes = consumers.changes();
    let stream = consumers.open(node(1));
    let both = || held(&[("db", Some("1.1")), ("stripe", None)]);
    stream.follow("a", &tenant(), both());
    assert_eq!(heard(&mut changes), ["db", "stripe"]);
    stream.follow("a", &tenant(), both());
    assert_eq!(heard(&mut changes), [""; 0]);
    stream.follow("a", &tenant(), held(&[("db", Some("1.2"))]));
    assert_eq!(heard(&mut changes), ["db", "stripe"]);
    stream.forget("b");
    assert_eq!(heard(&mut changes), [""; 0]);
    stream.forget("a");
    assert_eq!(heard(&mut changes), ["db"]);
}

#[test]
fn a_volume_whose_stream_is_lost_counts_until_it_is_told_of_again_or_given_up() {
    let consumers = settled();
    let mut changes = consumers.changes();
    let began = Instant::now();
    let stream = consumers.open(node(1));
    for volume in ["a", "b", "c"] {
        stream.follow(volume, &tenant(), held(&[("db", Some("1.1"))]));
    }
    stream.lose(["a"]);
    drop(stream);
    consumers.forget_untold(began);
    assert_eq!(count(&consumers, "db", "1.2"), (3, 0));
    heard(&mut changes);

    let stream = consumers.open(node(1));
    stream.follow("a", &tenant(), held(&[("db", Some("1.2"))]));
    stream.forget("b");
    assert_eq!(count(&consumers, "db", "1.2"), (2, 1));
    assert_eq!(heard(&mut changes), ["db", "db"]);
    consumers.forget_untold(Instant::now());
    assert_eq!(count(&consumers, "db", "1.2"), (1, 1));
    assert_eq!(heard(&mut changes), ["db"]);
}

#[test]
fn what_was_there_before_the_process_is_pending_and_told_once_it_is_settled() {
    let consumers = Consumers::since(BEGAN);
    let mut changes = consumers.changes();
    assert!(look(&consumers, "db", 999, "1.1").pending);
    assert!(!look(&consumers, "young", 1_000, "1.1").pending);
    let stream = consumers.open(node(1));
    stream.follow("a", &tenant(), held(&[("db", Some("1.1"))]));
    let known = Consumed {
        volumes: 1,
        current: 1,
        pending: true,
    };
    assert_eq!(look(&consumers, "db", 999, "1.1"), known);
    assert_eq!(heard(&mut changes), ["db"]);
    consumers.settle();
    assert_eq!(heard(&mut changes), ["db"]);
    assert!(!look(&consumers, "db", 999, "1.1").pending);
    consumers.settle();
    assert_eq!(heard(&mut changes), [""; 0]);
}

#[test]
fn a_driver_that_cannot_tell_of_a_volume_holds_the_end_of_the_pending_up() {
    let consumers = Consumers::since(BEGAN);
    let pending = || look(&consumers, "db", 0, "1.1").pending;
    let stream = consumers.open(node(1));
    for volume in ["a", "b", "c"] {
        stream.untold(volume);
    }
    consumers.settle_if_told();
    stream.follow("a", &tenant(), held(&[("db", Some("1.1"))]));
    stream.forget("b");
    // Of this one it has told before.
    stream.untold("a");
    consumers.settle_if_told();
    assert!(pending());
    // On another stream it comes, too.
    drop(stream);
    let stream = consumers.open(node(1));
    stream.follow("c", &tenant(), held(&[("db", Some("1.1"))]));
    assert!(pending());
    consumers.settle_if_told();
    assert!(!pending());
    stream.untold("d");
    assert!(!pending());

    let consumers = Consumers::since(BEGAN);
    let stream = consumers.open(node(1));
    for volume in 0..=UNTOLD_MAX {
        stream.untold(&volume.to_string());
    }
    let kept = consumers.table().pending.as_ref().map(|it| it.untold.len());
    assert_eq!(kept, Some(UNTOLD_MAX));
}

#[test]
fn a_node_that_comes_and_goes_has_no_more_volumes_than_one_stream() {
    let consumers = settled();
    let elsewhere = consumers.open(node(2));
    elsewhere.follow("a", &tenant(), held(&[("db", None)]));
    for round in 0..3 {
        let stream = consumers.open(node(1));
        for volume in 0..UNTOLD_MAX - 1 {
            let name = format!("{round}-{volume}");
            stream.follow(&name, &tenant(), held(&[("db", None)]));
        }
        stream.lose([&*format!("{round}-0")]);
    }
    let most = u32::try_from(UNTOLD_MAX).expect("it is small");
    assert_eq!(count(&consumers, "db", "1.1"), (most + 1, 0));
    assert_eq!(consumers.table().volumes.len(), UNTOLD_MAX + 1);
}
