//! KEK records that the token did not sign, in a store whose MACs and root are all right: whoever has got hold of the MAC
//! key still cannot slip a KEK of his own under a ring.

use anyhow::{Context, Result, ensure};
use prost::Message;
use rusqlite::Connection;
use strongroom_api::strongroom::{
    hsm::v1::{self as hsm, hsm_agent_client::HsmAgentClient},
    storage::v1::{KekRecord, Record, Root, root_envelope},
};
use strongroom_core::{Generation, InstanceId, RingId, StoreEpoch};
use strongroom_crypto::{
    Kek, KekPlace, LockedMemory, LockedMemorySize, RecordMac, RecordMacKey, RootSum,
};
use strongroom_e2e::user::as_user;
use strongroom_hack::installation::{AGENT_UID, KEY_SERVICE_UID};
use strongroom_runtime::socket;

use crate::store::{Changed, under_another_root};

impl Changed {
    pub(crate) fn foreign_kek_records_under_right_macs_are_named(&self) -> Result<()> {
        let macs = Macs::of(self)?;
        let untouched = self.raw("late", "meta/root")?;
        self.put_back_with(&macs, &[])?;
        ensure!(
            self.now("meta/root")? == untouched,
            "the control: the MACs of the test are those of the service"
        );

        let path = self.other_kek.as_str();
        let (ours, third, system) = (
            self.kek(path)?,
            self.kek(&self.third_kek)?,
            self.kek(&self.system_kek)?,
        );
        for (case, forged) in forgeries(&ours, &third, &system) {
            ensure!(forged != ours, "{case} changes nothing");
            self.is_refused(&macs, &[(path, &forged)])
                .with_context(|| case)?;
        }
        let swapped = [(path, &third), (self.third_kek.as_str(), &ours)];
        self.is_refused(&macs, &swapped)
            .context("records of two rings, swapped")?;
        let mut next = ours;
        next.generation = 2;
        let path = path.replace("/1", "/2");
        self.is_refused(&macs, &[(&path, &next)])
            .context("a generation that nobody made")
    }

    /// The sentence names the ring of one of the records.
    fn is_refused(&self, macs: &Macs, forged: &[(&str, &KekRecord)]) -> Result<()> {
        self.put_back_with(macs, forged)?;
        let said = self
            .place
            .refuses("serve", "start failed: the KEK of ring ")?;
        let named = forged.iter().any(|(path, _)| {
            let ring = path.split('/').nth(1).unwrap_or_default();
            said.contains(&format!(
                "the KEK of ring {ring} is not what the token signed, or does not open under its root"
            ))
        });
        ensure!(named, "{said}");
        Ok(())
    }

    fn put_back_with(&self, macs: &Macs, forged: &[(&str, &KekRecord)]) -> Result<()> {
        self.place.restore("late")?;
        let store = Connection::open(self.place.path("service/store.db"))?;
        for (path, kek) in forged {
            macs.put(&store, path, kek.encode_to_vec())?;
        }
        macs.replace_root(&store)
    }
}

/// What somebody could make of a ring's KEK record with what else is in the store.
fn forgeries(
    ours: &KekRecord,
    third: &KekRecord,
    system: &KekRecord,
) -> Vec<(&'static str, KekRecord)> {
    let changed = |change: &dyn Fn(&mut KekRecord)| {
        let mut record = ours.clone();
        change(&mut record);
        record
    };
    vec![
        ("a changed signature", changed(&|it| it.signature[40] ^= 1)),
        (
            "a signature that the token gave another ring",
            changed(&|it| it.signature.clone_from(&third.signature)),
        ),
        (
            "an envelope replaced",
            changed(&|it| it.envelopes.clone_from(&third.envelopes)),
        ),
        (
            "an envelope of the system ring",
            changed(&|it| it.envelopes.clone_from(&system.envelopes)),
        ),
        (
            "an envelope added",
            changed(&|it| it.envelopes.extend(under_another_root(third))),
        ),
        (
            "one byte of an envelope",
            changed(&|it| {
                if let Some(root_envelope::Form::AesGcmHostIv(form)) = &mut it.envelopes[0].form {
                    form.sealed[0] ^= 1;
                }
            }),
        ),
        (
            "a check value replaced",
            changed(&|it| it.check_value.clone_from(&third.check_value)),
        ),
        ("a whole record of another ring", third.clone()),
        ("the record of the system ring", system.clone()),
    ]
}

