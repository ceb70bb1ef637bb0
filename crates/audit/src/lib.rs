//! Tamper-evident log: hash chain, tree, checkpoints, verifier.
#![forbid(unsafe_code)]
