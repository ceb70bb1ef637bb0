//! One line of the log. The order of the fields is the format: the verifier writes every record
//! again and compares the bytes, so a line has exactly one spelling.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;

/// The longest line, its newline included.
pub const MAX_RECORD_BYTES: usize = 32 * 1024;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A call and its outcome; calls that gave nothing new carry `folded`.
    Call,
    /// A change of the control plane; carries `change`.
    Change,
    /// Refusals of one caller folded into one record; carries `folded`.
    Refusals,
    /// A checkpoint reached a witness.
    Anchor,
    /// Records are known to be lost here; the sequence of changes starts anew.
    Gap,
    /// A process began to write; names the key of its checkpoints.
    Start,
    /// A process ended in good order.
    Stop,
}

/// How a call or an item of a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done.
    Succeeded,
    /// The caller may not.
    Denied,
    /// It was tried and could not be done.
    Failed,
    /// The items have their own outcomes.
    Batch,
}

/// The place of a control-plane change in the store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The store's epoch.
    pub epoch: u32,
    /// The store's counter.
    pub seq: u64,
}

/// One item of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// What the item was about: a path of ids.
    pub resource: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, as a stable word.
    pub code: String,
}

/// How many calls one record stands for, and when they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folded {
    /// Number of calls.
    pub count: u64,
    /// The first, in milliseconds since 1970.
    #[serde(with = "rfc3339")]
    pub first: i64,
    /// The last, in milliseconds since 1970.
    #[serde(with = "rfc3339")]
    pub last: i64,
}

/// A record as it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Position in this replica's log, from 0.
    pub index: u64,
    /// Milliseconds since 1970; in the line RFC 3339 with milliseconds.
    #[serde(with = "rfc3339")]
    pub time: i64,
    /// What the record is about.
    pub kind: Kind,
    /// Correlates the record with logs and with the answer.
    pub request_id: String,
    /// Who called.
    pub caller: String,
    /// What was asked.
    pub action: String,
    /// On what: a path of ids.
    pub resource: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, as a stable word.
    pub code: String,
    /// More, without plaintext, context values or unkeyed digests of secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, String>,
    /// The outcomes of a batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
    /// The control-plane change that this records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// The calls that this stands for: refusals, or reads that gave nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folded: Option<Folded>,
    /// SHA-256 of the line before, its newline included; zero for the first.
    pub prev: Hash,
}

/// A record before the log gave it its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Milliseconds since 1970.
    pub time: i64,
    /// What the record is about.
    pub kind: Kind,
    /// Correlates the record with logs and with the answer.
    pub request_id: String,
    /// Who called.
    pub caller: String,
    /// What was asked.
    pub action: String,
    /// On what: a path of ids.
    pub resource: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, as a stable word.
    pub code: String,
    /// More, without plaintext, context values or unkeyed digests of secrets.
    pub detail: BTreeMap<String, String>,
    /// The outcomes of a batch.
    pub items: Vec<Item>,
    /// The control-plane change that this records.
    pub change: Option<Change>,
    /// The calls that this stands for: refusals, or reads that gave nothing new.
    pub folded: Option<Folded>,
}

impl Draft {
    /// Begins a draft of `kind` at `time`; a failure until its outcome is set.
    pub fn new(kind: Kind, time: i64, action: impl Into<String>) -> Self {
        Self {
            time,
            kind,
            request_id: String::new(),
            caller: String::new(),
            action: action.into(),
            resource: String::new(),
            outcome: Outcome::Failed,
            code: String::new(),
            detail: BTreeMap::new(),
            items: Vec::new(),
            change: None,
            folded: None,
        }
    }

    pub(crate) fn into_record(self) -> Record {
        let Self {
            time,
            kind,
            request_id,
            caller,
            action,
            resource,
            outcome,
            code,
            detail,
            items,
            change,
            folded,
        } = self;
        Record {
            index: 0,
            time,
            kind,
            request_id,
            caller,
            action,
            resource,
            outcome,
            code,
            detail,
            items,
            change,
            folded,
            prev: Hash::ZERO,
        }
    }
}

impl Record {
    /// Appends the record's line to `buffer`. Fails only for a time outside the years 0 to 9999.
    pub(crate) fn write_line(&self, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut *buffer, self)?;
        buffer.push(b'\n');
        Ok(())
    }

    /// Parses a line, newline included, in the one spelling that `write_line` gives it.
    pub(crate) fn parse_line(line: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(line).ok()?;
        let mut again = Vec::with_capacity(line.len());
        record.write_line(&mut again).ok()?;
        (again == line).then_some(record)
    }
}