/// Makes MACs and roots as the service does, with the KEK that the token gives its user.
struct Macs(RecordMacKey);

impl Macs {
    fn of(changed: &Changed) -> Result<Self> {
        let stored = changed.kek(&changed.system_kek)?;
        let instance: InstanceId = changed.place.instance()?.parse()?;
        let ring = changed.system_kek.split('/').nth(1);
        let ring: RingId = ring.context("a path of a KEK names its ring")?.parse()?;
        let place = KekPlace {
            instance,
            ring,
            generation: Generation::FIRST,
        };
        let kek = unwrap(changed, signed(place, stored)?)?;
        let size = LockedMemorySize {
            wanted: 64 * 1024,
            least: 4096,
        };
        let memory = LockedMemory::reserve(size)?;
        let kek: &[u8; 32] = kek.as_slice().try_into()?;
        let kek = Kek::new(place, memory.copy(kek)?);
        Ok(Self(RecordMacKey::derive(&kek)))
    }

    fn put(&self, store: &Connection, path: &str, value: Vec<u8>) -> Result<()> {
        let root = root(store)?;
        let mac = self.0.mac(path, root.seq, &value);
        let record = Record {
            seq: root.seq,
            value,
            mac: mac.as_bytes().to_vec(),
        };
        replace(store, path, &record.encode_to_vec())
    }

    fn replace_root(&self, store: &Connection) -> Result<()> {
        let mut root = root(store)?;
        let mut sum = RootSum::default();
        let mut query = store
            .prepare("SELECT value FROM entry WHERE key <> 'meta/root' AND key NOT LIKE 'tmp/%'")?;
        for value in query.query_map([], |row| row.get::<_, Vec<u8>>(0))? {
            let mac: [u8; 32] = Record::decode(value?.as_slice())?
                .mac
                .as_slice()
                .try_into()?;
            sum.add(&self.0, &RecordMac::from_bytes(mac));
        }
        let mac = self
            .0
            .root(StoreEpoch::new(root.store_epoch), root.seq, &sum);
        root.root = mac.as_bytes().to_vec();
        replace(store, "meta/root", &root.encode_to_vec())
    }
}

fn root(store: &Connection) -> Result<Root> {
    let query = "SELECT value FROM entry WHERE key = 'meta/root'";
    let value: Vec<u8> = store.query_row(query, [], |row| row.get(0))?;
    Ok(Root::decode(value.as_slice())?)
}

fn replace(store: &Connection, path: &str, value: &[u8]) -> Result<()> {
    store.execute("DELETE FROM entry WHERE key = ?1", [path])?;
    store.execute(
        "INSERT INTO entry (key, value, created, modified) VALUES (?1, ?2, 1, 1)",
        (path, value),
    )?;
    Ok(())
}

/// The record of the store as the agent takes it.
fn signed(place: KekPlace, stored: KekRecord) -> Result<hsm::SignedKekRecord> {
    let envelopes = stored.envelopes.into_iter().map(|envelope| {
        let Some(root_envelope::Form::AesGcmHostIv(form)) = envelope.form else {
            anyhow::bail!("an envelope of another form");
        };
        Ok(hsm::RootEnvelope {
            root_id: form.root_id,
            form: Some(hsm::root_envelope::Form::AesGcmHostIv(hsm::AesGcmHostIv {
                iv: form.iv,
                sealed: form.sealed,
            })),
        })
    });
    let record = hsm::KekRecord {
        instance_id: place.instance.as_bytes().to_vec(),
        ring_id: place.ring.as_bytes().to_vec(),
        generation: place.generation.get(),
        envelopes: envelopes.collect::<Result<_>>()?,
        check_value: stored.check_value,
    };
    Ok(hsm::SignedKekRecord {
        record: Some(record),
        signature: stored.signature,
    })
}

fn unwrap(changed: &Changed, record: hsm::SignedKekRecord) -> Result<Vec<u8>> {
    let path = changed.place.path("run/hsm/agent.sock");
    let answer = as_user(KEY_SERVICE_UID, KEY_SERVICE_UID, async move || {
        let mut client = HsmAgentClient::new(socket::channel(&path, AGENT_UID));
        let request = hsm::UnwrapKekRequest {
            record: Some(record),
        };
        client.unwrap_kek(request).await
    })?;
    Ok(answer?.into_inner().kek)
}
