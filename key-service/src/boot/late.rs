//! The line between what is late and what is wrong, as decisions on what was seen.
//!
//! Where nothing of an instance is, its volume may come yet: that is late, and is waited for. Where something of an
//! instance is and does not fit, waiting would hide it: that is wrong, and ends the process.

use std::{error::Error, path::Path};

use strongroom_audit::StartError;
use strongroom_hsm::{HsmError, TokenDescription, TokenKeys, TokenState};
use strongroom_runtime::Chain;
use strongroom_store::sqlite;

use super::BootError;
use crate::{
    files::{Contents, Pin},
    keyring::KeyringError,
};

/// What a look showed.
#[derive(Debug)]
pub(super) enum Look<T> {
    /// It is here.
    Here(T),
    /// It is not here yet; the sentence says what is missing and what to do.
    Late(String),
}

/// Decides on the folder of the store; `None` is a folder that is not there, or that is closed to us.
pub(super) fn data(folder: &Path, contents: Option<Contents>) -> Result<Look<Pin>, BootError> {
    let folder = folder.display();
    let Some(Contents { store, pin, intent }) = contents else {
        return Ok(Look::Late(format!(
            "the folder {folder} is not there, or closed to this user: mount the volume of the store"
        )));
    };
    match (pin, store) {
        _ if intent.is_some() => Ok(Look::Late(format!(
            "init was begun in {folder} and is not finished; if it does not run, run `key-service init` again"
        ))),
        (Some(pin), _) => Ok(Look::Here(pin)),
        (None, true) => Err(BootError::StoreWithoutPins(folder.to_string())),
        (None, false) => Ok(Look::Late(format!(
            "{folder} holds nothing of an instance: mount the volume of the store; only a new installation runs \
             `key-service init`"
        ))),
    }
}

/// Decides on a store that was not opened. Another process that holds it, such as one that is ending, goes away.
pub(super) fn store<T>(error: sqlite::OpenError) -> Result<Look<T>, BootError> {
    match error {
        sqlite::OpenError::File(sqlite::FileError::InUse { .. }) => {
            Ok(Look::Late(Chain(&error).to_string()))
        }
        error => Err(BootError::Store(error)),
    }
}

/// Decides on what the agent says of its token.
pub(super) fn token(
    described: Result<TokenDescription, HsmError>,
    pin: &Pin,
) -> Result<Look<()>, BootError> {
    let token = match described {
        Ok(token) => token,
        Err(error) => return Ok(Look::Late(Chain(&error).to_string())),
    };
    if let Some(keys) = &token.keys {
        check_token(keys, pin)?;
    }
    match token.state {
        TokenState::Ready => Ok(Look::Here(())),
        TokenState::Uninitialized => Err(BootError::EmptyToken(pin.instance_id.clone())),
        state => Ok(Look::Late(format!("{}: {}", state.name(), token.message))),
    }
}

fn check_token(keys: &TokenKeys, pin: &Pin) -> Result<(), BootError> {
    let found = keys.instance.to_string();
    if found != pin.instance_id {
        return Err(BootError::ForeignToken {
            found,
            pinned: pin.instance_id.clone(),
        });
    }
    // Until all keys are there the agent shows none of them.
    let same = |pinned: &str, found: &[u8]| found.is_empty() || pinned == hex::encode(found);
    let genuine = same(&pin.record_signing_key, &keys.record_signing_key)
        && same(
            &pin.checkpoint_certifying_key,
            &keys.checkpoint_certifying_key,
        );
    if genuine {
        Ok(())
    } else {
        Err(BootError::ForeignTokenKeys)
    }
}

/// Decides on a KEK that the token did not give.
pub(super) fn kek<T>(error: KeyringError) -> Result<Look<T>, BootError> {
    match error {
        KeyringError::Hsm(error) if is_away(&error) => Ok(Look::Late(Chain(&error).to_string())),
        KeyringError::Corrupt => Err(BootError::Kek("the system ring".to_owned())),
        error => Err(BootError::Keyring(error)),
    }
}

