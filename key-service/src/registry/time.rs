//! The record of what time it was: from and to the bytes of the store.

use std::time::Duration;

use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{BootId, Jump, Reading, TimeMark, UnixMillis};

use super::codec::{DecodeError, Decoded};

pub(super) fn encode(mark: &TimeMark) -> wire::ClockRecord {
    let TimeMark {
        floor,
        compared: Reading {
            wall,
            elapsed,
            boot,
        },
        jump,
    } = mark;
    wire::ClockRecord {
        floor_ms: floor.as_i64(),
        compared_ms: wall.as_i64(),
        compared_boot_clock_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        boot_id: boot.0.to_vec(),
        jump: jump.map(|jump| wire::ClockJump {
            noticed_ms: jump.noticed.as_i64(),
            ahead_ms: jump.ahead_millis,
        }),
    }
}

pub(super) fn decode(record: wire::ClockRecord) -> Decoded<TimeMark> {
    let wire::ClockRecord {
        floor_ms,
        compared_ms,
        compared_boot_clock_ms,
        boot_id,
        jump,
    } = record;
    let boot = boot_id.try_into().map_err(|_| DecodeError("boot_id"))?;
    Ok(TimeMark {
        floor: UnixMillis::new(floor_ms),
        compared: Reading {
            wall: UnixMillis::new(compared_ms),
            elapsed: Duration::from_millis(compared_boot_clock_ms),
            boot: BootId(boot),
        },
        jump: jump.map(|jump| Jump {
            noticed: UnixMillis::new(jump.noticed_ms),
            ahead_millis: jump.ahead_ms,
        }),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use prost::Message;

    use super::*;

    fn full() -> TimeMark {
        TimeMark {
            floor: UnixMillis::new(1_800_000_000_000),
            compared: Reading {
                wall: UnixMillis::new(1_799_999_999_000),
                elapsed: Duration::from_millis(5_001),
                boot: BootId([0xb0; 16]),
            },
            jump: Some(Jump {
                noticed: UnixMillis::new(1_799_999_999_500),
                ahead_millis: -61_000,
            }),
        }
    }

    #[test]
    fn bytes_of_a_record_are_frozen() {
        let bytes = encode(&full()).encode_to_vec();
        expect!["0880a0f1c2b134109898f1c2b1341889272210b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b02a12088c9cf1c2b13410b8a3fcffffffffffff01"].assert_eq(&hex::encode(&bytes));
        let read = wire::ClockRecord::decode(bytes.as_slice()).expect("was just written");
        assert_eq!(decode(read).expect("is ours"), full());
    }

    #[test]
    fn time_without_a_jump_is_read_back() {
        let settled = TimeMark {
            jump: None,
            ..full()
        };
        assert_eq!(decode(encode(&settled)).expect("is ours"), settled);
    }

    #[test]
    fn a_boot_that_is_none_is_refused_by_field() {
        let mut record = encode(&full());
        record.boot_id.clear();
        let error = decode(record).expect_err("is none");
        assert!(error.to_string().contains("boot_id"), "{error}");
    }
}