/// Writes milliseconds since 1970 as RFC 3339 in the one form of the log; nothing for years that
/// four digits do not hold.
pub(crate) fn time_text(ms: i64) -> Option<String> {
    // The last millisecond before the year 0 would be written with a sign.
    let first = -62_167_219_200_000;
    let time = jiff::Timestamp::from_millisecond(ms)
        .ok()
        .filter(|_| ms >= first)?;
    Some(format!("{time:.3}"))
}

/// Milliseconds since 1970 as `2026-11-22T04:39:47.123Z`.
mod rfc3339 {
    use std::borrow::Cow;

    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub(super) fn serialize<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        let text = super::time_text(*ms).ok_or_else(|| ser::Error::custom("year out of range"))?;
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let time: Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(time.as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Record {
        let mut draft = Draft::new(Kind::Change, 1_795_322_387_123, "RotateKey");
        draft.request_id = "7f".to_owned();
        draft.caller = "certificate:administrator \"a\"\n".to_owned();
        draft.resource = "ring/00/key/01".to_owned();
        draft.outcome = Outcome::Batch;
        draft.code = "Ok".to_owned();
        draft.detail = BTreeMap::from([
            ("b".to_owned(), "2".to_owned()),
            ("a".to_owned(), "1".to_owned()),
        ]);
        draft.items = vec![Item {
            resource: "key/02".to_owned(),
            outcome: Outcome::Denied,
            code: "NotPermitted".to_owned(),
        }];
        draft.change = Some(Change { epoch: 1, seq: 42 });
        draft.folded = Some(Folded {
            count: 3,
            first: 0,
            last: 999,
        });
        let mut record = draft.into_record();
        record.index = 17;
        record.prev = Hash([0xab; 32]);
        record
    }

    fn line(record: &Record) -> String {
        let mut line = Vec::new();
        record.write_line(&mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_record_with_every_field_is_this_line() {
        let prev = "ab".repeat(32);
        let expected = [
            r#"{"index":17,"time":"2026-11-22T04:39:47.123Z","kind":"change","request_id":"7f","#,
            r#""caller":"certificate:administrator \"a\"\n","action":"RotateKey","#,
            r#""resource":"ring/00/key/01","outcome":"Batch","code":"Ok","#,
            r#""detail":{"a":"1","b":"2"},"#,
            r#""items":[{"resource":"key/02","outcome":"Denied","code":"NotPermitted"}],"#,
            r#""change":{"epoch":1,"seq":42},"#,
            r#""folded":{"count":3,"first":"1970-01-01T00:00:00.000Z","#,
            r#""last":"1970-01-01T00:00:00.999Z"},"#,
            r#""prev":""#,
            &prev,
            "\"}\n",
        ];
        assert_eq!(line(&full()), expected.concat());
        assert_eq!(
            Record::parse_line(expected.concat().as_bytes()),
            Some(full())
        );
    }

    #[test]
    fn a_record_with_no_optional_field_is_this_line() {
        let record = Draft::new(Kind::Call, -1, "Encrypt").into_record();
        let expected = format!(
            "{{\"index\":0,\"time\":\"1969-12-31T23:59:59.999Z\",\"kind\":\"call\",\"request_id\":\"\",\
             \"caller\":\"\",\"action\":\"Encrypt\",\"resource\":\"\",\"outcome\":\"Failed\",\
             \"code\":\"\",\"prev\":\"{}\"}}\n",
            "0".repeat(64)
        );
        assert_eq!(line(&record), expected);
    }

    #[test]
    fn a_line_has_one_spelling() {
        let good = line(&full());
        for (from, to) in [
            ("{\"index\":17", "{ \"index\":17"),
            (".123Z", ".1230Z"),
            ("04:39:47.123Z", "05:39:47.123+01:00"),
            ("\\n", "\\u000a"),
            ("abab", "ABab"),
            ("\"items\":[{", "\"more\":1,\"items\":[{"),
            ("}\n", "}"),
            (
                "\"index\":17,\"time\":",
                "\"index\":17,\"index\":17,\"time\":",
            ),
        ] {
            let other = good.replacen(from, to, 1);
            assert_ne!(other, good);
            assert_eq!(Record::parse_line(other.as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn times_without_a_year_of_four_digits_are_refused() {
        for (time, fits) in [
            (-62_167_219_200_000, true),
            (-62_167_219_200_001, false),
            (253_402_207_199_999, true),
            (i64::MAX, false),
        ] {
            let record = Draft::new(Kind::Call, time, "Encrypt").into_record();
            assert_eq!(record.write_line(&mut Vec::new()).is_ok(), fits, "{time}");
        }
    }
}
