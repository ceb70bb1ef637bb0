//! A loaded module: its slots, its tokens, its sessions.
#![allow(unsafe_code, reason = "a PKCS#11 module is a C library")]

use std::{
    path::{Path, PathBuf},
    ptr,
};

use cryptoki_sys as sys;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::{CallError, Session};

type GetFunctionList = unsafe extern "C" fn(*mut sys::CK_FUNCTION_LIST_PTR) -> sys::CK_RV;

/// Why a module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The file is no library that can be loaded here.
    #[error("the PKCS#11 module {} cannot be loaded", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        #[source]
        source: libloading::Error,
    },
    /// The library is no PKCS#11 module.
    #[error("{} is not a PKCS#11 module", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing.
        #[source]
        source: libloading::Error,
    },
    /// The module does not start.
    #[error("the PKCS#11 module {} does not start", path.display())]
    Start {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: CallError,
    },
}

/// A place for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(super) sys::CK_SLOT_ID);

/// Who logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Sets the user's PIN.
    SecurityOfficer,
    /// Uses keys.
    User,
}

/// What a token says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenInfo {
    pub(crate) label: String,
    pub(crate) serial: String,
    pub(crate) manufacturer: String,
    pub(crate) model: String,
    pub(crate) initialized: bool,
    pub(crate) user_pin_set: bool,
    pub(crate) hardware: bool,
}

/// A module that is loaded and initialised for the rest of the process. One thread uses it.
#[derive(Clone, Copy)]
pub(crate) struct Module {
    functions: &'static sys::CK_FUNCTION_LIST,
}

