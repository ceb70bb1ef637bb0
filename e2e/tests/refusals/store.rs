//! A store that somebody with write access changed, one record at a time, while the service was away.

use anyhow::{Context, Result, ensure};
use prost::Message;
use rusqlite::Connection;
use strongroom_api::strongroom::{
    storage::v1::{KekRecord, Record, Root, RootEnvelope, root_envelope},
    v1::{
        CreateKeyRequest, CreateKeyRingRequest, DescribeInstanceRequest, InviteNodeRequest,
        KeyAlgorithm, KeyPurpose, RotateKeyRequest, nodes_client::NodesClient,
    },
};

use strongroom_e2e::native::Native;

use crate::place::Place;

/// The sentence about the KEK that everything else hangs on.
const SYSTEM_KEK: &str =
    "the KEK of the system ring is not what the token signed, or does not open under its root";

/// The identity of a node, which every invitation writes anew.
const NODE_PATH: &str = "node/kms-plugin/cp-2";

/// One instance with three saved states, each after a genuine change of the one before.
pub(crate) struct Changed {
    pub(crate) place: Place,
    key_path: String,
    pub(crate) system_kek: String,
    pub(crate) other_kek: String,
    pub(crate) third_kek: String,
}

#[test]
fn a_store_changed_record_by_record_is_refused_by_name() -> Result<()> {
    let changed = Changed::prepare()?;
    changed.changed_record_is_named()?;
    changed.missing_and_returned_records_are_a_roll_back()?;
    changed.foreign_kek_records_are_named()?;
    changed.foreign_kek_records_under_right_macs_are_named()?;
    changed.untouched_store_serves_again()
}

impl Changed {
    fn prepare() -> Result<Self> {
        let mut place = Place::initialised("refusals-store", 23000)?;
        place.installation.settings_mut().plugins = true;
        place.installation.write_configuration()?;
        place.save("initial")?;
        let (ring, third, key, system) = place.serve_during(async |native| {
            let ring = make_ring(&native, "payments").await?;
            let third = make_ring(&native, "stock").await?;
            invite(&native).await?;
            let request = CreateKeyRequest {
                ring_id: ring.clone(),
                name: "orders".to_owned(),
                purpose: KeyPurpose::EncryptDecrypt.into(),
                algorithm: KeyAlgorithm::Aes256Gcm.into(),
            };
            let key = native.keys().create_key(request).await?.into_inner();
            let mut instance = native.instance();
            let described = instance.describe(DescribeInstanceRequest {}).await?;
            Ok((ring, third, key.id, described.into_inner().system_ring_id))
        })?;
        place.save("early")?;
        let request = RotateKeyRequest {
            ring_id: ring.clone(),
            key: key.clone(),
            etag: String::new(),
        };
        place.serve_during(async |native| {
            invite(&native).await?;
            Ok(native.keys().rotate_key(request).await?)
        })?;
        place.save("late")?;
        Ok(Self {
            place,
            key_path: format!("key/{ring}/{key}"),
            system_kek: format!("kek/{system}/1"),
            other_kek: format!("kek/{ring}/1"),
            third_kek: format!("kek/{third}/1"),
        })
    }

    fn changed_record_is_named(&self) -> Result<()> {
        let mut record = self.record("late", &self.key_path)?;
        let last = record.value.last_mut().context("a head has bytes")?;
        *last ^= 1;
        let sentence = format!("record {} was changed: its MAC does not fit", self.key_path);
        self.refused_with(&[(&self.key_path, Some(record.encode_to_vec()))], &sentence)?;

        let record = self.raw("late", &self.key_path)?;
        let elsewhere = format!("{}0", &self.key_path[..self.key_path.len() - 1]);
        let elsewhere = if elsewhere == self.key_path {
            format!("{}1", &self.key_path[..self.key_path.len() - 1])
        } else {
            elsewhere
        };
        let sentence = format!("record {elsewhere} was changed: its MAC does not fit");
        self.refused_with(&[(&elsewhere, Some(record))], &sentence)
    }

