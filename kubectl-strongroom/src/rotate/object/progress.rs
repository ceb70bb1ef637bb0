//! How far a rotation is, from what the operator wrote. No IO.

use strongroom_core::VersionId;

use crate::cluster::objects::{Condition, Conditions, CryptoKey, ManagedSecret, SecretRotation};

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// It goes on by itself.
    Waiting(String),
    /// It never will.
    Refused(String),
}

/// Of the object that asks for it.
pub(super) fn of_rotation(rotation: Option<&SecretRotation>) -> Progress {
    let Some(rotation) = rotation else {
        return Progress::Refused("the SecretRotation was deleted".to_owned());
    };
    of_conditions(&rotation.status)
        .unwrap_or_else(|| waiting("the operator has not looked at the SecretRotation yet"))
}

/// Of a key whose request was written.
pub(super) fn of_key(key: Option<&CryptoKey>, request: &str) -> Progress {
    let Some(key) = key else {
        return Progress::Refused("the CryptoKey was deleted".to_owned());
    };
    if key.status.handled_request_id.as_deref() == Some(request) {
        return Progress::Done;
    }
    let looked_at = key.status.observed_generation() >= key.metadata.generation;
    match of_conditions(&key.status) {
        Some(Progress::Refused(why)) if looked_at => Progress::Refused(why),
        Some(Progress::Waiting(why)) if looked_at => Progress::Waiting(why),
        _ => waiting("the operator has not handed the request over yet"),
    }
}

/// Of the volumes that follow a secret, once there is the version.
pub(super) fn of_volumes(secret: Option<&ManagedSecret>, version: &str) -> Progress {
    let Some(secret) = secret else {
        return Progress::Refused("the ManagedSecret was deleted".to_owned());
    };
    let reached = secret
        .status
        .version
        .as_deref()
        .is_some_and(|shown| !is_before(shown, version));
    if !reached {
        return waiting("the ManagedSecret does not show the new version yet");
    }
    let consumers = secret.status.consumers.as_deref();
    match consumers.and_then(|consumers| consumers.split_once('/')) {
        Some((current, all)) if current == all => Progress::Done,
        Some((current, all)) => {
            Progress::Waiting(format!("{current} of {all} volumes hold the new version"))
        }
        None => waiting(
            "which volumes hold the new version is not known yet: drivers tell the key service after its start",
        ),
    }
}

fn of_conditions(status: &impl Conditions) -> Option<Progress> {
    let ready = status.condition("Ready")?;
    let stalled = status
        .condition("Stalled")
        .is_some_and(|stalled| stalled.status == "True");
    Some(match ready.status.as_str() {
        "True" => Progress::Done,
        _ if stalled => Progress::Refused(sentence(ready)),
        _ => Progress::Waiting(sentence(ready)),
    })
}

fn sentence(condition: &Condition) -> String {
    if condition.message.is_empty() {
        condition.reason.clone()
    } else {
        condition.message.clone()
    }
}

fn waiting(why: &str) -> Progress {
    Progress::Waiting(why.to_owned())
}

/// A version that somebody made afterwards is as good. What is no version is not compared.
fn is_before(shown: &str, wanted: &str) -> bool {
    match (shown.parse::<VersionId>(), wanted.parse::<VersionId>()) {
        (Ok(shown), Ok(wanted)) => shown < wanted,
        _ => shown != wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
        serde_yaml_ng::from_str(yaml).unwrap()
    }

    fn rotation(status: &str, reason: &str, stalled: &str) -> Progress {
        let rotation: SecretRotation = object(&format!(
            "{{metadata: {{name: db-1}}, status: {{conditions: [{{type: Ready, status: '{status}', reason: {reason}, \
             message: words}}, {{type: Stalled, status: '{stalled}'}}]}}}}"
        ));
        of_rotation(Some(&rotation))
    }

    #[test]
    fn a_rotation_is_done_when_it_is_ready_and_refused_when_it_is_stalled() {
        assert_eq!(rotation("True", "Rotated", "False"), Progress::Done);
        let refused = Progress::Refused("words".to_owned());
        assert_eq!(rotation("False", "SecretNotFound", "True"), refused);
        assert_eq!(rotation("False", "Requested", "False"), waiting("words"));
        assert!(matches!(of_rotation(None), Progress::Refused(_)));
        let new = of_rotation(Some(&SecretRotation::default()));
        assert!(matches!(new, Progress::Waiting(_)));
    }

    fn volumes(version: &str, consumers: &str) -> Progress {
        let secret: ManagedSecret = object(&format!(
            "{{metadata: {{name: db}}, status: {{version: '{version}', consumers: '{consumers}'}}}}"
        ));
        of_volumes(Some(&secret), "1.10")
    }

    #[test]
    fn every_volume_must_hold_the_version_or_a_newer_one() {
        assert_eq!(volumes("1.10", "3/3"), Progress::Done);
        assert_eq!(volumes("1.11", "0/0"), Progress::Done);
        assert!(matches!(volumes("1.10", ""), Progress::Waiting(_)));
        assert_eq!(
            volumes("1.10", "2/3"),
            waiting("2 of 3 volumes hold the new version")
        );
        assert!(matches!(volumes("1.9", "3/3"), Progress::Waiting(_)));
        assert!(matches!(of_volumes(None, "1.10"), Progress::Refused(_)));
    }

    #[test]
    fn a_key_is_rotated_when_this_request_was_handled() {
        let key = |status: &str| -> CryptoKey {
            object(&format!(
                "{{metadata: {{name: orders, generation: 2}}, status: {status}}}"
            ))
        };
        let done = key("{handledRequestID: b}");
        assert_eq!(of_key(Some(&done), "b"), Progress::Done);
        let former = "{observedGeneration: 1, handledRequestID: a, conditions: [{type: Ready, status: 'True'}]}";
        assert!(matches!(
            of_key(Some(&key(former)), "b"),
            Progress::Waiting(_)
        ));
        let stalled = "{observedGeneration: 2, conditions: [{type: Ready, status: 'False', message: words}, \
                       {type: Stalled, status: 'True'}]}";
        let refused = Progress::Refused("words".to_owned());
        assert_eq!(of_key(Some(&key(stalled)), "b"), refused);
        assert!(matches!(of_key(None, "b"), Progress::Refused(_)));
    }
}
