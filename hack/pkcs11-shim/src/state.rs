//! The file that a test and the module share: the path of the real module, then four numbers for each call.

use std::path::{Path, PathBuf};

macro_rules! calls {
    ($($name:ident),* $(,)?) => {
        /// A call that is counted and can be delayed or failed. The rest of the interface is passed through.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Call {
            $(
                #[doc = concat!("`C_", stringify!($name), "`.")]
                $name,
            )*
        }

        impl Call {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

calls!(
    Initialize,
    Finalize,
    GetSlotList,
    GetSlotInfo,
    GetTokenInfo,
    InitToken,
    InitPIN,
    OpenSession,
    CloseSession,
    Login,
    CreateObject,
    DestroyObject,
    FindObjectsInit,
    FindObjects,
    FindObjectsFinal,
    GetAttributeValue,
    EncryptInit,
    Encrypt,
    DecryptInit,
    Decrypt,
    SignInit,
    Sign,
    GenerateKey,
    GenerateKeyPair,
    GenerateRandom,
);

/// What the file says of a call, each a little-endian number of eight bytes.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// How often it was called.
    Count,
    /// Milliseconds that it waits before it does anything.
    Delay,
    /// What it answers instead of asking the real module; 0 asks.
    Answer,
}

const PATH_SPACE: usize = 1024;
const CALL_SPACE: usize = 32;

/// Length of the file.
pub const LENGTH: usize = PATH_SPACE + CALL_SPACE * Call::ALL.len();

/// Place of a number in the file, a multiple of eight.
pub const fn offset(call: Call, field: Field) -> usize {
    PATH_SPACE + CALL_SPACE * call as usize + 8 * field as usize
}

/// The file that belongs to a module.
pub fn path(module: &Path) -> PathBuf {
    module.with_extension("state")
}

/// The content of a new file, or none when the path is too long for it.
pub fn content(real: &Path) -> Option<Vec<u8>> {
    let name = real.as_os_str().as_encoded_bytes();
    let mut content = vec![0; LENGTH];
    content
        .get_mut(..PATH_SPACE)?
        .get_mut(..name.len())?
        .copy_from_slice(name);
    Some(content)
}

/// The path of the real module, without the zeros after it.
pub fn real(content: &[u8]) -> Option<&[u8]> {
    content.get(..PATH_SPACE)?.split(|byte| *byte == 0).next()
}
