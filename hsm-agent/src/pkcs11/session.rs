//! A session and the calls in it.
#![allow(unsafe_code, reason = "a PKCS#11 module is a C library")]

use std::ptr;

use cryptoki_sys as sys;
use zeroize::Zeroizing;

use super::{Attribute, AttributeValue, CallError, Module, User};

/// An object of the token, as this login sees it. Handles change when the module starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectHandle(sys::CK_OBJECT_HANDLE);

/// What AES-GCM takes beside the data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GcmInput<'a> {
    pub(crate) iv: &'a [u8; 12],
    pub(crate) context: &'a [u8],
}

/// The most bytes of an attribute that we read.
const ATTRIBUTE_MAX: usize = 4096;
/// Room beyond what AES-GCM needs: some modules want to write a block more before they cut.
const SLACK: usize = 16;
const TAG_LEN: usize = 16;

/// An open session, closed when it is dropped.
pub(crate) struct Session {
    module: Module,
    handle: sys::CK_SESSION_HANDLE,
}

impl Session {
    pub(super) const fn new(module: Module, handle: sys::CK_SESSION_HANDLE) -> Self {
        Self { module, handle }
    }

    /// Logs in all sessions of the process.
    pub(crate) fn login(&self, user: User, pin: &[u8]) -> Result<(), CallError> {
        let login = Module::function("C_Login", self.module.functions().C_Login)?;
        let user = match user {
            User::SecurityOfficer => sys::CKU_SO,
            User::User => sys::CKU_USER,
        };
        let len = pin.len() as sys::CK_ULONG;
        // SAFETY: the PIN has the length that is given; the call only reads it.
        let rv = unsafe { login(self.handle, user, pin.as_ptr().cast_mut(), len) };
        CallError::check("C_Login", rv)
    }

    /// Sets the user's PIN; the security officer is logged in.
    pub(crate) fn init_pin(&self, pin: &[u8]) -> Result<(), CallError> {
        let init = Module::function("C_InitPIN", self.module.functions().C_InitPIN)?;
        let len = pin.len() as sys::CK_ULONG;
        // SAFETY: the PIN has the length that is given; the call only reads it.
        let rv = unsafe { init(self.handle, pin.as_ptr().cast_mut(), len) };
        CallError::check("C_InitPIN", rv)
    }

    /// Fills a buffer from the token's generator.
    pub(crate) fn random(&self, bytes: &mut [u8]) -> Result<(), CallError> {
        let generate = self.module.functions().C_GenerateRandom;
        let generate = Module::function("C_GenerateRandom", generate)?;
        let len = bytes.len() as sys::CK_ULONG;
        // SAFETY: the call writes as many bytes as the buffer has.
        let rv = unsafe { generate(self.handle, bytes.as_mut_ptr(), len) };
        CallError::check("C_GenerateRandom", rv)
    }

    /// Finds the objects with these attributes, at most `MOST`: more than a few mean that the token is not ours alone.
    pub(crate) fn find(&self, wanted: &[AttributeValue]) -> Result<Vec<ObjectHandle>, CallError> {
        const MOST: usize = 32;
        let functions = self.module.functions();
        let begin = Module::function("C_FindObjectsInit", functions.C_FindObjectsInit)?;
        let find = Module::function("C_FindObjects", functions.C_FindObjects)?;
        let end = Module::function("C_FindObjectsFinal", functions.C_FindObjectsFinal)?;
        let mut raw = raw_template(wanted);
        // SAFETY: the attributes point into `wanted`, which lives through the call; the call only reads them.
        let rv = unsafe { begin(self.handle, raw.as_mut_ptr(), raw.len() as sys::CK_ULONG) };
        CallError::check("C_FindObjectsInit", rv)?;
        let mut found: [sys::CK_OBJECT_HANDLE; MOST] = [0; MOST];
        let mut count = 0;
        let room = MOST as sys::CK_ULONG;
        // SAFETY: `room` is the room in `found`.
        let rv = unsafe { find(self.handle, found.as_mut_ptr(), room, &raw mut count) };
        // SAFETY: ends the search that was begun in this session.
        let ended = unsafe { end(self.handle) };
        CallError::check("C_FindObjects", rv)?;
        CallError::check("C_FindObjectsFinal", ended)?;
        let found = Module::within("C_FindObjects", &found, count)?;
        Ok(found.iter().copied().map(ObjectHandle).collect())
    }

    /// Reads an attribute; `None` when the object does not have it or does not give it away.
    pub(crate) fn attribute(
        &self,
        object: ObjectHandle,
        attribute: Attribute,
    ) -> Result<Option<Vec<u8>>, CallError> {
        let get = self.module.functions().C_GetAttributeValue;
        let get = Module::function("C_GetAttributeValue", get)?;
        let mut buffer = vec![0u8; ATTRIBUTE_MAX];
        let mut raw = sys::CK_ATTRIBUTE {
            type_: attribute.code(),
            pValue: buffer.as_mut_ptr().cast(),
            ulValueLen: ATTRIBUTE_MAX as sys::CK_ULONG,
        };
        // SAFETY: one attribute, whose value points to a buffer with the length that is given.
        let rv = unsafe { get(self.handle, object.0, &raw mut raw, 1) };
        match rv {
            sys::CKR_ATTRIBUTE_TYPE_INVALID | sys::CKR_ATTRIBUTE_SENSITIVE => return Ok(None),
            rv => CallError::check("C_GetAttributeValue", rv)?,
        }
        Module::within("C_GetAttributeValue", &buffer, raw.ulValueLen)
            .map(|value| Some(value.to_vec()))
    }

