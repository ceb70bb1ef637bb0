//! Attributes of objects, as safe values that live as long as a call needs them.
#![forbid(unsafe_code)]

use cryptoki_sys as sys;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectClass {
    /// Bytes of ours.
    Data,
    /// A symmetric key.
    SecretKey,
    /// The private half of a pair.
    PrivateKey,
    /// The public half of a pair.
    PublicKey,
}

/// What a key is for, in the module's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// AES.
    Aes,
    /// An elliptic curve.
    Ec,
}

/// An attribute whose value we read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// What the object is.
    Class,
    /// What kind of key.
    KeyType,
    /// Survives the session.
    Token,
    /// Seen after a login only.
    Private,
    /// Can be changed.
    Modifiable,
    /// For people.
    Label,
    /// Which program a data object belongs to.
    Application,
    /// The bytes of a data object.
    Value,
    /// The length of a secret key.
    ValueLen,
    /// Which key.
    Id,
    /// Never leaves in plaintext.
    Sensitive,
    /// Can leave at all.
    Extractable,
    /// Has never been without `Sensitive`.
    AlwaysSensitive,
    /// Has never been with `Extractable`.
    NeverExtractable,
    /// Was made in the token.
    Local,
    /// May encrypt.
    Encrypt,
    /// May decrypt.
    Decrypt,
    /// May sign.
    Sign,
    /// May verify.
    Verify,
    /// May wrap keys.
    Wrap,
    /// May unwrap keys.
    Unwrap,
    /// May be derived from.
    Derive,
    /// The curve.
    EcParams,
    /// The public point.
    EcPoint,
}

impl Attribute {
    pub(super) const fn code(self) -> sys::CK_ATTRIBUTE_TYPE {
        match self {
            Self::Class => sys::CKA_CLASS,
            Self::KeyType => sys::CKA_KEY_TYPE,
            Self::Token => sys::CKA_TOKEN,
            Self::Private => sys::CKA_PRIVATE,
            Self::Modifiable => sys::CKA_MODIFIABLE,
            Self::Label => sys::CKA_LABEL,
            Self::Application => sys::CKA_APPLICATION,
            Self::Value => sys::CKA_VALUE,
            Self::ValueLen => sys::CKA_VALUE_LEN,
            Self::Id => sys::CKA_ID,
            Self::Sensitive => sys::CKA_SENSITIVE,
            Self::Extractable => sys::CKA_EXTRACTABLE,
            Self::AlwaysSensitive => sys::CKA_ALWAYS_SENSITIVE,
            Self::NeverExtractable => sys::CKA_NEVER_EXTRACTABLE,
            Self::Local => sys::CKA_LOCAL,
            Self::Encrypt => sys::CKA_ENCRYPT,
            Self::Decrypt => sys::CKA_DECRYPT,
            Self::Sign => sys::CKA_SIGN,
            Self::Verify => sys::CKA_VERIFY,
            Self::Wrap => sys::CKA_WRAP,
            Self::Unwrap => sys::CKA_UNWRAP,
            Self::Derive => sys::CKA_DERIVE,
            Self::EcParams => sys::CKA_EC_PARAMS,
            Self::EcPoint => sys::CKA_EC_POINT,
        }
    }
}

/// An attribute with its value in the module's representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttributeValue {
    pub(super) attribute: Attribute,
    pub(super) value: Vec<u8>,
}

impl AttributeValue {
    /// Says yes or no.
    pub(crate) fn flag(attribute: Attribute, on: bool) -> Self {
        Self {
            attribute,
            value: vec![if on { sys::CK_TRUE } else { sys::CK_FALSE }],
        }
    }

    /// Gives bytes.
    pub(crate) fn bytes(attribute: Attribute, bytes: &[u8]) -> Self {
        Self {
            attribute,
            value: bytes.to_vec(),
        }
    }

    /// Gives a length.
    pub(crate) fn number(attribute: Attribute, number: u32) -> Self {
        Self {
            attribute,
            value: sys::CK_ULONG::from(number).to_ne_bytes().to_vec(),
        }
    }

    /// Says what the object is.
    pub(crate) fn class(class: ObjectClass) -> Self {
        let code = match class {
            ObjectClass::Data => sys::CKO_DATA,
            ObjectClass::SecretKey => sys::CKO_SECRET_KEY,
            ObjectClass::PrivateKey => sys::CKO_PRIVATE_KEY,
            ObjectClass::PublicKey => sys::CKO_PUBLIC_KEY,
        };
        Self {
            attribute: Attribute::Class,
            value: code.to_ne_bytes().to_vec(),
        }
    }

    /// Says what kind of key it is.
    pub(crate) fn key_kind(kind: KeyKind) -> Self {
        let code = match kind {
            KeyKind::Aes => sys::CKK_AES,
            KeyKind::Ec => sys::CKK_EC,
        };
        Self {
            attribute: Attribute::KeyType,
            value: code.to_ne_bytes().to_vec(),
        }
    }

    /// Tells which attribute it is.
    pub(crate) const fn attribute(&self) -> Attribute {
        self.attribute
    }

    /// Gives the value as the module represents it.
    pub(crate) fn value(&self) -> &[u8] {
        &self.value
    }
}
