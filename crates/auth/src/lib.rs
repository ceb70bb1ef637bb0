//! Decides with Cedar; verifies certificates.
#![forbid(unsafe_code)]
