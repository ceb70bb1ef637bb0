//! MACs over the store's records and the root over all of them: no record can be changed, put back or dropped unseen.
//!
//! The keys' HMAC states lie in the ordinary heap, unlike KEKs: they open nothing. The multiset sum is never stored;
//! only its MAC is, so nobody without the key learns what a record adds to it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use strongroom_core::{InstanceId, KeyUse, StoreEpoch};

use crate::derive::{Label, derive_hmac_key, hmac as mac_over};
use crate::kek::Kek;

/// A MAC over one record or over the root.
#[derive(Debug, Clone, Copy)]
pub struct RecordMac([u8; Self::LEN]);

impl RecordMac {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Takes a MAC that was read back.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Gives the bytes, as records hold them.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl PartialEq for RecordMac {
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for RecordMac {}

/// Makes the MACs of one instance's store.
#[derive(Debug)]
pub struct RecordMacKey {
    instance: InstanceId,
    record: hmac::Key,
    element: hmac::Key,
    root: hmac::Key,
}

impl RecordMacKey {
    /// Derives the keys from the system ring's KEK. Another generation of the KEK gives other keys.
    pub fn derive(kek: &Kek) -> Self {
        let instance = kek.place().instance;
        let key = |label| derive_hmac_key(kek.key(), label, KeyUse::Record, instance.as_bytes());
        Self {
            instance,
            record: key(Label::RecordMac),
            element: key(Label::RootElement),
            root: key(Label::RootMac),
        }
    }

    /// Computes the MAC of a record: over the instance, its path, the `seq` of its change and its value.
    pub fn mac(&self, path: &str, seq: u64, value: &[u8]) -> RecordMac {
        let path_len = u32::try_from(path.len())
            .expect("the store's keys are short")
            .to_be_bytes();
        RecordMac(mac_over(
            &self.record,
            &[
                self.instance.as_bytes(),
                &seq.to_be_bytes(),
                &path_len,
                path.as_bytes(),
                value,
            ],
        ))
    }

    /// Computes the root: the MAC over store epoch, `seq` and the sum over all records.
    pub fn root(&self, epoch: StoreEpoch, seq: u64, sum: &RootSum) -> RecordMac {
        let epoch = epoch.get().to_be_bytes();
        let instance = self.instance.as_bytes();
        RecordMac(mac_over(
            &self.root,
            &[instance, &epoch, &seq.to_be_bytes(), &sum.to_bytes()],
        ))
    }

    fn element(&self, mac: &RecordMac) -> Sum {
        Sum::from_bytes(&mac_over(&self.element, &[mac.as_bytes()]))
    }
}

/// A hash of a multiset of record MACs: the sum modulo 2^256 of a keyed hash of each. It changes in step with the records
/// and does not know their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootSum(Sum);

impl RootSum {
    /// The sum over no record.
    pub const EMPTY: Self = Self(Sum([0; Sum::LIMBS]));

    /// Adds a record.
    pub fn add(&mut self, key: &RecordMacKey, mac: &RecordMac) {
        self.0 = self.0.plus(&key.element(mac));
    }

    /// Takes away a record that was added before.
    pub fn remove(&mut self, key: &RecordMacKey, mac: &RecordMac) {
        self.0 = self.0.minus(&key.element(mac));
    }

    fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

/// A number modulo 2^256, its least significant limb first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sum([u64; Self::LIMBS]);

impl Sum {
    const LIMBS: usize = 4;

    fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut limbs = [0; Self::LIMBS];
        for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
            *limb = u64::from_be_bytes(chunk.try_into().expect("chunks of eight"));
        }
        Self(limbs)
    }

    fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0.iter().rev()) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    fn plus(&self, other: &Self) -> Self {
        let mut carry = false;
        Self(std::array::from_fn(|limb| {
            let sum;
            (sum, carry) = self.0[limb].carrying_add(other.0[limb], carry);
            sum
        }))
    }