/// Decides on a log that was not opened. An empty folder is the one below the mount; that it was ever full is known by the
/// number of records that the store's anchor covers.
pub(super) fn log<T>(
    error: strongroom_audit::OpenError,
    anchored: Option<u64>,
) -> Result<Look<T>, BootError> {
    use strongroom_audit::OpenError::{InUse, NotBegun};
    match error {
        InUse(_) => Ok(Look::Late(Chain(&error).to_string())),
        NotBegun(dir) => {
            let lost = anchored.map_or_else(String::new, |size| {
                format!("; the one of this instance has {size} records or more")
            });
            Ok(Look::Late(format!(
                "{} holds no audit log: mount its disk{lost}",
                dir.display()
            )))
        }
        error => Err(BootError::Audit(error)),
    }
}

/// Decides on a checkpoint key that was not certified.
pub(super) fn checkpointer<T>(error: StartError) -> Result<Look<T>, BootError> {
    let asked = match &error {
        StartError::Certify(source) => hsm_error(source.as_ref()),
        _ => None,
    };
    match asked {
        Some(hsm) if is_away(hsm) => Ok(Look::Late(Chain(hsm).to_string())),
        _ => Err(BootError::Checkpointer(error)),
    }
}

fn hsm_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a HsmError> {
    error.downcast_ref()
}