    /// Makes an object from a template.
    pub(crate) fn create(&self, template: &[AttributeValue]) -> Result<ObjectHandle, CallError> {
        let create = self.module.functions().C_CreateObject;
        let create = Module::function("C_CreateObject", create)?;
        let mut raw = raw_template(template);
        let mut handle = 0;
        // SAFETY: the attributes point into `template`, which lives through the call; the call writes one handle.
        let rv = unsafe {
            create(
                self.handle,
                raw.as_mut_ptr(),
                raw.len() as sys::CK_ULONG,
                &raw mut handle,
            )
        };
        CallError::check("C_CreateObject", rv).map(|()| ObjectHandle(handle))
    }

    /// Destroys an object.
    pub(crate) fn destroy(&self, object: ObjectHandle) -> Result<(), CallError> {
        let destroy = self.module.functions().C_DestroyObject;
        let destroy = Module::function("C_DestroyObject", destroy)?;
        // SAFETY: takes two handles and no pointer.
        let rv = unsafe { destroy(self.handle, object.0) };
        CallError::check("C_DestroyObject", rv)
    }

    /// Makes an AES key in the token.
    pub(crate) fn generate_aes(&self, key: &[AttributeValue]) -> Result<ObjectHandle, CallError> {
        let generate = self.module.functions().C_GenerateKey;
        let generate = Module::function("C_GenerateKey", generate)?;
        let mut mechanism = plain(sys::CKM_AES_KEY_GEN);
        let mut raw = raw_template(key);
        let count = raw.len() as sys::CK_ULONG;
        let mut handle = 0;
        // SAFETY: the mechanism has no parameter, the attributes point into `key`; the call writes one handle.
        let rv = unsafe {
            generate(
                self.handle,
                &raw mut mechanism,
                raw.as_mut_ptr(),
                count,
                &raw mut handle,
            )
        };
        CallError::check("C_GenerateKey", rv).map(|()| ObjectHandle(handle))
    }

    /// Makes a pair on the curve of the public template in the token.
    pub(crate) fn generate_ec_pair(
        &self,
        public: &[AttributeValue],
        private: &[AttributeValue],
    ) -> Result<(), CallError> {
        let generate = self.module.functions().C_GenerateKeyPair;
        let generate = Module::function("C_GenerateKeyPair", generate)?;
        let mut mechanism = plain(sys::CKM_EC_KEY_PAIR_GEN);
        let (mut public, mut private) = (raw_template(public), raw_template(private));
        let (mut public_handle, mut private_handle) = (0, 0);
        // SAFETY: the mechanism has no parameter, the attributes point into the two templates, which live through the
        // call; the call writes two handles.
        let rv = unsafe {
            generate(
                self.handle,
                &raw mut mechanism,
                public.as_mut_ptr(),
                public.len() as sys::CK_ULONG,
                private.as_mut_ptr(),
                private.len() as sys::CK_ULONG,
                &raw mut public_handle,
                &raw mut private_handle,
            )
        };
        CallError::check("C_GenerateKeyPair", rv)
    }

    /// Seals with AES-GCM: ciphertext and tag in one.
    pub(crate) fn seal_gcm(
        &self,
        key: ObjectHandle,
        input: GcmInput<'_>,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let functions = self.module.functions();
        let begin = Module::function("C_EncryptInit", functions.C_EncryptInit)?;
        let encrypt = Module::function("C_Encrypt", functions.C_Encrypt)?;
        let mut parameters = gcm_parameters(input);
        let mut mechanism = gcm(&mut parameters);
        // SAFETY: the mechanism points to parameters that point into `input`; all live until the sealing has ended,
        // as some modules keep the pointers.
        let rv = unsafe { begin(self.handle, &raw mut mechanism, key.0) };
        CallError::check("C_EncryptInit", rv)?;
        let mut sealed = vec![0u8; plaintext.len() + TAG_LEN + SLACK];
        let mut len = sealed.len() as sys::CK_ULONG;
        // SAFETY: the call reads the plaintext's length and writes at most `len` bytes.
        let rv = unsafe {
            encrypt(
                self.handle,
                plaintext.as_ptr().cast_mut(),
                plaintext.len() as sys::CK_ULONG,
                sealed.as_mut_ptr(),
                &raw mut len,
            )
        };
        CallError::check("C_Encrypt", rv)?;
        let len = Module::within("C_Encrypt", &sealed, len)?.len();
        sealed.truncate(len);
        Ok(sealed)
    }