    fn missing_and_returned_records_are_a_roll_back(&self) -> Result<()> {
        let outbox = format!("audit/ctl/{:020}", 1);
        let of_init = self.raw("initial", &outbox)?;
        ensure!(
            self.raw("late", &outbox).is_err(),
            "the record of init left the outbox when it was in the log"
        );
        let earlier = self.raw("early", &self.key_path)?;
        ensure!(
            earlier != self.raw("late", &self.key_path)?,
            "rotating wrote the head again"
        );
        // A secret that is void by now, or a certificate that was superseded, would count again.
        let invited = self.raw("early", NODE_PATH)?;
        let cases: [(&str, Option<Vec<u8>>); 7] = [
            (NODE_PATH, Some(invited)),
            (NODE_PATH, None),
            (&self.key_path, None),
            // A clock that was turned would be believed.
            ("meta/clock", None),
            (&outbox, Some(of_init)),
            (&self.key_path, Some(earlier)),
            ("meta/root", Some(self.raw("early", "meta/root")?)),
        ];
        for (path, value) in cases {
            self.is_roll_back(path, value)
                .with_context(|| format!("the case of {path}"))?;
        }
        Ok(())
    }

    /// The sentence holds the stored root with its `seq`, and another root over what is there.
    fn is_roll_back(&self, path: &str, value: Option<Vec<u8>>) -> Result<()> {
        self.apply(&[(path, value)])?;
        let root = Root::decode(self.now("meta/root")?.as_slice())?;
        let stored = hex::encode(&root.root);
        let sentence = format!(
            "StoreRolledBack: records were deleted, added again or put back; stored root {stored} at seq {}, \
             recomputed root ",
            root.seq
        );
        let said = self.place.refuses("serve", &sentence)?;
        let (_, rest) = said.split_once(&sentence).context("was just found")?;
        let (computed, rest) = rest
            .split_once(", highest seq of a record ")
            .context("a seq")?;
        ensure!(
            computed.len() == 64 && hex::decode(computed).is_ok() && computed != stored,
            "{computed}"
        );
        ensure!(rest.starts_with(&self.highest_seq()?.to_string()), "{rest}");
        Ok(())
    }

    fn foreign_kek_records_are_named(&self) -> Result<()> {
        let (system, other) = (self.kek(&self.system_kek)?, self.kek(&self.other_kek)?);
        let mut replaced = system.clone();
        replaced.envelopes.clone_from(&other.envelopes);
        let mut added = system.clone();
        added.envelopes.extend(under_another_root(&other));
        let mut of_other_check = system.clone();
        of_other_check.check_value.clone_from(&other.check_value);
        for forged in [&replaced, &added, &of_other_check, &other] {
            let record = self.framed(&self.system_kek, forged)?;
            self.refused_with(&[(&self.system_kek, Some(record))], SYSTEM_KEK)?;
        }
        let mut twice_one_root = system.clone();
        twice_one_root.envelopes.extend(other.envelopes.clone());
        let record = self.framed(&self.system_kek, &twice_one_root)?;
        let sentence = "the store has no readable KEK of the system ring";
        self.refused_with(&[(&self.system_kek, Some(record))], sentence)?;
        let swapped = [
            (
                self.system_kek.as_str(),
                Some(self.raw("late", &self.other_kek)?),
            ),
            (
                self.other_kek.as_str(),
                Some(self.raw("late", &self.system_kek)?),
            ),
        ];
        self.refused_with(&swapped, SYSTEM_KEK)?;

        // Of other rings the MAC tells first; the record is named all the same.
        let sentence = format!(
            "record {} was changed: its MAC does not fit",
            self.other_kek
        );
        let mut replaced = other.clone();
        replaced.envelopes.clone_from(&system.envelopes);
        let mut added = other;
        added.envelopes.extend(system.envelopes.clone());
        for forged in [&replaced, &added, &system] {
            let record = self.framed(&self.other_kek, forged)?;
            self.refused_with(&[(&self.other_kek, Some(record))], &sentence)?;
        }

        let next = self.system_kek.replace("/1", "/2");
        let sentence = format!("record {next} was changed: its MAC does not fit");
        let record = self.framed(&self.system_kek, &system)?;
        self.refused_with(&[(&next, Some(record))], &sentence)
    }