/// Whether the agent or its token is not there or not ready, which says nothing about what was asked.
fn is_away(error: &HsmError) -> bool {
    matches!(
        error,
        HsmError::Unavailable { .. } | HsmError::NotReady { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use strongroom_core::InstanceId;
    use strongroom_hsm::{Reason, RootId};

    use super::*;

    fn pin() -> Pin {
        Pin {
            instance_id: "07".repeat(16),
            record_signing_key: "aa".to_owned(),
            checkpoint_certifying_key: "bb".to_owned(),
        }
    }

    fn sentence<T: std::fmt::Debug>(look: Result<Look<T>, BootError>) -> String {
        match look {
            Ok(Look::Late(sentence)) => sentence,
            other => panic!("{other:?}"),
        }
    }

    fn refusal<T: std::fmt::Debug>(look: Result<Look<T>, BootError>) -> String {
        match look {
            Err(error) => Chain(&error).to_string(),
            Ok(other) => panic!("{other:?}"),
        }
    }

    fn seen(store: bool, pinned: bool, intent: bool) -> Result<Look<Pin>, BootError> {
        let pin = pinned.then(pin);
        let intent = intent.then(|| InstanceId::from_bytes([7; 16]));
        let contents = Contents { store, pin, intent };
        data(Path::new("/data"), Some(contents))
    }

    #[test]
    fn folder_without_anything_of_an_instance_is_late() {
        assert!(sentence(data(Path::new("/data"), None)).starts_with("the folder /data is not"));
        assert!(sentence(seen(false, false, false)).contains("/data holds nothing of an instance"));
    }

    #[test]
    fn init_that_is_not_finished_is_late_whatever_it_made() {
        for (store, pinned) in [(false, false), (false, true), (true, true), (true, false)] {
            let sentence = sentence(seen(store, pinned, true));
            assert!(
                sentence.starts_with("init was begun in /data"),
                "{sentence}"
            );
        }
    }

    #[test]
    fn store_without_pins_is_wrong() {
        let refusal = refusal(seen(true, false, false));
        assert!(
            refusal.starts_with("/data has a store and no pins"),
            "{refusal}"
        );
    }

    #[test]
    fn pins_are_gone_on_with() {
        assert!(matches!(seen(true, true, false), Ok(Look::Here(found)) if found == pin()));
        // The engine says by name that there is no store.
        assert!(matches!(seen(false, true, false), Ok(Look::Here(_))));
    }

    #[test]
    fn store_that_another_process_holds_is_late_and_a_damaged_one_is_wrong() {
        let path = PathBuf::from("/data/store.db");
        let held = sqlite::FileError::InUse { path: path.clone() };
        assert!(sentence(store::<()>(held.into())).ends_with("is in use"));
        let missing = sqlite::FileError::Missing { path: path.clone() };
        assert!(refusal(store::<()>(missing.into())).contains("there is no store at"));
        let report = "a page is missing".to_owned();
        let damaged = sqlite::OpenError::Damaged { path, report };
        assert!(refusal(store::<()>(damaged)).contains("is damaged"));
    }

    fn described(state: TokenState, instance: u8, key: &[u8]) -> TokenDescription {
        TokenDescription {
            state,
            message: "a sentence".to_owned(),
            label: String::new(),
            serial: String::new(),
            manufacturer: String::new(),
            model: String::new(),
            hardware: false,
            wrap_profile: String::new(),
            keys: Some(TokenKeys {
                instance: InstanceId::from_bytes([instance; 16]),
                root: RootId::from_bytes([0; 16]),
                record_signing_key: key.to_vec(),
                certificate_authority_key: Vec::new(),
                checkpoint_certifying_key: Vec::new(),
            }),
        }
    }

    #[test]
    fn agent_that_does_not_answer_is_late_whatever_it_says() {
        for reason in [
            Reason::Unreachable,
            Reason::SocketUntrusted,
            Reason::PeerNotAllowed,
        ] {
            let error = HsmError::new(reason, "nobody answers");
            assert_eq!(sentence(token(Err(error), &pin())), "nobody answers");
        }
    }

    #[test]
    fn token_is_ready_late_or_wrong() {
        let look = |state, instance, key| token(Ok(described(state, instance, key)), &pin());
        assert!(matches!(
            look(TokenState::Ready, 7, &[0xaa]),
            Ok(Look::Here(()))
        ));
        for state in [
            TokenState::Incomplete,
            TokenState::TokenMissing,
            TokenState::WrongPin,
            TokenState::PinMissing,
            TokenState::ModuleFailed,
            TokenState::NoWrapProfile,
            TokenState::Damaged,
            TokenState::Starting,
        ] {
            let expected = format!("{}: a sentence", state.name());
            assert_eq!(sentence(look(state, 7, &[])), expected);
        }
        let empty = refusal(look(TokenState::Uninitialized, 7, &[]));
        assert!(
            empty.starts_with("the token has no objects of instance 07"),
            "{empty}"
        );
        let other = refusal(look(TokenState::Ready, 8, &[0xaa]));
        assert!(
            other.starts_with("the token belongs to instance 08"),
            "{other}"
        );
        let keys = refusal(look(TokenState::Ready, 7, &[0xab]));
        assert!(keys.contains("its keys are not the pinned ones"), "{keys}");
    }

    #[test]
    fn kek_is_late_while_the_token_is_away_and_wrong_when_it_does_not_open() {
        let away = KeyringError::Hsm(HsmError::new(Reason::WorkerRestarting, "the worker ended"));
        assert_eq!(sentence(kek::<()>(away)), "the worker ended");
        let changed = KeyringError::Hsm(HsmError::new(Reason::EnvelopeInvalid, "it was changed"));
        assert!(refusal(kek::<()>(changed)).contains("it was changed"));
        assert!(refusal(kek::<()>(KeyringError::Corrupt)).contains("the system ring"));
    }

    #[test]
    fn folder_without_a_log_is_late_and_a_shorter_log_is_wrong() {
        use strongroom_audit::OpenError;
        let empty = || OpenError::NotBegun(PathBuf::from("/audit"));
        let said = "/audit holds no audit log: mount its disk";
        assert_eq!(sentence(log::<()>(empty(), None)), said);
        let anchored = sentence(log::<()>(empty(), Some(12)));
        assert!(anchored.ends_with("has 12 records or more"), "{anchored}");
        let held = OpenError::InUse(PathBuf::from("/audit"));
        assert!(sentence(log::<()>(held, None)).contains("in use by another process"));
        let shorter = OpenError::DoesNotExtendAnchor {
            anchor_size: 12,
            log_size: 11,
        };
        assert!(refusal(log::<()>(shorter, Some(12))).contains("does not extend"));
    }

    #[test]
    fn checkpoint_key_waits_for_the_token_and_for_nothing_else() {
        let certify = |reason| {
            let source = HsmError::new(reason, "no signature").into();
            checkpointer::<()>(StartError::Certify(source))
        };
        assert_eq!(sentence(certify(Reason::Unreachable)), "no signature");
        assert!(refusal(certify(Reason::ForeignInstance)).contains("no signature"));
        assert!(refusal(checkpointer::<()>(StartError::Key)).contains("no checkpoint key"));
    }
}
