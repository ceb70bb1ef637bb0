//! Descriptions of a token.

use strongroom_api::strongroom::hsm::v1::{self as pb, token_description::State};

use super::{MalformedField, array, instance};
use crate::{RootId, TokenDescription, TokenKeys, TokenState};

impl From<TokenState> for State {
    fn from(state: TokenState) -> Self {
        match state {
            TokenState::Ready => Self::Ready,
            TokenState::Uninitialized => Self::Uninitialized,
            TokenState::Incomplete => Self::Incomplete,
            TokenState::TokenMissing => Self::TokenMissing,
            TokenState::WrongPin => Self::WrongPin,
            TokenState::PinMissing => Self::PinMissing,
            TokenState::ModuleFailed => Self::ModuleFailed,
            TokenState::NoWrapProfile => Self::NoWrapProfile,
            TokenState::Damaged => Self::Damaged,
            TokenState::Starting => Self::Starting,
            TokenState::NotMade => Self::NotMade,
        }
    }
}

impl TryFrom<State> for TokenState {
    type Error = MalformedField;

    fn try_from(state: State) -> Result<Self, MalformedField> {
        match state {
            State::Unspecified => Err(MalformedField::new("state", "it is missing")),
            State::Ready => Ok(Self::Ready),
            State::Uninitialized => Ok(Self::Uninitialized),
            State::Incomplete => Ok(Self::Incomplete),
            State::TokenMissing => Ok(Self::TokenMissing),
            State::WrongPin => Ok(Self::WrongPin),
            State::PinMissing => Ok(Self::PinMissing),
            State::ModuleFailed => Ok(Self::ModuleFailed),
            State::NoWrapProfile => Ok(Self::NoWrapProfile),
            State::Damaged => Ok(Self::Damaged),
            State::Starting => Ok(Self::Starting),
            State::NotMade => Ok(Self::NotMade),
        }
    }
}

impl From<&TokenKeys> for pb::TokenKeys {
    fn from(keys: &TokenKeys) -> Self {
        Self {
            instance_id: keys.instance.as_bytes().to_vec(),
            root_id: keys.root.as_bytes().to_vec(),
            record_signing_key: keys.record_signing_key.clone(),
            certificate_authority_key: keys.certificate_authority_key.clone(),
            checkpoint_certifying_key: keys.checkpoint_certifying_key.clone(),
        }
    }
}

impl TryFrom<pb::TokenKeys> for TokenKeys {
    type Error = MalformedField;

    fn try_from(message: pb::TokenKeys) -> Result<Self, MalformedField> {
        Ok(Self {
            instance: instance(&message.instance_id)?,
            root: RootId::from_bytes(array("root_id", &message.root_id)?),
            record_signing_key: message.record_signing_key,
            certificate_authority_key: message.certificate_authority_key,
            checkpoint_certifying_key: message.checkpoint_certifying_key,
        })
    }
}

impl From<&TokenDescription> for pb::TokenDescription {
    fn from(token: &TokenDescription) -> Self {
        Self {
            state: State::from(token.state).into(),
            message: token.message.clone(),
            label: token.label.clone(),
            serial: token.serial.clone(),
            manufacturer: token.manufacturer.clone(),
            model: token.model.clone(),
            hardware: token.hardware,
            wrap_profile: token.wrap_profile.clone(),
            keys: token.keys.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::TokenDescription> for TokenDescription {
    type Error = MalformedField;

    fn try_from(message: pb::TokenDescription) -> Result<Self, MalformedField> {
        let state = State::try_from(message.state)
            .map_err(|_| MalformedField::new("state", "it is unknown"))?;
        Ok(Self {
            state: state.try_into()?,
            message: message.message,
            label: message.label,
            serial: message.serial,
            manufacturer: message.manufacturer,
            model: message.model,
            hardware: message.hardware,
            wrap_profile: message.wrap_profile,
            keys: message.keys.map(TryInto::try_into).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::InstanceId;
    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn a_description_reads_back_what_it_wrote() {
        for state in TokenState::iter() {
            let token = TokenDescription {
                state,
                message: "a".into(),
                label: "b".into(),
                serial: "c".into(),
                manufacturer: "d".into(),
                model: "e".into(),
                hardware: true,
                wrap_profile: "f".into(),
                keys: Some(TokenKeys {
                    instance: InstanceId::from_bytes([1; 16]),
                    root: RootId::from_bytes([2; 16]),
                    record_signing_key: vec![3],
                    certificate_authority_key: vec![4],
                    checkpoint_certifying_key: vec![5],
                }),
            };
            assert_eq!(
                TokenDescription::try_from(pb::TokenDescription::from(&token)),
                Ok(token)
            );
        }
    }
}
