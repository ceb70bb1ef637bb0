//! The only program that loads a PKCS#11 module.

