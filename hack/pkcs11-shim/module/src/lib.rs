//! A PKCS#11 module for tests: functions of PKCS#11 2.40 that look into the file they share with the test, and then call
//! the real module's. What is not counted is the real module's own function.
#![allow(unsafe_code, reason = "a PKCS#11 module is a C library")]

use std::{
    ffi::{CStr, OsStr, c_char, c_void},
    fs::{File, OpenOptions},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cryptoki_sys as sys;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use strongroom_pkcs11_shim::{
    Call,
    state::{self, Field},
};

/// The real module and the shared file, once for a process.
struct Shim {
    real: sys::CK_FUNCTION_LIST,
    offered: sys::CK_FUNCTION_LIST,
    shared: Shared,
}

static SHIM: OnceLock<Option<Shim>> = OnceLock::new();

/// The mapped file. It is never unmapped.
struct Shared(*mut u8);

// SAFETY: the mapping lives as long as the process, and its numbers are reached as atomics only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn map(file: &File) -> Option<Self> {
        if file.metadata().ok()?.len() != state::LENGTH as u64 {
            return None;
        }
        // SAFETY: the kernel chooses the address; nobody shortens the file while a test runs.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                state::LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        };
        start.ok().map(|start: *mut c_void| Self(start.cast()))
    }

    fn number(&self, call: Call, field: Field) -> &AtomicU64 {
        // SAFETY: the offset is below LENGTH and a multiple of eight, the mapping begins at a page.
        unsafe { AtomicU64::from_ptr(self.0.add(state::offset(call, field)).cast()) }
    }
}

impl Shim {
    fn load() -> Option<Self> {
        let state = state::path(&own_path()?);
        let content = std::fs::read(&state).ok()?;
        let real = PathBuf::from(OsStr::from_bytes(state::real(&content)?));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&state)
            .ok()?;
        let real = function_list(&real)?;
        Some(Self {
            real,
            offered: offered(real),
            shared: Shared::map(&file)?,
        })
    }

    /// Counts and delays; gives what is to be answered instead of the real module's answer.
    fn before(&self, call: Call) -> Option<sys::CK_RV> {
        let number = |field| self.shared.number(call, field);
        number(Field::Count).fetch_add(1, Ordering::SeqCst);
        let delay = number(Field::Delay).load(Ordering::SeqCst);
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay));
        }
        let answer = number(Field::Answer).load(Ordering::SeqCst);
        (answer != 0).then_some(answer)
    }
}

/// The file that this code was loaded from.
fn own_path() -> Option<PathBuf> {
    let mut found = libc::Dl_info {
        dli_fname: ptr::null::<c_char>(),
        dli_fbase: ptr::null_mut(),
        dli_sname: ptr::null(),
        dli_saddr: ptr::null_mut(),
    };
    let here = C_GetFunctionList as *const c_void;
    // SAFETY: the call writes the structure, or answers 0.
    if unsafe { libc::dladdr(here, &raw mut found) } == 0 || found.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the loader keeps the name as long as the library, which is never unloaded while it is used.
    let name = unsafe { CStr::from_ptr(found.dli_fname) };
    Some(Path::new(OsStr::from_bytes(name.to_bytes())).to_owned())
}

fn function_list(module: &Path) -> Option<sys::CK_FUNCTION_LIST> {
    type GetFunctionList = unsafe extern "C" fn(*mut sys::CK_FUNCTION_LIST_PTR) -> sys::CK_RV;
    // SAFETY: the test names the module, and trusts what it runs when it is loaded.
    let library = unsafe { Library::open(Some(module), RTLD_NOW | RTLD_LOCAL) }.ok()?;
    // SAFETY: PKCS#11 fixes the type of this symbol.
    let get = unsafe { library.get::<GetFunctionList>(b"C_GetFunctionList\0") }
        .map(|symbol| *symbol)
        .ok()?;
    // Never unloaded, so that the functions are there for ever.
    std::mem::forget(library);
    let mut list = ptr::null_mut();
    // SAFETY: the call writes one pointer.
    if unsafe { get(&raw mut list) } != sys::CKR_OK {
        return None;
    }
    // SAFETY: the standard says that the list is constant and lives as long as the module.
    unsafe { list.as_ref() }.copied()
}

/// Gives the list of functions, as PKCS#11 wants it.
///
/// # Safety
/// The pointer is null or can be written.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn C_GetFunctionList(
    list: sys::CK_FUNCTION_LIST_PTR_PTR,
) -> sys::CK_RV {
    let Some(shim) = SHIM.get_or_init(Shim::load) else {
        return sys::CKR_GENERAL_ERROR;
    };
    // SAFETY: promised by the caller.
    let Some(list) = (unsafe { list.as_mut() }) else {
        return sys::CKR_ARGUMENTS_BAD;
    };
    *list = (&raw const shim.offered).cast_mut();
    sys::CKR_OK
}

