//! A PIN that the token refuses is tried once.

use std::{
    collections::BTreeSet,
    fs::{self, File, FileTimes},
    io::Write,
};

use strongroom_hsm::TokenState;

use crate::place::{Place, chmod};

/// Writes another PIN into the same file, and leaves its inode and time as they were.
fn overwrite(place: &Place, pin: &str) {
    let path = place.data("pin");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    chmod(&path, 0o600);
    let mut file = File::options()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    file.write_all(pin.as_bytes()).unwrap();
    file.set_times(FileTimes::new().set_modified(modified))
        .unwrap();
}

#[test]
fn a_wrong_pin_is_tried_once_until_its_file_is_replaced() {
    let place = Place::with_token();
    let right = fs::read_to_string(place.data("pin")).unwrap();
    overwrite(&place, "not the PIN");
    let agent = place.start();
    let token = agent.wait_for(TokenState::WrongPin);
    assert!(
        token
            .message
            .starts_with("the token strongroom refused the PIN"),
        "{}",
        token.message
    );
    assert!(
        agent
            .probe("/metrics")
            .contains("strongroom_hsm_logged_in 0")
    );
    drop(agent);

    // The same file with the right PIN: a try would succeed, so that none is made shows.
    overwrite(&place, &right);
    let agent = place.start();
    let token = agent.wait_for(TokenState::WrongPin);
    let sentence = format!(
        "the token refused the PIN in {}; it is not tried again until that file is replaced",
        place.data("pin").display()
    );
    assert_eq!(token.message, sentence);
    assert!(agent.probe("/readyz").contains(&sentence));

    // Another file is tried, without a restart.
    let next = place.data("next");
    fs::write(&next, right).unwrap();
    chmod(&next, 0o400);
    fs::rename(next, place.data("pin")).unwrap();
    agent.wait_for(TokenState::Uninitialized);
}

#[test]
fn the_record_of_a_refused_pin_tells_nothing_about_the_pin() {
    let place = Place::with_token();
    overwrite(&place, "not the PIN");
    place.start().wait_for(TokenState::WrongPin);
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(place.data("pin-refused")).unwrap()).unwrap();
    // The order of a map depends on which other packages are built with it.
    let fields: BTreeSet<&str> = record
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        fields,
        BTreeSet::from(["inode", "modified_ns", "modified_s"])
    );
}
