//! Every combination of what can be seen, as a table that a person reads, and the rule in other words.

use expect_test::expect_file;

use super::*;

const OURS: InstanceId = InstanceId::from_bytes([7; 16]);
const OTHER: InstanceId = InstanceId::from_bytes([8; 16]);

fn why() -> String {
    "why".to_owned()
}

fn stores() -> Vec<(&'static str, StoreSeen)> {
    vec![
        ("Late", StoreSeen::Late(why())),
        ("Empty", StoreSeen::Empty),
        ("Begun", StoreSeen::Begun(OURS)),
        ("There", StoreSeen::There),
    ]
}

fn logs() -> Vec<(&'static str, LogSeen)> {
    vec![
        ("Late", LogSeen::Late(why())),
        ("None", LogSeen::None),
        ("There", LogSeen::There),
    ]
}

fn tokens() -> Vec<(&'static str, TokenSeen)> {
    vec![
        ("Late", TokenSeen::Late(why())),
        ("NotMade", TokenSeen::NotMade),
        ("Empty", TokenSeen::Empty),
        ("Ours", TokenSeen::Instance(OURS)),
        ("Other", TokenSeen::Instance(OTHER)),
    ]
}

fn witnesses() -> Vec<(&'static str, WitnessSeen)> {
    vec![
        ("Unknown", WitnessSeen::Unknown(why())),
        ("Nobody", WitnessSeen::Nobody),
        ("Ours", WitnessSeen::Instance(OURS)),
        ("Other", WitnessSeen::Instance(OTHER)),
        ("Unreadable", WitnessSeen::Unreadable(why())),
    ]
}

fn requests() -> [Request; 3] {
    [
        Request::None,
        Request::Stale,
        Request::Fresh("uid-1".to_owned()),
    ]
}

/// Each combination with its names, but for the request.
fn all() -> Vec<([&'static str; 4], Seen)> {
    let mut all = Vec::new();
    for (store_name, store) in stores() {
        for (log_name, log) in logs() {
            for (token_name, token) in tokens() {
                for (witness_name, witness) in witnesses() {
                    let names = [store_name, log_name, token_name, witness_name];
                    let seen = Seen {
                        store: store.clone(),
                        log: log.clone(),
                        token: token.clone(),
                        witness,
                        request: Request::None,
                    };
                    all.push((names, seen));
                }
            }
        }
    }
    all
}

fn word(step: &Step) -> &'static str {
    match step {
        Step::GoOn => "GoOn",
        Step::Await => "Await",
        Step::Wait(_) => "Wait",
        Step::Refuse(_) => "Refuse",
        Step::Make => "Make",
    }
}

fn asked(seen: &Seen) -> [Step; 3] {
    requests().map(|request| {
        decide(&Seen {
            request,
            ..seen.clone()
        })
    })
}

/// With a store of an instance, and before there is a folder for one, nothing else counts, so those rows are left out; so are
/// those of a log beside an init that was begun.
#[test]
fn the_table_is_the_one_that_was_read() {
    let mut table = format!(
        "{:8}{:8}{:9}{:12}{:8}{:8}{}\n",
        "store", "log", "token", "witness", "none", "stale", "fresh"
    );
    for ([store, log, token, witness], seen) in all() {
        let counts = store == "Empty" || store == "Begun" && log == "None";
        if counts {
            let [none, stale, fresh] = asked(&seen);
            let line = format!(
                "{store:8}{log:8}{token:9}{witness:12}{:8}{:8}{:8}",
                word(&none),
                word(&stale),
                word(&fresh)
            );
            table.push_str(line.trim_end());
            table.push('\n');
        }
    }
    expect_file!["table.txt"].assert_eq(&table);
}

#[test]
fn nothing_is_made_unless_nothing_is_there_and_somebody_asks_now() {
    for (names, seen) in all() {
        let [none, stale, fresh] = asked(&seen);
        let is_begun = seen.store == StoreSeen::Begun(OURS);
        let is_made = [&none, &stale, &fresh].map(|step| *step == Step::Make);
        let nothing_is_there = names == ["Empty", "None", "NotMade", "Nobody"]
            || names == ["Empty", "None", "Empty", "Nobody"];
        match is_made {
            [false, false, false] => {}
            [false, false, true] => assert!(nothing_is_there, "{names:?}"),
            // What was begun was asked for.
            [true, true, true] => assert!(is_begun, "{names:?}"),
            other => panic!("{names:?}: {other:?}"),
        }
    }
}

#[test]
fn a_store_that_is_there_is_for_the_start_to_judge() {
    for (names, seen) in all() {
        let goes_on = asked(&seen).map(|step| step == Step::GoOn);
        assert_eq!(goes_on, [names[0] == "There"; 3], "{names:?}");
    }
}

#[test]
fn refusals_name_the_instance_that_is_missed() {
    for (names, seen) in all() {
        if let Step::Refuse(sentence) = decide(&seen)
            && names[3] == "Other"
        {
            assert!(sentence.contains(&OTHER.to_string()), "{sentence}");
        }
    }
}