/// Makes the functions that look into the shared file first, and puts them into a copy of the real list.
macro_rules! shims {
    ($($call:ident $function:ident ($($argument:ident: $type:ty),*);)*) => {
        $(
            #[allow(non_snake_case, reason = "the name is the standard's")]
            unsafe extern "C" fn $function($($argument: $type),*) -> sys::CK_RV {
                let Some(Some(shim)) = SHIM.get() else {
                    return sys::CKR_GENERAL_ERROR;
                };
                if let Some(answer) = shim.before(Call::$call) {
                    return answer;
                }
                match shim.real.$function {
                    // SAFETY: the arguments are the caller's, for the function that it meant.
                    Some(real) => unsafe { real($($argument),*) },
                    None => sys::CKR_FUNCTION_NOT_SUPPORTED,
                }
            }
        )*

        fn offered(mut list: sys::CK_FUNCTION_LIST) -> sys::CK_FUNCTION_LIST {
            $(list.$function = Some($function);)*
            list
        }
    };
}

type Session = sys::CK_SESSION_HANDLE;
type Object = sys::CK_OBJECT_HANDLE;
type Long = sys::CK_ULONG;

shims! {
    Initialize C_Initialize(arguments: *mut c_void);
    Finalize C_Finalize(reserved: *mut c_void);
    GetSlotList C_GetSlotList(present: sys::CK_BBOOL, slots: *mut sys::CK_SLOT_ID, count: *mut Long);
    GetSlotInfo C_GetSlotInfo(slot: sys::CK_SLOT_ID, info: *mut sys::CK_SLOT_INFO);
    GetTokenInfo C_GetTokenInfo(slot: sys::CK_SLOT_ID, info: *mut sys::CK_TOKEN_INFO);
    InitToken C_InitToken(slot: sys::CK_SLOT_ID, pin: *mut u8, length: Long, label: *mut u8);
    InitPIN C_InitPIN(session: Session, pin: *mut u8, length: Long);
    OpenSession C_OpenSession(
        slot: sys::CK_SLOT_ID, flags: sys::CK_FLAGS, application: *mut c_void, notify: sys::CK_NOTIFY, session: *mut Session
    );
    CloseSession C_CloseSession(session: Session);
    Login C_Login(session: Session, user: sys::CK_USER_TYPE, pin: *mut u8, length: Long);
    CreateObject C_CreateObject(
        session: Session, template: *mut sys::CK_ATTRIBUTE, count: Long, object: *mut Object
    );
    DestroyObject C_DestroyObject(session: Session, object: Object);
    FindObjectsInit C_FindObjectsInit(session: Session, template: *mut sys::CK_ATTRIBUTE, count: Long);
    FindObjects C_FindObjects(session: Session, objects: *mut Object, most: Long, count: *mut Long);
    FindObjectsFinal C_FindObjectsFinal(session: Session);
    GetAttributeValue C_GetAttributeValue(
        session: Session, object: Object, template: *mut sys::CK_ATTRIBUTE, count: Long
    );
    EncryptInit C_EncryptInit(session: Session, mechanism: *mut sys::CK_MECHANISM, key: Object);
    Encrypt C_Encrypt(session: Session, data: *mut u8, length: Long, out: *mut u8, out_length: *mut Long);
    DecryptInit C_DecryptInit(session: Session, mechanism: *mut sys::CK_MECHANISM, key: Object);
    Decrypt C_Decrypt(session: Session, data: *mut u8, length: Long, out: *mut u8, out_length: *mut Long);
    SignInit C_SignInit(session: Session, mechanism: *mut sys::CK_MECHANISM, key: Object);
    Sign C_Sign(session: Session, data: *mut u8, length: Long, out: *mut u8, out_length: *mut Long);
    GenerateKey C_GenerateKey(
        session: Session, mechanism: *mut sys::CK_MECHANISM, template: *mut sys::CK_ATTRIBUTE, count: Long, key: *mut Object
    );
    GenerateKeyPair C_GenerateKeyPair(
        session: Session, mechanism: *mut sys::CK_MECHANISM, public: *mut sys::CK_ATTRIBUTE, public_count: Long,
        private: *mut sys::CK_ATTRIBUTE, private_count: Long, public_key: *mut Object, private_key: *mut Object
    );
    GenerateRandom C_GenerateRandom(session: Session, random: *mut u8, length: Long);
}
