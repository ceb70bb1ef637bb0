//! ConfigMap `strongroom-init`: somebody asks for an instance, for a short time, and gets an answer in the same object. The uid
//! that the API server gave it is the request's own, so that an answer never stands under another request.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use strongroom_core::UnixMillis;

/// Its name.
pub(crate) const NAME: &str = "strongroom-init";
/// What is older is no wish of anybody any more.
pub(crate) const LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How far the API server's clock may be ahead.
const LEEWAY: Duration = Duration::from_secs(60);

const REQUEST: &str = "request";
const WISH: &str = "Init";
const OUTCOME: &str = "outcome";
const MESSAGE: &str = "message";
const INSTANCE: &str = "instanceId";
const FINGERPRINT: &str = "auditFingerprint";

/// What stands in the ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Nothing, no request, or one that has its answer.
    None,
    /// One that is too old, or from the future.
    Stale,
    /// One that waits for its answer, by its uid.
    Fresh(String),
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It made this instance.
    Initialised(Made),
    /// There was one.
    AlreadyInitialised(Made),
    /// Something stands in the way.
    Refused(String),
}

/// An instance, for whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Its id.
    pub instance: String,
    /// What `audit verify` trusts.
    pub audit_fingerprint: String,
}

/// A ConfigMap that asks for init.
pub(crate) fn object() -> ConfigMap {
    let mut object = ConfigMap {
        data: Some(BTreeMap::from([(REQUEST.to_owned(), WISH.to_owned())])),
        ..ConfigMap::default()
    };
    object.metadata.name = Some(NAME.to_owned());
    object
}

impl Request {
    /// Reads the ConfigMap, which may not be there.
    pub(crate) fn read(config_map: Option<&ConfigMap>, now: UnixMillis) -> Self {
        let Some(config_map) = config_map else {
            return Self::None;
        };
        let data = config_map.data.as_ref();
        let says = |key| data.and_then(|data| data.get(key)).map(String::as_str);
        if says(REQUEST) != Some(WISH) || says(OUTCOME).is_some() {
            return Self::None;
        }
        let created = config_map.metadata.creation_timestamp.as_ref();
        let created = created.map(|created| UnixMillis::new(created.0.as_millisecond()));
        match (created, &config_map.metadata.uid) {
            (Some(created), Some(uid)) if is_fresh(created, now) => Self::Fresh(uid.clone()),
            _ => Self::Stale,
        }
    }
}

fn is_fresh(created: UnixMillis, now: UnixMillis) -> bool {
    now.since(created) <= LIFETIME && created.since(now) <= LEEWAY
}

impl Answer {
    /// What is written under the request.
    pub(crate) fn data(&self) -> BTreeMap<String, String> {
        let pairs = match self {
            Self::Initialised(made) | Self::AlreadyInitialised(made) => vec![
                (INSTANCE, made.instance.clone()),
                (FINGERPRINT, made.audit_fingerprint.clone()),
            ],
            Self::Refused(message) => vec![(MESSAGE, message.clone())],
        };
        let outcome = [(OUTCOME, self.outcome().to_owned())];
        let pairs = outcome.into_iter().chain(pairs);
        pairs.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Reads what was written under a request; none when it waits still.
    pub(crate) fn read(config_map: &ConfigMap) -> Option<Self> {
        let data = config_map.data.as_ref()?;
        let text = |key| data.get(key).cloned().unwrap_or_default();
        let made = || Made {
            instance: text(INSTANCE),
            audit_fingerprint: text(FINGERPRINT),
        };
        match data.get(OUTCOME)?.as_str() {
            "Initialised" => Some(Self::Initialised(made())),
            "AlreadyInitialised" => Some(Self::AlreadyInitialised(made())),
            _ => Some(Self::Refused(text(MESSAGE))),
        }
    }

    const fn outcome(&self) -> &'static str {
        match self {
            Self::Initialised(_) => "Initialised",
            Self::AlreadyInitialised(_) => "AlreadyInitialised",
            Self::Refused(_) => "Refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    const NOW: i64 = 1_795_345_200_000;

    fn created(seconds_ago: i64) -> ConfigMap {
        let mut object = object();
        object.metadata.uid = Some("uid-1".to_owned());
        let time = jiff::Timestamp::from_millisecond(NOW - seconds_ago * 1000);
        object.metadata.creation_timestamp = Some(Time(time.expect("is a time")));
        object
    }

    fn read(config_map: &ConfigMap) -> Request {
        Request::read(Some(config_map), UnixMillis::new(NOW))
    }

    #[test]
    fn request_counts_for_ten_minutes() {
        for (seconds_ago, fresh) in [
            (0, true),
            (600, true),
            (601, false),
            (-60, true),
            (-61, false),
        ] {
            let expected = if fresh {
                Request::Fresh("uid-1".to_owned())
            } else {
                Request::Stale
            };
            assert_eq!(read(&created(seconds_ago)), expected, "{seconds_ago}");
        }
    }

    #[test]
    fn request_without_the_api_servers_stamps_is_stale() {
        assert_eq!(read(&object()), Request::Stale);
    }

    #[test]
    fn what_asks_for_nothing_is_no_request() {
        assert_eq!(Request::read(None, UnixMillis::new(NOW)), Request::None);
        let mut other = created(0);
        other.data = Some(BTreeMap::from([("request".to_owned(), "Other".to_owned())]));
        assert_eq!(read(&other), Request::None);
        other.data = None;
        assert_eq!(read(&other), Request::None);
    }

    #[test]
    fn answer_reads_back_and_ends_the_request() {
        let made = Made {
            instance: "07".repeat(16),
            audit_fingerprint: "ab".repeat(32),
        };
        for answer in [
            Answer::Initialised(made.clone()),
            Answer::AlreadyInitialised(made),
            Answer::Refused("the volume is not here".to_owned()),
        ] {
            let mut object = created(0);
            assert_eq!(Answer::read(&object), None);
            object.data.get_or_insert_default().extend(answer.data());
            assert_eq!(Answer::read(&object), Some(answer));
            assert_eq!(read(&object), Request::None);
        }
    }
}