    fn minus(&self, other: &Self) -> Self {
        let mut borrow = false;
        Self(std::array::from_fn(|limb| {
            let difference;
            (difference, borrow) = self.0[limb].borrowing_sub(other.0[limb], borrow);
            difference
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    type Record = (String, u64, Vec<u8>);

    fn records() -> impl Strategy<Value = Vec<Record>> {
        vec(("[a-z/]{0,8}", any::<u64>(), vec(any::<u8>(), 0..8)), 1..8)
    }

    fn sum_of(key: &RecordMacKey, records: &[Record]) -> RootSum {
        let mut sum = RootSum::EMPTY;
        for (path, seq, value) in records {
            sum.add(key, &key.mac(path, *seq, value));
        }
        sum
    }

    fn root_of(key: &RecordMacKey, records: &[Record]) -> RecordMac {
        key.root(StoreEpoch::FIRST, 7, &sum_of(key, records))
    }

    proptest! {
        #[test]
        fn order_does_not_change_the_root((records, shuffled) in records()
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())))
        {
            let key = testing::record_mac_key();
            prop_assert_eq!(root_of(&key, &records), root_of(&key, &shuffled));
        }

        #[test]
        fn adding_and_removing_a_record_changes_nothing(records in records(), mac: [u8; 32]) {
            let key = testing::record_mac_key();
            let before = sum_of(&key, &records);
            let mut after = before.clone();
            after.add(&key, &RecordMac::from_bytes(mac));
            prop_assert_ne!(&after, &before);
            after.remove(&key, &RecordMac::from_bytes(mac));
            prop_assert_eq!(after, before);
        }

        #[test]
        fn a_changed_record_changes_the_root(records in records(), which: prop::sample::Index, how in 0..3) {
            let key = testing::record_mac_key();
            let mut changed = records.clone();
            let (path, seq, value) = which.get_mut(&mut changed);
            match how {
                0 => path.push('x'),
                1 => *seq ^= 1,
                _ => value.push(0),
            }
            prop_assert_ne!(root_of(&key, &records), root_of(&key, &changed));
        }

        #[test]
        fn a_dropped_or_doubled_record_changes_the_root(records in records(), which: prop::sample::Index) {
            let key = testing::record_mac_key();
            let which = which.index(records.len());
            let (mut dropped, mut doubled) = (records.clone(), records.clone());
            doubled.push(dropped.remove(which));
            prop_assert_ne!(root_of(&key, &records), root_of(&key, &dropped));
            prop_assert_ne!(root_of(&key, &records), root_of(&key, &doubled));
        }

        #[test]
        fn sums_are_numbers_modulo_two_to_the_256(one: [u8; 32], other: [u8; 32]) {
            let (one, other) = (Sum::from_bytes(&one), Sum::from_bytes(&other));
            prop_assert_eq!(one.plus(&other).to_bytes(), schoolbook(one.to_bytes(), other.to_bytes()));
            prop_assert_eq!(one.plus(&other).minus(&other), one);
        }
    }

    /// Adds byte by byte from the right, as on paper.
    fn schoolbook(one: [u8; 32], other: [u8; 32]) -> [u8; 32] {
        let (mut sum, mut carry) = ([0; 32], 0);
        for byte in (0..32).rev() {
            let digit = u16::from(one[byte]) + u16::from(other[byte]) + carry;
            sum[byte] = digit.to_be_bytes()[1];
            carry = digit >> 8;
        }
        sum
    }

    #[test]
    fn a_carry_runs_through_all_limbs() {
        let mut one = [0; 32];
        one[31] = 1;
        let most = Sum::from_bytes(&[0xff; 32]);
        assert_eq!(most.plus(&Sum::from_bytes(&one)), Sum::default());
        assert_eq!(Sum::default().minus(&Sum::from_bytes(&one)), most);
    }

    #[test]
    fn the_path_does_not_run_into_the_value() {
        let key = testing::record_mac_key();
        assert_ne!(key.mac("ab", 1, b"c"), key.mac("a", 1, b"bc"));
    }

    #[test]
    fn epoch_and_seq_are_in_the_root() {
        let key = testing::record_mac_key();
        let root = |epoch, seq| key.root(StoreEpoch::new(epoch), seq, &RootSum::EMPTY);
        assert_ne!(root(1, 1), root(1, 2));
        assert_ne!(root(1, 1), root(2, 1));
    }

    #[test]
    fn another_instance_or_kek_makes_other_macs() {
        let mac = |kek: &Kek| RecordMacKey::derive(kek).mac("key/a", 1, b"value");
        let one = mac(&testing::kek(1, [1; 32]));
        assert_ne!(one, mac(&testing::kek(2, [1; 32])));
        assert_ne!(one, mac(&testing::kek(1, [2; 32])));
        assert_eq!(one, mac(&testing::kek(1, [1; 32])));
    }
}