    /// The control: what all cases started from is a good store.
    fn untouched_store_serves_again(mut self) -> Result<()> {
        self.place.restore("late")?;
        self.place.serve_during(async |_| Ok(()))?;
        self.place.clean_up()
    }

    fn refused_with(&self, changes: &[(&str, Option<Vec<u8>>)], sentence: &str) -> Result<()> {
        self.apply(changes)?;
        self.place.refuses("serve", sentence).map(drop)
    }

    /// Starts from the last state and puts or deletes records, as the engine does it.
    fn apply(&self, changes: &[(&str, Option<Vec<u8>>)]) -> Result<()> {
        self.place.restore("late")?;
        let store = Connection::open(self.place.path("service/store.db"))?;
        for (path, value) in changes {
            store.execute("DELETE FROM entry WHERE key = ?1", [path])?;
            if let Some(value) = value {
                store.execute(
                    "INSERT INTO entry (key, value, created, modified) VALUES (?1, ?2, 1, 1)",
                    (path, value),
                )?;
            }
        }
        Ok(())
    }

    pub(crate) fn raw(&self, state: &str, path: &str) -> Result<Vec<u8>> {
        self.place.restore(state)?;
        self.now(path)
    }

    pub(crate) fn now(&self, path: &str) -> Result<Vec<u8>> {
        let store = Connection::open(self.place.path("service/store.db"))?;
        let query = "SELECT value FROM entry WHERE key = ?1";
        let value = store.query_row(query, [path], |row| row.get(0));
        value.with_context(|| format!("no record {path}"))
    }

    fn record(&self, state: &str, path: &str) -> Result<Record> {
        Ok(Record::decode(self.raw(state, path)?.as_slice())?)
    }

    pub(crate) fn kek(&self, path: &str) -> Result<KekRecord> {
        let record = self.record("late", path)?;
        Ok(KekRecord::decode(record.value.as_slice())?)
    }

    /// Another KEK record in the frame of the one that is there.
    fn framed(&self, path: &str, kek: &KekRecord) -> Result<Vec<u8>> {
        let mut record = self.record("late", path)?;
        record.value = kek.encode_to_vec();
        Ok(record.encode_to_vec())
    }

    fn highest_seq(&self) -> Result<u64> {
        let store = Connection::open(self.place.path("service/store.db"))?;
        let mut query = store
            .prepare("SELECT value FROM entry WHERE key <> 'meta/root' AND key NOT LIKE 'tmp/%'")?;
        let mut highest = 0;
        for value in query.query_map([], |row| row.get::<_, Vec<u8>>(0))? {
            highest = highest.max(Record::decode(value?.as_slice())?.seq);
        }
        Ok(highest)
    }
}

async fn invite(native: &Native) -> Result<()> {
    let node = "cp-2".to_owned();
    let mut nodes = NodesClient::new(native.channel());
    nodes.invite(InviteNodeRequest { node }).await?;
    Ok(())
}

async fn make_ring(native: &Native, name: &str) -> Result<String> {
    let name = name.to_owned();
    let request = CreateKeyRingRequest { name, owner: None };
    Ok(native
        .keys()
        .create_key_ring(request)
        .await?
        .into_inner()
        .id)
}

/// The envelopes of a record, claiming to be under a root that the token does not have.
pub(crate) fn under_another_root(kek: &KekRecord) -> Vec<RootEnvelope> {
    let mut envelopes = kek.envelopes.clone();
    for envelope in &mut envelopes {
        if let Some(root_envelope::Form::AesGcmHostIv(form)) = &mut envelope.form {
            form.root_id = vec![7; 16];
        }
    }
    envelopes
}