    /// Opens what [`seal_gcm`](Self::seal_gcm) sealed into a buffer of exactly the plaintext's length.
    ///
    /// SoftHSM wants room for the tag as well, so the plaintext passes through a buffer that is wiped.
    pub(crate) fn open_gcm<const N: usize>(
        &self,
        key: ObjectHandle,
        input: GcmInput<'_>,
        sealed: &[u8],
        plaintext: &mut [u8; N],
    ) -> Result<(), CallError> {
        let functions = self.module.functions();
        let begin = Module::function("C_DecryptInit", functions.C_DecryptInit)?;
        let decrypt = Module::function("C_Decrypt", functions.C_Decrypt)?;
        let mut parameters = gcm_parameters(input);
        let mut mechanism = gcm(&mut parameters);
        // SAFETY: as for sealing.
        let rv = unsafe { begin(self.handle, &raw mut mechanism, key.0) };
        CallError::check("C_DecryptInit", rv)?;
        let mut room = Zeroizing::new(vec![0u8; sealed.len() + SLACK]);
        let mut len = room.len() as sys::CK_ULONG;
        // SAFETY: the call reads the length of `sealed` and writes at most `len` bytes.
        let rv = unsafe {
            decrypt(
                self.handle,
                sealed.as_ptr().cast_mut(),
                sealed.len() as sys::CK_ULONG,
                room.as_mut_ptr(),
                &raw mut len,
            )
        };
        CallError::check("C_Decrypt", rv)?;
        let opened = Module::within("C_Decrypt", &room, len)?;
        let len = opened.len();
        let opened: &[u8; N] = opened.try_into().map_err(|_| CallError::Length {
            call: "C_Decrypt",
            len,
            expected: N,
        })?;
        plaintext.copy_from_slice(opened);
        Ok(())
    }

    /// Signs a SHA-256 digest on the curve P-256: r and s.
    pub(crate) fn sign_p256(
        &self,
        key: ObjectHandle,
        digest: &[u8; 32],
    ) -> Result<[u8; 64], CallError> {
        let functions = self.module.functions();
        let begin = Module::function("C_SignInit", functions.C_SignInit)?;
        let sign = Module::function("C_Sign", functions.C_Sign)?;
        let mut mechanism = plain(sys::CKM_ECDSA);
        // SAFETY: the mechanism has no parameter.
        let rv = unsafe { begin(self.handle, &raw mut mechanism, key.0) };
        CallError::check("C_SignInit", rv)?;
        let mut signature = [0u8; 64];
        let mut len = signature.len() as sys::CK_ULONG;
        // SAFETY: the call reads 32 bytes and writes at most `len`.
        let rv = unsafe {
            sign(
                self.handle,
                digest.as_ptr().cast_mut(),
                digest.len() as sys::CK_ULONG,
                signature.as_mut_ptr(),
                &raw mut len,
            )
        };
        CallError::check("C_Sign", rv)?;
        match Module::within("C_Sign", &signature, len)?.len() {
            64 => Ok(signature),
            len => Err(CallError::Length {
                call: "C_Sign",
                len,
                expected: 64,
            }),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(close) = self.module.functions().C_CloseSession {
            // SAFETY: takes a handle and no pointer. That it fails when the token is gone changes nothing.
            let _ = unsafe { close(self.handle) };
        }
    }
}

/// Points into the values; the calls that get it only read.
fn raw_template(template: &[AttributeValue]) -> Vec<sys::CK_ATTRIBUTE> {
    template
        .iter()
        .map(|AttributeValue { attribute, value }| sys::CK_ATTRIBUTE {
            type_: attribute.code(),
            pValue: value.as_ptr().cast_mut().cast(),
            ulValueLen: value.len() as sys::CK_ULONG,
        })
        .collect()
}

const fn plain(mechanism: sys::CK_MECHANISM_TYPE) -> sys::CK_MECHANISM {
    sys::CK_MECHANISM {
        mechanism,
        pParameter: ptr::null_mut(),
        ulParameterLen: 0,
    }
}

fn gcm_parameters(input: GcmInput<'_>) -> sys::CK_GCM_PARAMS {
    let GcmInput { iv, context } = input;
    sys::CK_GCM_PARAMS {
        pIv: iv.as_ptr().cast_mut(),
        ulIvLen: iv.len() as sys::CK_ULONG,
        ulIvBits: 8 * iv.len() as sys::CK_ULONG,
        pAAD: context.as_ptr().cast_mut(),
        ulAADLen: context.len() as sys::CK_ULONG,
        ulTagBits: 8 * TAG_LEN as sys::CK_ULONG,
    }
}

fn gcm(parameters: &mut sys::CK_GCM_PARAMS) -> sys::CK_MECHANISM {
    sys::CK_MECHANISM {
        mechanism: sys::CKM_AES_GCM,
        pParameter: ptr::from_mut(parameters).cast(),
        ulParameterLen: size_of::<sys::CK_GCM_PARAMS>() as sys::CK_ULONG,
    }
}