impl Module {
    /// Loads and initialises a module. Called once in a process: a second instance of one library is undefined.
    pub(crate) fn load(path: &Path) -> Result<Self, LoadError> {
        let path_owned = || path.to_owned();
        // SAFETY: loading runs the library's constructors. Which library is the administrator's decision, in the
        // configuration; that it is loaded into a process of its own is ours.
        let library =
            unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|source| {
                LoadError::Open {
                    path: path_owned(),
                    source,
                }
            })?;
        // SAFETY: the standard fixes the type of this symbol.
        let get_function_list = unsafe { library.get::<GetFunctionList>(b"C_GetFunctionList\0") }
            .map(|symbol| *symbol)
            .map_err(|source| LoadError::Foreign {
                path: path_owned(),
                source,
            })?;
        // Never unloaded, so that the functions below are there for ever.
        std::mem::forget(library);
        let start = |source| LoadError::Start {
            path: path_owned(),
            source,
        };
        let module = Self {
            functions: function_list(get_function_list).map_err(start)?,
        };
        module.initialize().map_err(start)?;
        Ok(module)
    }

    fn initialize(self) -> Result<(), CallError> {
        let mut arguments = sys::CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: sys::CKF_OS_LOCKING_OK,
            pReserved: ptr::null_mut(),
        };
        let initialize = Self::function("C_Initialize", self.functions.C_Initialize)?;
        // SAFETY: the arguments live through the call, which copies what it keeps.
        let rv = unsafe { initialize((&raw mut arguments).cast()) };
        CallError::check("C_Initialize", rv)
    }

    /// Starts the module anew, so that it sees tokens that came or went. No session may be open.
    pub(crate) fn restart(self) -> Result<(), CallError> {
        let finalize = Self::function("C_Finalize", self.functions.C_Finalize)?;
        // SAFETY: the argument is reserved and must be null. One thread uses the module, and it is here.
        let rv = unsafe { finalize(ptr::null_mut()) };
        CallError::check("C_Finalize", rv)?;
        self.initialize()
    }

    /// Lists the slots that have a token.
    pub(crate) fn slots(self) -> Result<Vec<Slot>, CallError> {
        const MOST: usize = 64;
        let list = Self::function("C_GetSlotList", self.functions.C_GetSlotList)?;
        let mut count = 0;
        // SAFETY: without a list the call only counts. SoftHSM finds new tokens in this call alone.
        let rv = unsafe { list(sys::CK_TRUE, ptr::null_mut(), &raw mut count) };
        CallError::check("C_GetSlotList", rv)?;
        let mut slots: [sys::CK_SLOT_ID; MOST] = [0; MOST];
        count = MOST as sys::CK_ULONG;
        // SAFETY: `count` is the room in `slots`.
        let rv = unsafe { list(sys::CK_TRUE, slots.as_mut_ptr(), &raw mut count) };
        CallError::check("C_GetSlotList", rv)?;
        let filled = Self::within("C_GetSlotList", &slots, count)?;
        Ok(filled.iter().copied().map(Slot).collect())
    }

    /// Asks a token about itself.
    pub(crate) fn token(self, slot: Slot) -> Result<TokenInfo, CallError> {
        let get = Self::function("C_GetTokenInfo", self.functions.C_GetTokenInfo)?;
        // SAFETY: the structure holds integers and bytes only, so zeros are a value of it.
        let mut info: sys::CK_TOKEN_INFO = unsafe { std::mem::zeroed() };
        // SAFETY: the call writes one structure.
        let rv = unsafe { get(slot.0, &raw mut info) };
        CallError::check("C_GetTokenInfo", rv)?;
        Ok(TokenInfo {
            label: padded(&info.label),
            serial: padded(&info.serialNumber),
            manufacturer: padded(&info.manufacturerID),
            model: padded(&info.model),
            initialized: info.flags & sys::CKF_TOKEN_INITIALIZED != 0,
            user_pin_set: info.flags & sys::CKF_USER_PIN_INITIALIZED != 0,
            hardware: self.is_hardware(slot)?,
        })
    }

    fn is_hardware(self, slot: Slot) -> Result<bool, CallError> {
        let get = Self::function("C_GetSlotInfo", self.functions.C_GetSlotInfo)?;
        // SAFETY: the structure holds integers and bytes only, so zeros are a value of it.
        let mut info: sys::CK_SLOT_INFO = unsafe { std::mem::zeroed() };
        // SAFETY: the call writes one structure.
        let rv = unsafe { get(slot.0, &raw mut info) };
        CallError::check("C_GetSlotInfo", rv)?;
        Ok(info.flags & sys::CKF_HW_SLOT != 0)
    }

    /// Makes a token, or empties the one that is there.
    pub(crate) fn init_token(self, slot: Slot, pin: &[u8], label: &str) -> Result<(), CallError> {
        let init = Self::function("C_InitToken", self.functions.C_InitToken)?;
        let mut padded = [b' '; 32];
        let len = label.len().min(padded.len());
        padded[..len].copy_from_slice(&label.as_bytes()[..len]);
        // SAFETY: the PIN has the length that is given, the label 32 bytes; the call only reads them.
        let rv = unsafe {
            init(
                slot.0,
                pin.as_ptr().cast_mut(),
                pin.len() as sys::CK_ULONG,
                padded.as_mut_ptr(),
            )
        };
        CallError::check("C_InitToken", rv)
    }

    /// Opens a session that may change the token. Some modules have no other kind.
    pub(crate) fn open_session(self, slot: Slot) -> Result<Session, CallError> {
        let open = Self::function("C_OpenSession", self.functions.C_OpenSession)?;
        let flags = sys::CKF_SERIAL_SESSION | sys::CKF_RW_SESSION;
        let mut handle = 0;
        // SAFETY: without a callback its context is not used; the call writes one handle.
        let rv = unsafe { open(slot.0, flags, ptr::null_mut(), None, &raw mut handle) };
        CallError::check("C_OpenSession", rv)?;
        Ok(Session::new(self, handle))
    }

    pub(super) const fn functions(self) -> &'static sys::CK_FUNCTION_LIST {
        self.functions
    }

    /// Takes a function out of the list; old modules leave out some.
    pub(super) fn function<F>(call: &'static str, function: Option<F>) -> Result<F, CallError> {
        function.ok_or(CallError::Missing { call })
    }

    /// Cuts a buffer to the length that a module claims to have written.
    pub(super) fn within<'a, T>(
        call: &'static str,
        buffer: &'a [T],
        len: sys::CK_ULONG,
    ) -> Result<&'a [T], CallError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        buffer.get(..len).ok_or(CallError::Length {
            call,
            len,
            expected: buffer.len(),
        })
    }
}

fn function_list(get: GetFunctionList) -> Result<&'static sys::CK_FUNCTION_LIST, CallError> {
    let mut list = ptr::null_mut();
    // SAFETY: the call writes one pointer.
    let rv = unsafe { get(&raw mut list) };
    CallError::check("C_GetFunctionList", rv)?;
    // SAFETY: the standard says that the list is in the module and constant; the module is never unloaded.
    unsafe { list.as_ref() }.ok_or(CallError::Missing {
        call: "C_GetFunctionList",
    })
}

/// Reads text that is padded with spaces, not terminated.
fn padded(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches([' ', '\0'])
        .to_owned()
}
