//! A thin layer on `cryptoki-sys`: the few calls that we make, with lengths that are checked and errors in classes.
//!
//! The only `unsafe` code of the program is in `module` and `session`. Every output goes into a buffer of ours in one
//! call, because modules disagree about what a call that only asks for the length answers.

mod error;
mod module;
mod session;
mod template;

pub(crate) use error::{CallError, FaultClass};
pub(crate) use module::{LoadError, Module, Slot, TokenInfo, User};
pub(crate) use session::{GcmInput, ObjectHandle, Session};
pub(crate) use template::{Attribute, AttributeValue, KeyKind, ObjectClass};
